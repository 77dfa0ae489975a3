"""LPIPS against its authors' package, with AlexNet's weights drawn at random: the real ones are a download."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import alexnet

from zerosum.errors import UserError
from zerosum.metrics import perceptual
from zerosum.metrics.perceptual import LPIPS

needs = pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="the extra lpips is not installed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(alexnet(weights=None).state_dict(), path)
    return path


@pytest.fixture
def lpips(weights: Path) -> LPIPS:
    return LPIPS(weights, hashlib.sha256(weights.read_bytes()).hexdigest())


def pairs(n: int, channels: int = 3, height: int = 64, width: int = 80) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    x = torch.rand(n, channels, height, width, generator=made)
    return x, (x + 0.2 * torch.randn(x.shape, generator=made)).clamp(0, 1)


@needs
@pytest.mark.filterwarnings("ignore")
def test_it_is_the_authors_own(lpips: LPIPS, weights: Path) -> None:
    import lpips as authors

    reference = authors.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    layers = alexnet(weights=None)
    layers.load_state_dict(torch.load(weights, weights_only=True))
    for part, (start, end) in zip(range(1, 6), ((0, 2), (2, 5), (5, 8), (8, 10), (10, 12)), strict=True):
        for i in range(start, end):
            kept = layers.features[i].state_dict()  # type: ignore[index]
            getattr(reference.net, f"slice{part}")[i - start].load_state_dict(kept)
    x, y = pairs(3)
    with torch.no_grad():
        torch.testing.assert_close(lpips(x, y), reference(x * 2 - 1, y * 2 - 1).flatten(), rtol=1e-4, atol=1e-6)


@needs
def test_equals_are_0_and_what_is_further_is_more(lpips: LPIPS) -> None:
    x, y = pairs(2)
    assert lpips(x, x).abs().max() == 0
    assert (lpips(x, y) > lpips(x, (x + y) / 2)).all()
    grey = x[:, :1]
    torch.testing.assert_close(lpips(grey, y[:, :1]), lpips(grey.expand(-1, 3, -1, -1), y[:, :1].expand(-1, 3, -1, -1)))
    small = pairs(1, height=8, width=12)
    assert lpips(*small).item() > 0, "enlarged to 64 by 96"


@needs
def test_what_it_cannot_take_is_said(lpips: LPIPS) -> None:
    with pytest.raises(UserError, match="grey or in colour"):
        lpips(*pairs(1, channels=4))


@needs
def test_weights_that_are_absent_or_others_are_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSUM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"--lpips: AlexNet's weights are not at .* --download fetches them \(244 MB\)"):
        LPIPS()
    with pytest.raises(UserError, match="another file; delete it"):
        LPIPS(weights)


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'zerosum\[lpips\]'"):
        LPIPS()
