"""Features of the user's own: an ONNX file, or a Python function named by `module:function`.

An ONNX file cannot run code. Importing a module does: naming one runs the user's own code, with the user's rights.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zerosum.errors import UserError
from zerosum.metrics.features.base import CHUNK, Extractor, resized


class Onnx(Extractor):
    """An ONNX network with one image input (n, C, H, W): float32 gets 0 .. 1, uint8 gets 0 .. 255.

    Other normalisation belongs into the file. Images are stretched to its H and W where it fixes them (they must be
    equal); its first output, flattened, is the feature.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """From a file, for images (C, H, W). UserError if it cannot be used."""
        if importlib.util.find_spec("onnxruntime") is None:
            raise UserError(f"--features {path}: onnxruntime is not installed; pip install 'zerosum[onnx]'")
        import onnxruntime

        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"--features {path}: it cannot be read ({error.strerror}); give the path of a .onnx file"
            ) from error
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for every failure, and no common one
            raise UserError(f"--features {path}: it cannot be loaded ({error}); export the network anew") from error
        first = self.session.get_inputs()[0]
        self.input, self.bytes, size = first.name, first.type == "tensor(uint8)", first.shape
        if (
            len(self.session.get_inputs()) != 1
            or len(size) != 4
            or first.type not in ("tensor(uint8)", "tensor(float)")
        ):
            raise UserError(
                f"--features {path}: takes {first.type} {size}; give one input (n, C, H, W), float or uint8"
            )
        self.channels = size[1] if isinstance(size[1], int) else shape[0]
        fixed = [n for n in size[2:] if isinstance(n, int)]
        if self.channels not in (1, 3, 4) or len(set(fixed)) > 1 or len(fixed) == 1 or isinstance(size[0], int):
            raise UserError(
                f"--features {path}: takes {size}; n must be free, C 1, 3 or 4, H and W free or fixed and equal"
            )
        self.side = fixed[0] if fixed else None
        if self.side is None and self.channels != shape[0]:
            raise UserError(f"--features {path}: takes {self.channels} channels, and the images have {shape[0]}")
        to = (
            f"bicubic with antialiasing to {self.side} x {self.side} in 8 bits"
            if self.side
            else "size as found, 8 bits"
        )
        weights = hashlib.sha256(data).hexdigest()
        super().__init__(
            path.stem, weights, weak=False, dimensions=len(self._run(np.zeros((1, *shape), np.uint8))[0]),
            preparation=to if self.bytes else f"{to}, scaled to [0, 1]",
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        return self._run(values)

    def _run(self, values: np.ndarray) -> Tensor:
        images = values if self.side is None else resized(values, self.channels, self.side)
        given = images if self.bytes else images.astype(np.float32) / 255
        out = np.asarray(self.session.run(None, {self.input: given})[0])
        return torch.from_numpy(out.reshape(len(values), -1).astype(np.float32))


class Function(Extractor):
    """A function from images uint8 (n, C, H, W) to features (n, d), an array or a tensor; n is always 64.

    It must not let the images of a call influence each other: rows may be padding.
    """

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        """`module:function`, imported now: that runs the user's code. UserError if there is none of that name."""
        self.called = name
        module_name, _, function_name = name.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: people keep such a file beside their data
        try:
            module = importlib.import_module(module_name)
            self.function: Callable[[np.ndarray], Any] = getattr(module, function_name)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"--features {name}: {error}; give module:function of something Python can import"
            ) from error
        file = getattr(module, "__file__", None)
        source = Path(file).read_bytes() if file else name.encode()
        found = self.extract(np.zeros((CHUNK, *shape), np.uint8))
        if found.ndim != 2 or len(found) != CHUNK:
            raise UserError(f"--features {name}: gave {tuple(found.shape)} for {CHUNK} images; return (n, d)")
        super().__init__(
            name, hashlib.sha256(source).hexdigest(), weak=False, dimensions=found.shape[1],
            preparation="the function's own, from 8 bits; the hash is of its module's file alone",
        )  # fmt: skip

    def extract(self, values: np.ndarray) -> Tensor:
        try:
            return torch.as_tensor(self.function(values)).detach().cpu().float()
        except Exception as error:  # it is the user's own function: it may raise anything
            raise UserError(
                f"--features {self.called}: the function failed on uint8 images {values.shape}: "
                f"{type(error).__name__}: {error}"
            ) from error
