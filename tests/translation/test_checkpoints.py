"""Other people's generators: the same outputs here, and files that would rather do something else.

The published networks are built from the description of their naming, with random weights.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from published_networks import KINDS, NORMS, Model, gap, has_bias, resnet, trained, unet
from torch import Tensor, nn

from zerosum.errors import UserError
from zerosum.networks import ResBlocks, UNet
from zerosum.translation import checkpoints
from zerosum.translation.checkpoints import read
from zerosum.translation.published import Imported, NotAGenerator, describe, generators, recognise

# ---- parity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_match(kind: str, norm: str, dropout: bool) -> None:
    build, size, sides = KINDS[kind]
    theirs = trained(build(3, 2, 4, size, norm, dropout))
    imported = recognise(theirs.state_dict(), statistics="stored")
    description = imported.description
    assert (imported.source.shape[0], imported.target.shape[0], description.width) == (3, 2, 4)
    assert description.norm == norm.split()[-1]
    assert description.bias is has_bias(norm)
    if isinstance(description, ResBlocks):
        assert (description.blocks, description.dropout) == (size, 0.5 if dropout else 0.0)
    else:
        assert isinstance(description, UNet)
        assert (description.depth, description.dropout) == (size, 0.5)
    ours = imported.network
    assert not ours.training
    theirs.eval()
    for module in theirs.modules():
        if isinstance(module, nn.InstanceNorm2d):  # as the published code loads it: without running statistics
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    with torch.no_grad():
        for side in sides:
            x = torch.rand(2, 3, side, side) * 2 - 1
            assert gap(ours(x), theirs(x)) < 1e-5
        if not dropout:
            for module in ours.modules():
                if isinstance(module, nn.Dropout):  # a U-Net's file does not tell
                    module.p = 0.0
            assert gap(ours.train()(x), theirs.train()(x)) < 1e-5


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("kind", ["resnet 6", "unet 64"])
def test_in_float64_nothing_is_left_of_the_difference(kind: str, norm: str) -> None:
    build, size, _ = KINDS[kind]
    theirs = trained(build(1, 4, 6, size, norm, False))
    ours = recognise(theirs.state_dict(), statistics="stored").network.double()
    x = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert gap(ours(x), theirs.double().eval()(x)) < 1e-12


@pytest.mark.parametrize("kind", ["resnet 6", "unet 64"])
def test_each_images_own_statistics_are_what_the_published_test_script_takes(kind: str) -> None:
    """It runs in training mode on one image at a time; so that is what comes of an import unless it is asked not to."""
    build, size, _ = KINDS[kind]
    theirs = trained(build(3, 3, 4, size, "batch", False))
    imported = recognise(theirs.state_dict())
    assert imported.description.norm == "scaled_instance"
    assert "each image's own" in imported.notes[0]
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = torch.cat([theirs(x[:1]), theirs(x[1:])])
        assert gap(imported.network(x), expected) < 1e-5
        assert gap(recognise(theirs.state_dict(), statistics="stored").network(x), expected) > 0.01


def test_the_description_builds_the_same_network_again() -> None:
    for kind in ("resnet 6", "unet 64"):
        build, size, _ = KINDS[kind]
        imported = recognise(trained(build(3, 1, 4, size, "batch", False)).state_dict())
        again = imported.description.generator(imported.source, imported.target).eval()
        again.load_state_dict(imported.network.state_dict())
        x = torch.rand(1, *imported.source.shape)
        with torch.no_grad():
            assert torch.equal(again(x), imported.network(x))
        assert all(p.requires_grad for p in imported.network.parameters())


# ---- what is in a file -----------------------------------------------------------------------------------


def little(norm: str = "instance") -> nn.Module:
    return trained(resnet(3, 3, 2, 1, norm, False))


def wrapped(tensors: Mapping[str, Tensor], *heads: str) -> dict[str, Tensor]:
    return {f"{head}{name}": value for head in heads for name, value in tensors.items()}


def test_names_before_the_names() -> None:
    tensors = little().state_dict()
    assert [*generators(wrapped(tensors, "module."))] == [""]
    assert [*generators(wrapped(tensors, "_orig_mod.module."))] == [""]
    assert [*generators(wrapped(tensors, "G_AB.module.", "G_BA.", "D."))] == ["D", "G_AB", "G_BA"]
    assert [*generators(wrapped(unet(1, 1, 1, 5, "batch", False).state_dict(), "", "net.model."))] == ["", "net.model"]
    for found in generators(wrapped(tensors, "", "ema.")).values():
        assert list(found) == list(tensors)
    assert not generators({"model.0.weight": torch.ones(4, 3, 4, 4)})


def handed(monkeypatch: pytest.MonkeyPatch, groups: dict[str, dict[str, Tensor]], *dtypes: str) -> None:
    """As if a file held this."""
    monkeypatch.setattr(checkpoints, "_tensors", lambda path: (groups, list(dtypes)))


def test_one_of_several_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = little().state_dict(), little("batch").state_dict()
    handed(monkeypatch, {"state_dict": wrapped(one, "netG_A.") | wrapped(two, "netG_B.")}, "float16")
    with pytest.raises(UserError, match=r"x.pth: holds several.*state_dict.netG_A, state_dict.netG_B.*--part"):
        read(Path("x.pth"))
    with pytest.raises(UserError, match=r"--part G_C: x.pth holds state_dict.netG_A, "):
        read(Path("x.pth"), part="G_C")
    imported = read(Path("x.pth"), part="netG_B")
    assert imported.description.norm == "scaled_instance"
    assert imported.notes[-1] == "its float16 values are float32 from now on"
    assert read(Path("x.pth"), part="state_dict.netG_A").description.norm == "instance"


def refused(tensors: Mapping[str, Tensor]) -> str:
    with pytest.raises(NotAGenerator) as found:
        recognise(tensors, statistics="stored")  # which misses what each image's own statistics do without
    return str(found.value)


def test_what_is_almost_a_generator_is_refused() -> None:
    good = little("batch").state_dict()
    missing = {k: v for k, v in good.items() if k != "model.12.running_var"}
    assert "model.12.running_var is missing" in refused(missing)
    assert "model.4.weight is (4, 2, 5, 5), not (4, 2, 3, 3)" in refused(
        good | {"model.4.weight": torch.ones(4, 2, 5, 5)}
    )
    assert "attention.weight has no place" in refused(good | {"attention.weight": torch.ones(3)})
    assert "model.2.bias holds values that are not finite" in refused(
        good | {"model.2.bias": torch.tensor([1, torch.nan])}
    )
    assert "blocks at 12 to 12" in refused({"model.12.conv_block.1.weight": torch.ones(4, 4, 3, 3)})
    assert "model.1.weight is not" in refused({k: v for k, v in good.items() if k != "model.1.weight"})
    assert "model.18.weight is not" in refused(good | {"model.18.weight": torch.ones(3)})
    assert "halves the image 2 times" in refused({"model.model.0.weight": torch.ones(2, 3, 4, 4)})
    inner = unet(1, 1, 1, 5, "batch", False).state_dict()
    assert "has no place" in refused(inner | {"model.model.1.model.7.weight": torch.ones(1)})


def test_other_networks_are_told_by_name() -> None:
    one = torch.ones(4, 3, 4, 4)
    assert "a critic" in describe({"model.0.weight": one})
    assert "a critic" in describe({"net.0.weight": torch.ones(4, 3, 1, 1)})
    assert "VGG" in describe({"features.0.weight": torch.ones(4, 3, 3, 3)})
    assert "antialiasing" in refused({"model.7.filt": one, "model.12.conv_block.1.weight": one})
    assert "before summer 2017" in refused({"model.9.conv_block.0.weight": one})
    assert "2 tensors of something else, such as a, b" in refused({"a": one, "b": one})


def test_files_that_are_no_checkpoint_are_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.subprocess, "run", lambda *a, **k: pytest.fail("no process for this"))
    for content, message in (
        (b"", "is empty"),
        (b"hello, this is text", "begins with b'hello, this '"),
        (b"  <!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ):
        path = tmp_path / "net_G.pth"
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as found:
            read(path)
        assert str(path) in str(found.value)
    with pytest.raises(UserError, match=r"missing.pth: cannot be read: No such file"):
        read(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


# ---- the process that reads ------------------------------------------------------------------------------


class Old:
    """A tensor as PyTorch pickled it until 0.3."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        t = self.tensor
        return torch._utils._rebuild_tensor, (t._typed_storage(), t.storage_offset(), tuple(t.size()), t.stride())


@pytest.mark.parametrize("form", ["now", "2017"])
def test_a_file_is_read_without_being_unpickled_here(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, path = little("tracked instance").eval(), tmp_path / "latest_net_G.pth"
    tensors = theirs.state_dict()
    if form == "now":
        content: Any = {"epoch": 3, "G_AB": wrapped(tensors, "module."), "optimizer": {"state": {0: {"step": 4}}}}
        content["itself"] = content
        torch.save(content, path)
    else:
        old = OrderedDict((k, Old(v)) for k, v in tensors.items() if not k.endswith("num_batches_tracked"))
        torch.save(old, path, _use_new_zipfile_serialization=False)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("not in this process"))
    imported = read(path)
    assert isinstance(imported, Imported)
    assert isinstance(imported.description, ResBlocks)
    assert imported.notes == ("running statistics of its instance norm are left out, as the published code does",)
    x = torch.rand(1, 3, 16, 16)
    for module in theirs.modules():
        if isinstance(module, nn.InstanceNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    with torch.no_grad():
        assert gap(imported.network(x), theirs(x)) < 1e-5


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_code_in_a_file_does_not_run(form: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "latest_net_G.pth"
    if form == "zip":
        torch.save({**little().state_dict(), "evil": Evil(marker)}, path)
        torch.load(path, weights_only=False)
    else:
        path.write_bytes(pickle.dumps({"evil": Evil(marker)}, protocol=2))
        pickle.loads(path.read_bytes())
    assert marker.is_dir(), "it would run, if it were unpickled"
    marker.rmdir()
    with pytest.raises(UserError, match=r"latest_net_G.pth: needs code to be read \((posix|nt)\.mkdir\).*state_dict"):
        read(path)
    assert not marker.exists()


def test_a_truncated_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save(little().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"latest_net_G.pth: is truncated or damaged \(.*\); download or copy it again"):
        read(path)


def test_a_pickle_of_something_else_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "dict.pth"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"dict.pth: is a pickle, but none that torch.save made whole"):
        read(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is the Linux kernel's")
def test_a_file_cannot_take_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save({"model.model.0.weight": torch.zeros(1).expand(1 << 31)}, path)  # 8 GB from 4 bytes
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match="asks for more memory"):
        read(path)


def test_reading_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save({}, path)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.05)
    with pytest.raises(UserError, match=r"latest_net_G.pth: reading took more than 0.05 seconds"):
        read(path)


def test_what_the_process_says_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "latest_net_G.pth"
    torch.save({}, path)

    def explain(status: int, **said: str) -> str:
        return checkpoints._explain(
            checkpoints.subprocess.CompletedProcess([], status, json.dumps(said) if said else ""), path
        )

    assert "status -9" in explain(-9)
    assert "TorchScript" in explain(1, kind="RuntimeError", message="... with TorchScript archives passed to ...")
    assert "truncated or damaged (EOFError)" in explain(1, kind="EOFError", message="")
    refused = "Weights only load failed.\nYou may ...\n\tWeightsUnpickler error: Unsupported "
    assert "(Unsupported operand 66)" in explain(1, kind="UnpicklingError", message=f"{refused}operand 66\nCheck the")
    whole = explain(1, kind="UnpicklingError", message=f"{refused}global: GLOBAL torch.nn.Conv2d was not an allowed")
    assert "needs code to be read (torch.nn.Conv2d)" in whole
    assert "free some space" in explain(1, kind="SafetensorError", message="No space left on device")


def test_a_file_of_something_else_says_of_what(monkeypatch: pytest.MonkeyPatch) -> None:
    critic = Model(nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(4, 1, 4))).state_dict()
    handed(monkeypatch, {"optimizer": {"step": torch.ones(1)}, "": critic})
    with pytest.raises(UserError, match=r"latest_net_D.pth: holds a critic \(net_D\).*net_G.*docs/import.md"):
        read(Path("latest_net_D.pth"))
    handed(monkeypatch, {})
    with pytest.raises(UserError, match=r"x.pth: holds no tensors by name; give a generator"):
        read(Path("x.pth"))
    handed(monkeypatch, {"": {k: v for k, v in little().state_dict().items() if k != "model.4.weight"}})
    with pytest.raises(
        UserError, match=r"x.pth: holds almost a published generator, but model.4.weight is missing; give"
    ):
        read(Path("x.pth"))
