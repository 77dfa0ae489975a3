"""ONNX files of every kind of generator: the same images elsewhere, and nothing written where they would not be."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
import zerosum
from zerosum import cli, exports, sample
from zerosum.data.spec import Spec
from zerosum.errors import UserError
from zerosum.networks import ResBlocks
from zerosum.trainer import Training
from zerosum.translation import imported
from zerosum.translation.load import load
from zerosum.translation.published import Imported

HERE = all(importlib.util.find_spec(name) is not None for name in (*exports.NEEDED, "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HERE, reason="onnx, onnxscript or onnxruntime is not here")


def kept(t: Training, out: Path) -> Path:
    for average in t.ema.values():
        tiny.lively(average.network)
    return tiny.keep(t, out)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of DCGAN by class."""
    t = tiny.training(tiny.run("dcgan", conditional=True), tiny.images((3, 8, 12)))
    return kept(t, tmp_path_factory.mktemp("runs") / "classes")


@pytest.fixture(scope="module")
def written(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file."""
    return zerosum.export(classes, tmp_path_factory.mktemp("files") / "classes.onnx").path


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CycleGAN between grey and four channels."""
    t = tiny.training(tiny.run("cyclegan"), tiny.sides((1, 8, 8), (4, 8, 8)))
    return kept(t, tmp_path_factory.mktemp("runs") / "cycle")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported generator that normalises each image by itself."""
    folder, spec = tmp_path_factory.mktemp("models"), Spec((3, 16, 16))
    networks = ResBlocks(width=4, blocks=1, norm="scaled_instance")
    found = Imported(tiny.lively(networks.generator(spec, spec)).eval(), networks, spec, spec, ())
    (folder / "latest_net_G.pth").write_bytes(b"weights")
    imported.keep({"A2B": imported.Part(folder / "latest_net_G.pth", found)}, folder / "foreign")
    return folder / "foreign"


class File:
    """A written file in onnxruntime: nothing of ours."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.facts: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, **given: np.ndarray) -> np.ndarray:
        return self.session.run(None, given)[0]

    def shapes(self) -> dict[str, list[Any]]:
        return {x.name: x.shape for x in (*self.session.get_inputs(), *self.session.get_outputs())}


# ---- what is written ---------------------------------------------------------------------------------------


@needs_onnx
def test_it_draws_the_same_images_by_class(classes: Path, written: Path) -> None:
    model = sample.load(classes, precision="fp32")
    file, z, label = File(written), model.latents(7, seed=3), model.labels(7, None)
    assert label is not None
    drawn = file(z=z.numpy(), label=label.numpy())
    assert drawn.dtype == np.float32
    assert drawn.std() > 0.1
    with torch.no_grad():
        assert np.abs(drawn - model.generator(z, label).numpy()).max() < 1e-5
    assert np.abs(sample.to_uint8(torch.from_numpy(drawn)).astype(int) - model.sample(7, 3).images).max() <= 1
    shapes = file.shapes()
    assert (shapes["z"][1:], shapes["label"][1:], shapes["image"][1:]) == ([6], [], [3, 8, 12])
    assert all(isinstance(shape[0], str) for shape in shapes.values())


@needs_onnx
def test_the_file_says_what_it_is_and_nothing_of_this_machine(classes: Path, written: Path) -> None:
    facts = File(written).facts
    assert (facts["name"], facts["algorithm"], facts["images_seen"]) == ("classes", "DCGAN", "0")
    assert facts["recipe_sha256"] == sample.seal(sample.read_recipe(classes))
    assert facts["provenance"] == "images it makes are synthetic"
    assert json.loads(facts["image"]) == {"shape": [3, 8, 12], "stored": "uint8", "low": 0.0, "high": 255.0}
    assert json.loads(facts["label"]) == ["class 0", "class 1", "class 2"]
    data = written.read_bytes()
    for word in (b".py", str(Path.home()).encode(), str(classes.parent).encode()):
        assert word not in data, "where somebody's files are is nobody's business"


@needs_onnx
def test_its_layers_are_the_plain_ones(written: Path) -> None:
    """Not what strided.py makes of them for a processor."""
    import onnx

    model = onnx.load(written)
    assert [(used.domain, used.version) for used in model.opset_import] == [("", exports.OPSET)]
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("ConvTranspose") == 2
    assert not {"DepthToSpace", "Slice", "Conv"} & set(operators)


@needs_onnx
def test_unbounded_generators_are_kept_within_images_and_points_are_not(tmp_path: Path) -> None:
    r3 = kept(tiny.training(tiny.run("r3gan"), tiny.images()), tmp_path / "r3")
    gan = kept(tiny.training(tiny.run("gan", toy=True), tiny.points()), tmp_path / "points")
    z = torch.randn(50, 6).numpy() * 10
    assert np.abs(File(zerosum.export(r3, tmp_path / "r3.onnx").path)(z=z)).max() == 1
    file = File(zerosum.export(gan, tmp_path / "points.onnx").path)
    assert np.abs(file(z=z)).max() > 1
    assert file.shapes()["points"][1:] == [2]


@needs_onnx
def test_a_translator_goes_back_on_images_of_any_size(cycle: Path, tmp_path: Path) -> None:
    made = zerosum.export(cycle, tmp_path / "it.onnx", direction="B2A")
    route, file = load(cycle).route("B2A"), File(made.path)
    assert (file.facts["direction"], file.facts["multiple"]) == ("B2A", "4")
    for n, height, width in ((1, 8, 8), (2, 20, 12)):
        x = torch.rand(n, 4, height, width) * 2 - 1
        y = file(image=x.numpy())
        assert y.shape == (n, 1, height, width)
        assert y.std() > 0.1
        with torch.no_grad():
            assert np.abs(y - route.generator(x).numpy()).max() < 1e-4


@needs_onnx
def test_an_imported_generator_is_what_translate_runs(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "it.onnx"
    assert cli.main(["export", str(foreign), str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert said.err.startswith("image to translation; tried with onnxruntime: differs from torch by ")
    values = np.random.default_rng(0).integers(0, 256, (3, 24, 16), dtype=np.uint8)
    translated = load(foreign, precision="fp32")(values)
    file = File(out)
    y = file(image=(values / 127.5 - 1).astype(np.float32)[None])
    assert np.abs(np.round((y[0] + 1) * 127.5) - translated).max() <= 1
    assert (file.facts["algorithm"], file.facts["imported_from"]) == ("imported", "latest_net_G.pth")


# ---- what is not -------------------------------------------------------------------------------------------


@needs_onnx
def test_what_does_not_agree_is_not_written(classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "it.onnx"
    out.write_text("what was there")
    monkeypatch.setattr(exports, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"it\.onnx: was not written: onnxruntime and torch differ by"):
        zerosum.export(classes, out)
    assert out.read_text() == "what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["it.onnx"]


@needs_onnx
def test_without_onnxruntime_it_says_so(
    classes: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "onnxruntime")
    assert cli.main(["export", str(classes), str(tmp_path / "it.onnx")]) == 0
    said = capsys.readouterr().err
    assert said == "z and label to image; not tried: onnxruntime is not installed (pip install 'zerosum[onnx]')\n"
    assert (tmp_path / "it.onnx").read_bytes() == written.read_bytes()


class Deciding(nn.Module):
    """Looks at numbers to decide what to compute."""

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return z if z.sum() > 0 else -z


@needs_onnx
def test_what_onnx_cannot_express_is_an_error(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample, "averaged", lambda *_: Deciding())
    with pytest.raises(UserError, match="its network does what ONNX cannot express"):
        zerosum.export(classes, tmp_path / "it.onnx")
    assert not any(tmp_path.iterdir())
    assert capfd.readouterr() == ("", ""), "one error, and not a page of the exporter's"


def test_what_cannot_be_is_said(classes: Path, cycle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: str, path: Path = classes, out: str = "it.onnx", **options: Any) -> None:
        with pytest.raises(UserError) as error:
            zerosum.export(path, tmp_path / out, **options)
        assert all(word in str(error.value) for word in words), error.value
        assert not any(tmp_path.iterdir())

    refused("it.pt: give the name of a file that ends in .onnx", out="it.pt")
    with monkeypatch.context() as patch:
        hide(patch, "onnxscript")
        refused("onnxscript, which ONNX files are written with, is not here; pip install 'zerosum[onnx]'")
    monkeypatch.setattr(exports, "NEEDED", ())
    refused("--direction B2A: ", "makes images of noise", direction="B2A")
    refused("--checkpoint 7: give last, best or images seen", checkpoint="7")
    refused("not a run folder", path=tmp_path / "none")
    monkeypatch.setattr(exports, "LARGEST_BYTES", 100)
    refused("its generator has 0.0 GB of weights, and an ONNX file holds 0.0", path=cycle)


def hide(patch: pytest.MonkeyPatch, hidden: str) -> None:
    """As if a package were not installed."""
    find = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == hidden else find(name, *more))
