"""Extractors that come from other packages or from the user: loaded safely, fed right, refused clearly."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from zerosum.errors import UserError
from zerosum.metrics.cache import Cache
from zerosum.metrics.features import custom, imagenet, inception
from zerosum.metrics.features.base import CHUNK, resized
from zerosum.metrics.features.choose import choose
from zerosum.metrics.features.weights import Weights

IMAGES = tiny.images((1, 8, 8), 70)


# --- custom ----------------------------------------------------------------------------------------------------------


def test_a_function_of_the_users_is_imported_and_called_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_features.py").write_text(
        "import numpy as np\n"
        "def embed(x):\n    assert x.dtype == np.uint8\n    return x.reshape(len(x), -1)[:, :3] / 2.0\n"
        "def wrong(x):\n    return 3.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = choose(IMAGES, Cache(None), "my_features:embed").extractor
    assert found.dimensions == 3
    expected = torch.from_numpy(IMAGES.values.reshape(70, -1)[:, :3] / 2).float()
    torch.testing.assert_close(found(IMAGES.values), expected)
    assert found.weights == hashlib.sha256((tmp_path / "my_features.py").read_bytes()).hexdigest()
    for name, words in (("my_features:none", "none"), ("no_module:f", "no_module"), ("my_features:wrong", "return")):
        with pytest.raises(UserError, match=words):
            choose(IMAGES, Cache(None), name)


def test_an_onnx_file_gets_what_its_input_says(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def model(kind: int, size: list[object]) -> Path:
        x = helper.make_tensor_value_info("x", kind, size)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "d"])
        nodes = [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["f"], ["y"]),
        ]
        path = tmp_path / f"{kind}-{len(str(size))}.onnx"
        graph = helper.make_graph(nodes, "g", [x], [y])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        return path

    flat = torch.from_numpy(IMAGES.values.reshape(70, -1)).float()
    whole = choose(IMAGES, Cache(None), str(model(TensorProto.UINT8, ["n", 1, "h", "w"]))).extractor
    torch.testing.assert_close(whole(IMAGES.values), flat)
    real = custom.Onnx(model(TensorProto.FLOAT, ["n", 1, 8, 8]), (1, 8, 8))
    torch.testing.assert_close(real(IMAGES.values), flat / 255)
    grown = custom.Onnx(model(TensorProto.UINT8, ["n", 3, 10, 10]), (1, 8, 8))
    expected = torch.from_numpy(resized(IMAGES.values, 3, 10).reshape(70, -1)).float()
    torch.testing.assert_close(grown(IMAGES.values), expected)
    with pytest.raises(UserError, match="free"):
        custom.Onnx(model(TensorProto.FLOAT, [1, 1, 8, 8]), (1, 8, 8))
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    for name, words in (("bad.onnx", "cannot be loaded"), ("absent.onnx", "cannot be read .*; give the path")):
        with pytest.raises(UserError, match=words):
            custom.Onnx(tmp_path / name, (1, 8, 8))


# --- ImageNet --------------------------------------------------------------------------------------------------------


def test_without_its_packages_imagenet_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match="pip install"):
        choose(IMAGES, Cache(None), "imagenet")


@pytest.mark.skipif(not imagenet.installed(), reason="the extra imagenet is not installed")
def test_imagenet_features_are_those_before_the_last_layer() -> None:
    found = imagenet.ImageNet((1, 8, 8))
    found.side = 32  # quicker
    features = found(IMAGES.values[:3])
    assert features.shape == (3, 1280)
    x = torch.from_numpy(resized(IMAGES.values[:3], 3, 32)).float() / 127.5 - 1
    assert not any(m.training for m in found.network.modules())  # trap 3
    torch.testing.assert_close(found.network._fc(features), found.network(x), rtol=1e-3, atol=1e-3)


# --- Inception -------------------------------------------------------------------------------------------------------


def test_inception_weights_that_are_absent_or_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="--download"):
        choose(IMAGES, Cache(None), "inception")
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"--features \S*other\.pth: .* SHA-256 .*; give the file"):
        choose(IMAGES, Cache(None), str(tmp_path / "other.pth"))
    with pytest.raises(
        UserError, match=r"--features \S*absent\.pth: it cannot be read \(No such file.*; give the file"
    ):
        choose(IMAGES, Cache(None), str(tmp_path / "absent.pth"))
    inception.WEIGHTS.path().parent.mkdir(parents=True)
    inception.WEIGHTS.path().write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"--features inception: .* SHA-256 .*; delete it; .* --download"):
        choose(IMAGES, Cache(None), "inception")


def test_a_download_is_checked_and_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "w.pth").write_bytes(b"weights")
    url = (tmp_path / "w.pth").as_uri()
    sha256 = hashlib.sha256(b"weights").hexdigest()
    right = Weights("some", url, sha256, 7)
    with pytest.raises(UserError, match="nothing was kept"):
        replace(right, sha256=sha256[::-1]).download()
    with pytest.raises(UserError, match="could not be fetched"):
        replace(right, url=(tmp_path / "absent" / "w.pth").as_uri()).download()
    assert not right.path().exists()
    told: list[int] = []
    path = replace(right, sha256=sha256[:8]).download(lambda done, of: told.append(done))
    assert path.read_bytes() == b"weights"
    assert told == [7]
    assert replace(right, url="file:///absent/w.pth").download() == path


def test_inception_features_are_torch_fidelitys(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with pytest.MonkeyPatch.context() as patch:  # random weights stand for the known ones: 91 MB that are not here
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: _random()
        )
        reference = FeatureExtractorInceptionV3("reference", ["2048"])
    path = tmp_path / "random.pth"
    torch.save(reference.state_dict(), path)
    found = inception.Inception(path, hashlib.sha256(path.read_bytes()).hexdigest())
    found_features = found.extract(IMAGES.values[:2])
    assert not any(m.training for m in found.network.modules())  # trap 3
    (expected,) = reference(torch.from_numpy(resized(IMAGES.values[:2], 3, 299)))
    torch.testing.assert_close(found_features, expected)
    assert found.dimensions == found_features.shape[1] == 2048
    assert found.name == inception.NAME
    assert CHUNK == 64


def _random() -> dict[str, torch.Tensor]:
    """Weights for every name of torch-fidelity's Inception."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Bare(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state: object, *a: object, **k: object) -> object:  # type: ignore[override]
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *a, **k: {})
        return Bare("bare", ["2048"]).state_dict()
