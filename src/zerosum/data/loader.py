"""The way from a data set to the game: keyed order, and the only place where stored values become [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zerosum import randomness
from zerosum.data.classes import Even, drawn_labels, labels_of
from zerosum.data.depth import EIGHT_BITS, Depth
from zerosum.data.spec import Dataset, Stored, as_stored
from zerosum.errors import UserError

LABELLED = "labelled"  # what a purpose ends in that asks for images whose labels are known
AHEAD = 1 << 16  # numbers drawn at once where samples are asked for in sequence: a draw costs 30 us, however small

Draw = Callable[[int, str, int, int, int], Tensor]


def scale(values: np.ndarray, dtype: torch.dtype, device: torch.device, depth: Depth = EIGHT_BITS) -> Tensor:
    """uint8 0 .. 255 to -1 .. 1 in steps of 2/255 (`sample.to_uint8` is its inverse); points pass unchanged.

    With another depth its `low` and `high` become -1 and 1, and what lies outside is clamped (`sample.to_stored` is
    the inverse). In float32 every value of uint16 and int16 comes back as it was, float32 within 2^-26 of high - low
    and a rounding; bf16 and fp16 carry no 16 bits, so ask for float32 or float64 where `depth.wide`.
    """
    if depth != EIGHT_BITS:
        return _scale_range(values, dtype, device, depth)
    if values.dtype == np.uint8 and device.type == "cpu":
        # NumPy, in one thread: torch takes all of its own for so little, and waits for any whose core is busy. Into
        # memory of torch, which is always aligned alike: the last bit of a matrix product may depend on that.
        scaled = torch.empty(values.shape, dtype=dtype)
        out = scaled.numpy()
        real = out.dtype.type
        np.multiply(values, real(2 / 255), out=out, dtype=real)
        np.subtract(out, real(1), out=out)
        return scaled
    tensor = torch.from_numpy(values)
    if device.type != "mps":  # which has no float64
        tensor = tensor.to(device, non_blocking=True)
    if tensor.dtype == torch.uint8:
        return tensor.to(dtype).mul_(2 / 255).sub_(1).to(device)
    return tensor.to(device, dtype)


def _scale_range(values: np.ndarray, dtype: torch.dtype, device: torch.device, depth: Depth) -> Tensor:
    """2 (v - low) / (high - low) - 1 on the processor in float64, rounded once: the same bits for every device."""
    if values.dtype != depth.dtype:
        raise ValueError(f"values of {values.dtype} are not of the depth {depth.stored}")
    scaled = torch.empty(values.shape, dtype=torch.float64)
    out = scaled.numpy()
    np.copyto(out, values)
    np.clip(out, depth.low, depth.high, out=out)
    np.subtract(out, depth.low, out=out)
    np.divide(out, depth.high - depth.low, out=out)
    np.multiply(out, 2, out=out)
    np.subtract(out, 1, out=out)
    return scaled.to(dtype).to(device)


class Loader:
    """A `game.Source`: real images, labels, latents and uniform numbers by purpose and global sample index.

    Endless and stateless: sample i of a purpose is item i mod n of pass i div n, each pass in a new keyed order; so a
    restart needs nothing but the index, and the processes' shares are disjoint because their indices are.

    `labelled`: how many labels are known, as many of each class; all if None. `even`: as many of each class in every
    batch, whatever the set has.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        latent: int,
        conditional: bool = False,
        labelled: int | None = None,
        even: bool = False,
        flip: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.latent_size = latent
        self.conditional = conditional
        self.flip = flip and dataset.spec.is_image
        self.dtype = dtype
        self.device = device or torch.device("cpu")
        self._kept: tuple[tuple[str, int, int], np.ndarray | None] | None = None
        self._drawn: dict[str, tuple[int, int, Tensor]] = {}
        labels = labels_of(dataset) if labelled is not None or even else None
        if (labelled is not None or even) and labels is None:
            option = "--labelled" if labelled is not None else "--class-balance even"
            raise UserError(f"{option}: these data have no labels; sort them into a folder a class, or drop it")
        if dataset.spec.depth.wide and not isinstance(dataset, Stored):
            raise UserError("data: its spec has more than 8 bits, and it has no method `stored` to give them; add one")
        self.known = None if labelled is None or labels is None else drawn_labels(labels, labelled, seed)
        self._even = Even(labels) if even and labels is not None else None

    def __len__(self) -> int:
        return len(self.dataset)

    def _index(self, purpose: str, first: int, count: int) -> np.ndarray:
        """Which items of the set the samples of a purpose are, (count,)."""
        if self.known is not None and purpose.rsplit("/", 1)[-1] == LABELLED:
            return self.known[randomness.order(self.seed, purpose, first, count, len(self.known))]
        if self._even is not None:
            return self._even.order(self.seed, purpose, first, count)
        return randomness.order(self.seed, purpose, first, count, len(self.dataset))

    def real(self, purpose: str, first: int, count: int) -> Tensor:
        index = self._index(purpose, first, count)
        values, labels = as_stored(self.dataset, index)
        self._kept = ((purpose, first, count), labels)
        if self.flip:
            mirrored = randomness.uniform(self.seed, f"{purpose}/flip", first, count).numpy()[:, 0] < 0.5
            values[mirrored] = values[mirrored][..., ::-1]
        return scale(values, self.dtype, self.device, self.dataset.spec.depth)

    def label(self, purpose: str, first: int, count: int) -> Tensor | None:
        if not self.conditional:
            return None
        if self._kept is not None and self._kept[0] == (purpose, first, count):
            labels = self._kept[1]
        else:
            _, labels = as_stored(self.dataset, self._index(purpose, first, count))
        return None if labels is None else torch.from_numpy(labels).to(self.device)

    def latent(self, purpose: str, first: int, count: int) -> Tensor:
        return self._numbers(randomness.normal, purpose, first, count, self.latent_size)

    def given(self, player: str, purpose: str, first: int, count: int) -> tuple[Tensor | None, ...]:
        """What a generator makes its images of: latents and labels."""
        return self.latent(purpose, first, count), self.label(purpose, first, count)

    def uniform(self, purpose: str, first: int, count: int) -> Tensor:
        return self._numbers(randomness.uniform, purpose, first, count, 1)[:, 0]

    def _numbers(self, draw: Draw, purpose: str, first: int, count: int, size: int) -> Tensor:
        """The numbers (count, size) of samples first .. first+count-1, from what was drawn ahead if they are there.

        The numbers of a sample are the same whenever it is drawn. A purpose is drawn ahead once it is read in
        sequence, which a process among several never does.
        """
        start, asked, numbers = self._drawn.get(purpose, (0, -1, None))
        offset = first - start
        if numbers is None or offset < 0 or offset + count > len(numbers):
            ahead = max(count, AHEAD // size) if first == asked else count
            start, offset = first, 0
            numbers = draw(self.seed, purpose, first, ahead, size).to(self.dtype).to(self.device)
        self._drawn[purpose] = (start, first + count, numbers)
        return numbers[offset : offset + count]
