"""LPIPS, a learned perceptual distance of two images (Zhang et al. 2018, arXiv:1801.03924, eq. 1), on AlexNet.

    d(x, y) = sum_l mean_hw || w_l * (f_l(x) - f_l(y)) ||^2

with f_l the features of AlexNet's five rectified layers, each of unit length along its channels, and w_l^2 learned from
people's judgements. These weights come with the package lpips (`pip install zerosum[lpips]`), AlexNet's by an explicit
download. The paper's judgements are of patches of 64 pixels: smaller images are enlarged to that.
"""

from __future__ import annotations

import hashlib
import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import alexnet

from zerosum.errors import UserError
from zerosum.metrics.features.weights import Weights

if TYPE_CHECKING:
    from jaxtyping import Float

ALEXNET = Weights(
    "AlexNet", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79", 244_408_911
)  # fmt: skip
RECTIFIED = (2, 5, 8, 10, 12)  # ends of the parts of AlexNet's layers
SEEN = (1, 3)  # channels
LEAST = 64  # pixels
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of ImageNet's pixels in [-1, 1]
TINY = 1e-10
INSTALL = "pip install 'zerosum[lpips]'"


class LPIPS(nn.Module):
    """Batches (n, C, H, W) in [0, 1], grey or in colour -> (n,); 0 of equals."""

    preparation = f"bicubic to {LEAST} pixels where smaller"

    def __init__(self, path: Path | None = None, sha256: str = ALEXNET.sha256) -> None:
        """With AlexNet's weights at `path`, or where a download puts them. UserError if they cannot be had."""
        super().__init__()
        package = importlib.util.find_spec("lpips")  # not imported: its weights are all that is needed of it
        if package is None or package.origin is None:
            raise UserError(f"--lpips: the package lpips is not installed; {INSTALL}")
        path = path or ALEXNET.path()
        fetch = f"--lpips --download fetches them ({ALEXNET.bytes / 1e6:.0f} MB), or put {ALEXNET.url} there by hand"
        try:
            self.weights = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"--lpips: AlexNet's weights are not at {path} ({error.strerror}); {fetch}") from error
        if not self.weights.startswith(sha256):
            raise UserError(
                f"--lpips: {path} has SHA-256 {self.weights}, not {sha256}: it is damaged or another file; delete it; "
                f"{fetch}"
            )
        with torch.random.fork_rng(devices=[]):
            network = alexnet(weights=None)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        layers = cast("nn.Sequential", network.features)
        self.parts = nn.ModuleList(layers[a:b] for a, b in pairwise((0, *RECTIFIED)))
        learned = Path(package.origin).parent / "weights" / "v0.1" / "alex.pth"
        linear = torch.load(learned, map_location="cpu", weights_only=True)
        for i in range(len(RECTIFIED)):
            self.register_buffer(f"w{i}", linear[f"lin{i}.model.1.weight"])
        self.eval().requires_grad_(False)

    def forward(self, x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """UserError if the shapes differ or have neither one channel nor three."""
        if x.shape != y.shape or x.shape[1] not in SEEN:
            raise UserError(f"images {tuple(x.shape)} and {tuple(y.shape)}: LPIPS is of two alike, grey or in colour")
        x, y = self._prepared(x), self._prepared(y)
        total = x.new_zeros(len(x))
        for i, part in enumerate(self.parts):
            x, y = part(x), part(y)
            apart = (_unit(x) - _unit(y)).square()
            total += F.conv2d(apart, self.get_buffer(f"w{i}")).mean((1, 2, 3))
        return total

    def _prepared(self, x: Tensor) -> Tensor:
        shorter = min(x.shape[2:])
        if shorter < LEAST:
            size = [round(side * LEAST / shorter) for side in x.shape[2:]]
            x = F.interpolate(x, size, mode="bicubic").clamp(0, 1)
        mean, spread = (x.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
        return (x.expand(-1, 3, -1, -1) * 2 - 1 - mean) / spread


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + TINY)
