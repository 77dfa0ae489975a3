"""What the data looks like and how to read it: all that networks and recipes need to know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from zerosum.data.depth import EIGHT_BITS, Depth

Fit = Literal["crop", "pad", "stretch", "bucket"]
Pairing = Literal["auto", "joined", "folders", "made", "unpaired"]
Made = Literal["edges", "grey", "small", "mask", "scribble"]
Direction = Literal["A2B", "B2A"]
Side = Literal["a", "b"]


@dataclass(frozen=True)
class Spec:
    """The shape that networks are built for; of two-sided data that of the side they translate from."""

    shape: tuple[int, ...]  # (C, H, W) for images, (d,) for points of a toy mixture
    classes: int = 0  # 0: no labels, or labels not used
    depth: Depth = EIGHT_BITS
    target: Spec | None = None  # the side that is translated to
    paired: bool = False  # item i of one side belongs to item i of the other
    more_sizes: tuple[tuple[int, int], ...] = ()  # (H, W) of images that come in others beside that of `shape`

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Every (H, W) that images come in, the commonest first."""
        height, width = self.shape[1:]
        return ((height, width), *self.more_sizes)

    @property
    def wide(self) -> bool:
        """Whether a side has more than 8 bits, which bf16 does not carry."""
        return self.depth.wide or (self.target is not None and self.target.depth.wide)

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def sides(self) -> tuple[Spec, Spec]:
        """Both sides of two-sided data, each as networks see it."""
        if self.target is None:
            raise ValueError("these data have one side")
        return replace(self, target=None, paired=False), self.target


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which data a run reads, and how it is brought to one size."""

    source: str
    """A name (digits, mnist, fashion-mnist, cifar10, celeba, ring, grid, moons) or a path to a folder or file."""
    root: str | None = None
    """For named sets: the folder that holds (or will hold) their files."""
    split: Literal["train", "test", "all"] = "train"
    """For named sets with a published split: which side to read."""
    size: tuple[int, int] | None = None
    """Height and width to bring images to; as found if not given, up to `longest`, or the nearest the networks take."""
    longest: int = 256
    """Where `size` is not given, bring the images of a folder down to this long side, in pixels."""
    channels: Literal[1, 3, 4] | None = None
    """1 grey, 3 colour, 4 colour with alpha; as found if not given."""
    fit: Fit = "crop"
    """How to bring other aspect ratios to `size`: crop the centre, pad with the edge colour, or stretch. Of two-sided
    data also bucket: each image to the nearest of a few sizes of that area, and no batch of two sizes."""
    labels: str | None = None
    """A CSV file (columns: file, label) for folders and zips; sub-folders are the classes if not given."""
    flip: bool = False
    """Mirror half of the images, left to right (doubles the data where left and right mean the same)."""
    download: bool = False
    """Fetch a named set that is not here yet."""
    limit: int | None = None
    """Read only N images: the first by name, of a folder or zip with classes the first of each class."""
    held_out: int | None = None
    """Images kept out of training, to measure with; about a tenth, at most 2,000, none below 200 images, if not
    given."""
    cache: str | None = None
    """Folder of the packed cache; the user's cache folder if not given."""
    memory_megabytes: int = 1024
    """Sets up to this size live in memory as uint8; larger ones are memory-mapped from the packed cache."""
    target: str | None = None
    """Side B, to translate to: a second folder, zip or named set. Then the data given first are side A."""
    pairing: Pairing | None = None
    """For translation, how the two sides are found: joined (each file is A and B side by side), folders (A and B have
    files of the same names), made (see --made), unpaired (nothing of A belongs to anything of B), or auto."""
    made: Made | None = None
    """Side A is made from the images, which are side B: edges, grey, small (four times coarser), mask (a rectangle is
    blanked) or scribble (a few thick strokes)."""
    direction: Direction = "A2B"
    """Translate from side A to side B, or from B to A."""
    jitter: int = 0
    """Keep two-sided images so many pixels higher and wider than `size`, and cut `size` out at random; pix2pix: 30."""
    value_range: tuple[float, float] | None = None
    """Of images of more than 8 bits: the values that networks see as black and as white, such as -1024 3071."""
    bits: Literal["8", "own"] = "8"
    """Bring every image to 8 bits a channel, or keep the depth of its own (16 bits or real numbers) in a folder or zip:
    what is made of it has that depth, too."""


@runtime_checkable
class Dataset(Protocol):
    """Everything that training asks of data. Implementations are random-access and never change.

    `gather` takes indices (n,) int64 and returns values and labels: uint8 (n, C, H, W) for images, float32 (n, d)
    for points; labels int64 (n,), or None where the set has none. A set that is stored in more than 8 bits gives those
    by a method `stored` of the same kind (`Stored`), and says so in its `spec`.
    """

    @property
    def spec(self) -> Spec: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def gather(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]: ...


@runtime_checkable
class Stored(Dataset, Protocol):
    """A `Dataset` that may have more than 8 bits: `stored` is `gather` in the depth of its `spec`."""

    def stored(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]: ...


def as_stored(dataset: Dataset, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and labels as training takes them: where the set has more than 8 bits, in the depth of its `spec`."""
    return dataset.stored(index) if isinstance(dataset, Stored) else dataset.gather(index)
