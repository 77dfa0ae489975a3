"""Arrays to a set: at hand, mapped from a file, or arriving from a packed one.

Images are uint8, or real numbers 0 .. 1, or booleans; points are real numbers (N, d). Other types and ranges
are refused: they cannot be told from a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from zerosum.data import pack, picture
from zerosum.data.labels import encode
from zerosum.data.pack import Block, Progress
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset, block_rows
from zerosum.errors import UserError

Layout = Literal["grey", "first", "last"]  # (N, H, W), (N, C, H, W), (N, H, W, C)
CHANNELS = (1, 3, 4)
EVERYTHING = 1 << 40  # megabytes: arrays that are at hand stay there, whatever their size


@dataclass(frozen=True)
class Rows:
    """An array (N, ...): at hand in memory, mapped from a file, or to be had in order from a stream."""

    where: str  # for messages
    shape: tuple[int, ...]
    dtype: np.dtype
    array: np.ndarray | None = None
    mapped: bool = False
    stream: Callable[[int], Iterator[np.ndarray]] | None = None  # of a block's number of rows; may be asked again

    def blocks(self, step: int) -> Iterator[np.ndarray]:
        if self.array is not None:
            return (self.array[start : start + step] for start in range(0, len(self.array), step))
        assert self.stream is not None
        return self.stream(step)


def at_hand(where: str, array: np.ndarray, *, mapped: bool = False) -> Rows:
    return Rows(where, array.shape, array.dtype, np.asarray(array), mapped or isinstance(array, np.memmap))


def joined(where: str, parts: Sequence[Rows]) -> Rows:
    """One array after the other. UserError if their rows differ in shape or type."""
    first = parts[0]
    if any(part.shape[1:] != first.shape[1:] or part.dtype != first.dtype for part in parts):
        listed = ", ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise UserError(f"{where}: the parts of --split all do not go together ({listed}); read one of them")
    if len(parts) == 1:
        return first
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    arrays = [part.array for part in parts if part.array is not None]
    if len(arrays) == len(parts) and not any(part.mapped for part in parts):
        return at_hand(where, np.concatenate(arrays))

    def stream(step: int) -> Iterator[np.ndarray]:
        for part in parts:
            yield from part.blocks(step)

    return Rows(where, shape, first.dtype, stream=stream)


def from_arrays(
    images: np.ndarray, labels: np.ndarray | Sequence[Any] | None = None, class_names: Sequence[str] = ()
) -> ArrayDataset:
    """A set from arrays that are already here.

    `images` is uint8 (N, H, W), (N, C, H, W) or (N, H, W, C) with C in 1, 3, 4 (where both readings are
    possible, channels come first), or float 0 .. 1 of these shapes, or float (N, d) points. `labels` (N,) are
    integers or names. An array in the package's own layout, (N, C, H, W) uint8, is used as it is (but for C = 4, see
    `picture.without_rims`), mapped ones too: do not change it afterwards. Raises UserError for anything else.
    """
    data = Data(source="from_arrays", memory_megabytes=EVERYTHING)
    array = images if isinstance(images, np.ndarray) else np.asarray(images)
    found = None if labels is None else np.asarray(labels)
    return finish(at_hand("from_arrays", array), found, tuple(class_names), data, name="")


def from_torch(dataset: Any) -> ArrayDataset:
    """A set from a map-style torch Dataset, read once, in order, into memory.

    Its items are images, or tuples whose first two members are image and label; images are PIL images of one
    size and mode, or uint8 or float 0 .. 1 tensors (C, H, W). Random augmentations in it freeze as they fall:
    leave them out. Its `classes`, if it has them, name the classes. Raises UserError for other items or
    unequal shapes.
    """
    values: np.ndarray | None = None
    found: list[int] = []
    count = len(dataset)
    for i in range(count):
        item = dataset[i]
        image, *rest = item if isinstance(item, tuple | list) else (item,)
        array = _one_image(image, i)
        if values is None:
            values = np.empty((count, *array.shape), dtype=array.dtype)
        if array.shape != values.shape[1:] or array.dtype != values.dtype:
            raise UserError(
                f"from_torch: item {i} is {array.dtype} {array.shape}, but item 0 is {values.dtype} "
                f"{values.shape[1:]}; give the dataset a transform that makes them alike"
            )
        values[i] = array
        found.extend(_one_label(label, i) for label in rest[:1])
    if values is None:
        raise UserError("from_torch: the dataset is empty")
    if found and len(found) != count:
        raise UserError(f"from_torch: {len(found)} of {count} items have a label; give all of them one, or none")
    if not found:
        return from_arrays(values)
    names = tuple(str(name) for name in getattr(dataset, "classes", None) or ())  # torchvision's convention
    return from_arrays(values, np.array(found, dtype=np.int64), names)


def _one_image(image: Any, i: int) -> np.ndarray:
    if isinstance(image, Image.Image):
        pixels = np.asarray(picture.eight_bits(image))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # on another device, or tracked for gradients
        raise UserError(f"from_torch: item {i} cannot become an array ({error}); give images or CPU tensors") from error


def _one_label(label: Any, i: int) -> int:
    number = np.asarray(label)
    if number.size != 1 or number.dtype.kind not in "biu":
        raise UserError(f"from_torch: the label of item {i} is {label!r}; give one integer per image")
    return int(number.reshape(()))


def finish(
    rows: Rows,
    labels: np.ndarray | None,
    class_names: tuple[str, ...],
    data: Data,
    *,
    name: str,
    progress: Progress | None = None,
    notes: tuple[str, ...] = (),
) -> ArrayDataset:
    """A set from rows of any accepted kind, as `data` asks; `name` is that of its pack, if it needs one."""
    if len(rows.shape) == 0 or rows.shape[0] < 2:
        raise UserError(f"{rows.where}: an array of shape {rows.shape} is no set; it needs at least 2 images or points")
    numbers, class_names = _numbered(rows, labels, class_names)
    count = min(rows.shape[0], data.limit or rows.shape[0])
    numbers = None if numbers is None else numbers[:count]
    if len(rows.shape) == 2 and rows.dtype.kind == "f":
        return ArrayDataset(_points(rows, data, count), numbers, class_names, notes=notes)
    layout, native = _layout(rows)
    shape = (data.channels or native[0], *(data.size or native[1:]))
    row_bytes = math.prod(shape)
    if shape == native and rows.dtype == np.uint8 and rows.array is not None and picture.MODES[shape[0]] != "RGBA":
        values = _channels_first(rows.array[:count], layout)
        if not rows.mapped:
            values = np.ascontiguousarray(values)
        elif data.memory_megabytes != EVERYTHING and pack.fits_in_memory(row_bytes * count, data):
            values = np.array(values, order="C")
        elif not rows.array.flags.c_contiguous:
            raise UserError(f"{rows.where} is in Fortran order, one image being all over the file: save it in C order")
        return ArrayDataset(values, numbers, class_names, notes=notes)
    name = pack.with_labels(name, numbers, class_names)
    if (found := pack.find(data, name)) is not None:
        return found
    if shape != native:
        before, after = (" x ".join(map(str, one)) for one in (native, shape))
        notes = (*notes, f"all images were brought from {before} to {after} (C x H x W)")

    def blocks() -> Iterator[Block]:
        done = 0
        for block in rows.blocks(block_rows(max(row_bytes, math.prod(native)))):
            block = block[: count - done]
            values = _convert(block, layout, shape, data, rows.where, done)
            yield Block(values, np.arange(done, done + len(values)), len(values))
            done += len(values)
            if done == count:
                return

    plan = pack.Plan(rows.where, count, shape, numbers, class_names, lambda: notes)
    return pack.build(plan, blocks(), data, name, progress)


def _numbered(
    rows: Rows, labels: np.ndarray | None, class_names: tuple[str, ...]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if labels is None:
        return None, ()
    numbers, found_names = encode(labels, rows.where)
    if len(numbers) != rows.shape[0]:
        raise UserError(f"{rows.where}: {len(numbers)} labels for {rows.shape[0]} images; give one label per image")
    if class_names and len(found_names) > len(class_names):
        raise UserError(f"{rows.where}: labels of {len(found_names)} classes, but {len(class_names)} class_names")
    return numbers, class_names or found_names


def _points(rows: Rows, data: Data, count: int) -> np.ndarray:
    if data.size is not None or data.channels is not None:
        raise UserError(f"{rows.where} holds points, not images: --size and --channels do not apply; leave them out")
    points = np.concatenate(list(rows.blocks(4096)))[:count].astype(np.float32)
    if not np.isfinite(points).all():
        raise UserError(f"{rows.where} holds numbers that are not finite; remove those points")
    return points


def _layout(rows: Rows) -> tuple[Layout, tuple[int, int, int]]:
    """Where the channels are, and (C, H, W)."""
    shape = rows.shape[1:]
    if rows.dtype != np.uint8 and rows.dtype.kind not in "fb":
        raise UserError(
            f"{rows.where}: values of type {rows.dtype}; give uint8 images 0 .. 255 (.astype(np.uint8) if they are "
            "that already), float images 0 .. 1, or float (N, d) points"
        )
    if 0 in shape:
        raise UserError(f"{rows.where}: the images of shape {shape} are empty")
    if len(shape) == 2:
        return "grey", (1, *shape)
    if len(shape) == 3 and shape[0] in CHANNELS:
        return "first", (shape[0], shape[1], shape[2])
    if len(shape) == 3 and shape[2] in CHANNELS:
        return "last", (shape[2], shape[0], shape[1])
    raise UserError(
        f"{rows.where}: shape {rows.shape} is not (N, H, W), (N, C, H, W) or (N, H, W, C) with C one of 1, 3, 4; "
        "reshape it"
    )


def _channels_first(values: np.ndarray, layout: Layout) -> np.ndarray:
    """A view (n, C, H, W)."""
    if layout == "grey":
        return values[:, None]
    return values if layout == "first" else np.moveaxis(values, -1, 1)


def _convert(
    block: np.ndarray, layout: Layout, shape: tuple[int, int, int], data: Data, where: str, start: int
) -> np.ndarray:
    """One block as uint8 of `shape`. UserError if real numbers leave 0 .. 1."""
    block = _channels_first(block, layout)
    if block.dtype.kind == "f":
        inside = ((block >= 0) & (block <= 1)).reshape(len(block), -1).all(axis=1)  # False for NaN
        if not inside.all():
            i = int(inside.argmin())
            raise UserError(
                f"{where}: image {start + i} has values from {block[i].min()} to {block[i].max()}; float images must "
                "be within 0 .. 1 ((x + 1) / 2 if they are in -1 .. 1, x / 255 if in 0 .. 255)"
            )
        block = (block.astype(np.float64) * 255).round().astype(np.uint8)
    elif block.dtype.kind == "b":
        block = block.astype(np.uint8) * 255
    if block.shape[1:] == shape:
        return picture.without_rims(np.ascontiguousarray(block))
    return picture.render_all(block, shape, data.fit)
