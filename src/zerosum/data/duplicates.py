"""Images that are in a set twice: exactly, or nearly (saved again, resized, slightly edited).

Near duplicates are found by a difference hash: the image is reduced to 8 x 9 grey cells, and each of 64 bits
says whether a cell is darker than its right neighbour. Of 5 bands of bits, hashes within 3 bits of each other
agree in at least 2, so that only images which share two bands need comparing; each pair found is then
confirmed on a small colour thumbnail, because plain shapes on an empty ground (digits, icons, flags) share
hashes without being alike.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict

import numpy as np
from PIL import Image

from zerosum.data import picture

CELLS = (8, 9)
BITS = 3  # by which the hashes of near duplicates may differ
BANDS = 5  # of which these bits can touch at most 3
MARGIN = 4  # grey levels by which a cell must be darker: without it the noise of JPEG decides on plain ground
ALIKE = 0.05  # root mean square difference of the thumbnails, as a share of their contrast
NOISE = 1.0  # grey levels: a difference below this is none, however low the contrast
CONTRAST = 50  # grey levels that thumbnails are brought to
PLAIN = 8  # grey levels of contrast: below, a thumbnail shows nothing to know it by
REACH = 64  # neighbours in a bucket that are compared: a bound on the time where thousands share a hash


def digest(image: Image.Image) -> bytes:
    """The same for two images exactly if all their pixels are."""
    head = f"{image.mode} {image.width} {image.height}".encode()
    return hashlib.blake2b(head + image.tobytes(), digest_size=16).digest()


def thumbnail(image: Image.Image) -> np.ndarray:
    """(8, 9, 3) uint8."""
    flat = image if image.mode == "L" else picture.to_channels(image, 3)
    return np.asarray(picture.to_channels(picture.resize(flat, CELLS, "stretch"), 3))


def exact(digests: list[bytes]) -> list[list[int]]:
    """Groups of two or more equal images, by their indices, in the order of the first of each."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for i, one in enumerate(digests):
        groups[one].append(i)
    return [group for group in groups.values() if len(group) > 1]


def near(thumbnails: np.ndarray, every: bool = False) -> np.ndarray:
    """Near duplicates among thumbnails (n, 8, 9, 3) uint8: pairs (p, 2) int64 of an image and an earlier one
    like it.

    Each image is named at most once as the later of a pair, so that p counts the images that could go. `every`: all
    pairs (of an image, those within REACH), each once, for what belongs together: an image may be like two that are
    not like each other.
    """
    if not len(thumbnails):
        return np.empty((0, 2), np.int64)
    hashes = difference_hash(thumbnails)
    alike = _Alike(thumbnails)
    earlier = np.full(len(hashes), -1, dtype=np.int64)
    found = [np.empty((0, 2), np.int64)]
    # neighbouring cells go to different bands: an empty border alone must not fill a bucket
    bits = np.unpackbits(hashes[:, None].view(np.uint8), axis=1)
    bands = [np.packbits(bits[:, i::BANDS], axis=1).view(np.uint16)[:, 0].astype(np.uint32) for i in range(BANDS)]
    for first, second in itertools.combinations(range(BANDS), BANDS - BITS):
        keys = (bands[first] << np.uint32(16)) | bands[second]
        order = np.lexsort((alike.brightness, hashes, keys))
        sorted_hashes = hashes[order]
        _, sizes = np.unique(keys, return_counts=True)
        end = np.repeat(np.cumsum(sizes), sizes)
        here = np.arange(len(order))
        for step in range(1, REACH + 1):
            here = here[here + step < end[here]]
            if len(here) == 0:
                break
            close = here[_close(sorted_hashes[here] ^ sorted_hashes[here + step])]
            pairs = np.sort(np.stack([order[close], order[close + step]], axis=1), axis=1)
            if not every:
                pairs = pairs[earlier[pairs[:, 1]] < 0]
            for band in bands[:first] + bands[first + 1 : second]:
                # a pair that shares a lower band too has been looked at under that one
                pairs = pairs[band[pairs[:, 0]] != band[pairs[:, 1]]]
            pairs = alike.of(pairs)
            earlier[pairs[:, 1]] = pairs[:, 0]
            if every:
                found.append(pairs)
    if every:
        return np.concatenate(found)
    later = np.flatnonzero(earlier >= 0)
    return np.stack([earlier[later], later], axis=1)


def altered(thumbnails: np.ndarray) -> np.ndarray:
    """All pairs as of `near`, of images one of which was made brighter, darker, or mirrored; none of nearly plain ones.

    All are brought to one mean and contrast, the brighter half on the left. So shapes are alike, too, that are their
    own mirror image (three pairs of 5,000 handwritten digits).
    """
    values = thumbnails.astype(np.float32)
    apart = values - values.mean((1, 2, 3), keepdims=True)
    spread = apart.std((1, 2, 3), keepdims=True)
    shown = np.flatnonzero(spread >= PLAIN)
    even = (128 + CONTRAST * apart[shown] / spread[shown]).round().clip(0, 255).astype(np.uint8)
    right = (apart[shown] * np.linspace(-1, 1, CELLS[1])[:, None]).sum((1, 2, 3)) > 0
    even[right] = even[right][:, :, ::-1]
    return shown[near(even, every=True)]


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """(n,) uint64 from (n, 8, 9, 3) uint8."""
    cells = thumbnails.sum(axis=3, dtype=np.int16)
    darker = cells[:, :, :-1] + 3 * MARGIN < cells[:, :, 1:]
    return np.packbits(darker.reshape(len(cells), -1), axis=1).view(np.uint64)[:, 0]


def _close(words: np.ndarray) -> np.ndarray:
    """(n,) bool: no more than BITS bits are set in each uint64 (x & (x - 1) clears the lowest)."""
    for _ in range(BITS):
        words = words & (words - np.uint64(1))  # of 0 it makes 0 again
    return words == 0


class _Alike:
    """Which pairs of thumbnails show the same picture, but for small changes."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        self.full = thumbnails.reshape(len(thumbnails), -1)
        # means over 4 x 3 patches: their difference is at most that of the whole, and rules most pairs out cheaply
        self.coarse = thumbnails.reshape(-1, 4, 2, 3, 3, 3).mean(axis=(2, 4, 5), dtype=np.float32).reshape(-1, 12)
        self.brightness = self.coarse.mean(axis=1)
        self.contrast = np.concatenate(
            [part.std(axis=1) for part in np.array_split(self.full, len(self.full) // 4096 + 1)]
        )

    def of(self, pairs: np.ndarray) -> np.ndarray:
        """Those of the pairs (p, 2) that are alike."""
        for values in (self.coarse, self.full):
            a, b = pairs[:, 0], pairs[:, 1]
            difference = values[a].astype(np.float32) - values[b]
            allowed = np.maximum(ALIKE * np.minimum(self.contrast[a], self.contrast[b]), NOISE)
            pairs = pairs[np.sqrt((difference**2).mean(axis=1)) <= allowed]
        return pairs
