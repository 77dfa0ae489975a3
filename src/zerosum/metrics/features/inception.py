"""Inception-2015, the network of the FID (Heusel et al. 2017, arXiv:1706.08500), through torch-fidelity.

Only a Frechet distance in these features is called FID. Images are brought to 299 x 299 by an antialiased filter, as
Parmar et al. 2022 show they must be; torch-fidelity's own, older resizing differs where images are larger than that.
Weights come from a path, or by an explicit download, and are used only if their SHA-256 is the known one.
`pip install zerosum[fid]`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.features.base import Extractor, resized
from zerosum.metrics.features.weights import Weights

WEIGHTS = Weights(
    "Inception",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95_628_359,
)
SIDE = 299
NAME = "Inception-2015"
INSTALL = "pip install 'zerosum[fid]'"


class Inception(Extractor):
    """The 2,048 numbers of the last average pooling."""

    def __init__(self, path: Path | None = None, sha256: str = WEIGHTS.sha256) -> None:
        """From the weights at `path`, or where a download puts them. UserError if they are not there or not these."""
        if importlib.util.find_spec("torch_fidelity") is None:
            raise UserError(f"--features {path or 'inception'}: torch-fidelity is not installed; {INSTALL}")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        given, path = path, path or WEIGHTS.path()
        fetch = f"--features inception --download fetches them ({WEIGHTS.bytes / 1e6:.0f} MB)"
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            if given:
                raise UserError(
                    f"--features {given}: it cannot be read ({error.strerror}); give the file with Inception's "
                    f"weights, or none: {fetch}"
                ) from error
            raise UserError(
                f"--features inception: its weights are not at {path} ({error.strerror}); {fetch}, or put "
                f"{WEIGHTS.url} there by hand, or give its path: --features FILE.pth"
            ) from error
        if found != sha256:
            mend = "give the file with Inception's weights" if given else "delete it"
            raise UserError(
                f"--features {given or 'inception'}: {path} has SHA-256 {found}, not {sha256}: it is damaged or "
                f"another file; {mend}; {fetch}"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        with tempfile.TemporaryDirectory() as folder:
            # torch-fidelity unpickles what it is given: so it is given a copy that we wrote ourselves
            copy = Path(folder) / "weights.pth"
            torch.save(dict(state), copy)
            with torch.random.fork_rng(devices=[]):
                self.network = FeatureExtractorInceptionV3("inception", ["2048"], str(copy)).eval()
        super().__init__(
            NAME, found, weak=False, dimensions=2048,
            preparation=f"bicubic with antialiasing to {SIDE} x {SIDE} in 8 bits, (x - 128) / 128",
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        return self.network(torch.from_numpy(resized(values, 3, SIDE)))[0]
