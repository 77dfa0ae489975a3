"""Pictures, archives and array files for the tests of data, made from keyed numbers."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """uint8 noise: no two images alike."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    """A colour picture without fine detail, which compression and resizing leave alone."""
    small = Image.fromarray(noise(5, 5, 3, seed=seed))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, raw in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return path


def pngs(count: int, height: int = 6, width: int = 5, prefix: str = "") -> dict[str, bytes]:
    """`count` colour PNGs of noise, named in order."""
    return {f"{prefix}{i:03}.png": encoded(Image.fromarray(noise(height, width, 3, seed=i))) for i in range(count)}


def idx_bytes(values: np.ndarray, kind: int = 0x08) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + values.tobytes()


def idx_files(folder: Path, side: str, images: np.ndarray, labels: np.ndarray, packed: bool = False) -> Path:
    """The images' file; the labels' file is put beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{side}-images-idx3-ubyte", f"{side}-labels-idx1-ubyte")
    for name, values in zip(names, (images, labels.astype(np.uint8)), strict=True):
        raw = idx_bytes(values)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return folder / (names[0] + (".gz" if packed else ""))
