"""Side A from photos: what a network that turns drawings, greys or gaps into photos is trained on, and used with.

Each function takes uint8 (C, H, W) with C in 1, 3, 4 and returns uint8 of the same height and width; transparent pixels
lie on white. The same photo always gives the same result. Lengths (blur, strokes) go with the image's shorter side, so
that a photo at two sizes gives the same drawing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import get_args

import numpy as np

from zerosum.data import picture
from zerosum.data.spec import Made
from zerosum.errors import UserError

INK, PAPER = np.uint8(0), np.uint8(255)
BLANK = 128  # of a masked rectangle: what networks see as 0
FAINT = 12.0  # grey levels: a step smaller than this is never an edge
WEAK = 0.4  # of the upper threshold; Canny recommends a ratio of two or three to one
FINE, COARSE = 128, 48  # the shorter side in standard deviations of the blur, for edges and for scribbles
BUSY, BOLD = 0.9, 0.92  # the share of pixels that the upper threshold takes for no edge, for edges and for scribbles
REDUCED = 4  # times: how much coarser `small` is
STROKES = 12  # that a person draws at most
SHORTEST, THICKNESS = 8, 80  # the shorter side in the lengths of the shortest stroke, in radii of the pen


def make(kind: Made, photo: np.ndarray) -> np.ndarray:
    """Side A of one photo, uint8 (C', H, W) with C' = `channels(kind, C)`. UserError for another kind or shape."""
    if kind not in MAKERS:
        raise UserError(f"--made {kind}: give {', '.join(get_args(Made))}")
    if photo.dtype != np.uint8 or photo.ndim != 3 or len(photo) not in picture.MODES:
        raise UserError(f"--made {kind}: needs images of 8 bits in 1, 3 or 4 channels, not {photo.dtype} {photo.shape}")
    return MAKERS[kind](photo)


def channels(kind: Made, of: int) -> int:
    """How many channels side A has, of photos with so many."""
    return of if kind in ("small", "mask") else 1


def grey(photo: np.ndarray) -> np.ndarray:
    """Its brightness (ITU-R BT.601 luma), (1, H, W)."""
    return np.asarray(picture.to_channels(picture.from_pixels(photo), 1))[None].copy()


def small(photo: np.ndarray) -> np.ndarray:
    """A fourth of the height and width, brought back up, both bicubic: (C, H, W) without fine detail."""
    image = picture.from_pixels(photo)
    height, width = photo.shape[1:]
    coarse = picture.resize(image, (max(height // REDUCED, 1), max(width // REDUCED, 1)), "stretch")
    return picture.render(coarse, (len(photo), height, width), "stretch").copy()


def mask(photo: np.ndarray) -> np.ndarray:
    """A rectangle of a quarter to a half of height and width is blank, (C, H, W); the photo's bytes say where."""
    digest = hashlib.blake2b(photo.tobytes(), digest_size=16).digest()
    shares = np.frombuffer(digest, dtype="<u4").astype(np.float64) / 2**32
    made = photo.copy()
    box = []
    for length, much, where in zip(photo.shape[1:], shares[:2], shares[2:], strict=True):
        extent = max(round(length * (0.25 + 0.25 * much)), 1)
        start = int((length - extent + 1) * where)
        box.append(slice(start, start + extent))
    made[:3, box[0], box[1]] = BLANK
    if len(made) == 4:
        made[3, box[0], box[1]] = 255
    return made


def edges(photo: np.ndarray) -> np.ndarray:
    """Dark lines, one pixel wide, on white, (1, H, W): Canny's detector (1986) at the photo's own thresholds."""
    found = _canny(photo, sigma=max(_side(photo) / FINE, 0.8), busy=BUSY)
    return np.where(found, INK, PAPER)[None]


def scribble(photo: np.ndarray) -> np.ndarray:
    """The few longest contours of a strongly blurred photo as thick, smooth strokes on white, (1, H, W)."""
    from scipy import ndimage

    side = _side(photo)
    lines, count = ndimage.label(_canny(photo, sigma=max(side / COARSE, 1.0), busy=BOLD), np.ones((3, 3)))
    lengths = np.bincount(lines.ravel(), minlength=count + 1)
    lengths[0] = 0  # the paper
    longest = np.argsort(-lengths, kind="stable")[:STROKES]
    kept = np.isin(lines, longest[lengths[longest] >= max(side / SHORTEST, 2)])
    if not kept.any():  # the distance to nothing is not defined
        return np.full_like(photo[:1], PAPER)
    strokes = ndimage.distance_transform_edt(~kept) <= max(side / THICKNESS, 1.0)
    return np.where(strokes, INK, PAPER)[None]


MAKERS: dict[Made, Callable[[np.ndarray], np.ndarray]] = {
    "edges": edges,
    "grey": grey,
    "small": small,
    "mask": mask,
    "scribble": scribble,
}


def _side(photo: np.ndarray) -> int:
    return min(photo.shape[1:])


def _canny(photo: np.ndarray, sigma: float, busy: float) -> np.ndarray:
    """Edges (H, W) bool after Canny (1986): blur, gradient, thinning across the edge, two thresholds.

    The upper threshold is the gradient that a share `busy` of the pixels does not reach, but no fainter than a step of
    `FAINT` grey levels; weaker edges stay where they are joined to one that reaches it. Of the colour channels each
    pixel has the one that changes most.
    """
    from scipy import ndimage

    seen = picture.render(picture.from_pixels(photo), (1 if len(photo) == 1 else 3, *photo.shape[1:]), "stretch")
    blurred = [ndimage.gaussian_filter(one, sigma, mode="nearest") for one in seen.astype(np.float32)]
    down, across = (np.stack([ndimage.sobel(one, axis, mode="nearest") / 8 for one in blurred]) for axis in (0, 1))
    steepness = np.hypot(down, across)
    most = steepness.argmax(axis=0)[None]
    down, across, steep = (np.take_along_axis(one, most, 0)[0] for one in (down, across, steepness))
    faintest = FAINT / (math.sqrt(2 * math.pi) * sigma)  # the steepest gradient of a blurred step of that height
    upper = max(float(np.quantile(steep, busy)), faintest)
    ridge = _thinned(steep, down, across) & (steep >= WEAK * upper)
    lines, count = ndimage.label(ridge, np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=bool)
    strong[lines[ridge & (steep >= upper)]] = True
    return strong[lines]


def _thinned(steep: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Where the gradient is steeper than at both neighbours in its direction, to the nearest eighth of a turn."""
    height, width = steep.shape
    around = np.pad(steep, 1, constant_values=np.inf)  # what runs along the border is cut off there, no edge
    eighth = np.round(np.arctan2(down, across) / (math.pi / 4)).astype(np.int64) % 4
    peak = np.zeros(steep.shape, dtype=bool)
    for i, (y, x) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = around[1 + y : 1 + y + height, 1 + x : 1 + x + width]
        behind = around[1 - y : 1 - y + height, 1 - x : 1 - x + width]
        peak |= (eighth == i) & (steep > behind) & (steep >= ahead)  # of two equals the first: lines stay thin
    return peak
