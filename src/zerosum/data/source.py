"""What `data.source` means: a name, a folder, or a file of some kind."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from zerosum.data import array_files, files, idx, listing, plates, sets
from zerosum.data.pack import Progress
from zerosum.data.picture import SUFFIXES
from zerosum.data.spec import Data, Spec
from zerosum.data.store import ArrayDataset
from zerosum.errors import UserError

ONLY_TWO_SIDED = ("target", "pairing", "made", "direction", "jitter")  # fields of `Data`
TWO_SIDED = (*ONLY_TWO_SIDED, "value_range", "bits")  # what one side of two is read without


def open_source(data: Data, progress: Progress | None = None) -> ArrayDataset:
    """Read the set that `data` describes. `progress(done, total, what)` is told how far it is.

    Raises UserError, with a remedy, whenever the source cannot be used as asked.
    """
    validate(data)
    refuse_two_sided(data)
    named = data.source in sets.named()
    images = None if named else image_listing(find(data.source), plates.suffixes(data.bits))
    if images is not None:
        return files.open_files(images, data, progress)
    if data.bits == "own":
        raise UserError(f"--bits own: is for folders and zips of images, which {data.source} is not; leave it out")
    if named:
        return sets.open_named(data, progress)
    path = find(data.source)
    try:
        return _open_array(path, data, progress)
    except OSError as error:
        raise UserError(f"{data.source} cannot be read: {error.strerror or error}") from error


def _open_array(path: Path, data: Data, progress: Progress | None) -> ArrayDataset:
    if not path.is_file():
        raise UserError(f"{data.source} is neither a file nor a folder")
    if data.labels is not None:
        raise UserError(f"--labels {data.labels}: only folders and zips of images take a CSV; leave --labels out")
    match path.suffix.lower():
        case ".npy":
            return array_files.open_npy(path, data, progress)
        case ".npz":
            return array_files.open_npz(path, data, progress)
    if idx.looks_like_idx(path):
        return array_files.open_idx(path, data, progress)
    if path.suffix.lower() in SUFFIXES:
        raise UserError(f"{data.source} is one image; give the folder that holds it and the others")
    raise UserError(
        f"{data.source}: files of this kind are not read; give a folder or a zip of images, an IDX file, a "
        ".npy or .npz file, or unpack it into a folder"
    )


def validate(data: Data) -> None:
    """Refuse settings that mean nothing, before anything is read."""
    if data.size is not None and (len(data.size) != 2 or min(data.size) < 1):
        raise UserError(f"--size {' '.join(map(str, data.size))}: give height and width, both at least 1")
    if data.longest < 16:
        raise UserError(f"--longest {data.longest}: give at least 16 pixels")
    if data.channels not in (None, 1, 3, 4):
        raise UserError(f"--channels {data.channels}: give 1 (grey), 3 (colour) or 4 (colour with alpha)")
    if data.fit not in ("crop", "pad", "stretch", "bucket"):
        raise UserError(f"--fit {data.fit}: give crop, pad, stretch or bucket")
    if data.split not in ("train", "test", "all"):
        raise UserError(f"--split {data.split}: give train, test or all")
    if data.limit is not None and data.limit < 2:
        raise UserError(f"--limit {data.limit}: a set needs at least 2 images")
    if data.held_out is not None and data.held_out < 0:
        raise UserError(f"--held-out {data.held_out}: give 0 (none) or more")
    if data.jitter < 0:
        raise UserError(f"--jitter {data.jitter}: give 0 (none) or more")
    if data.value_range is not None and data.bits == "8":
        given = " ".join(f"{value:g}" for value in data.value_range)
        raise UserError(f"--value-range {given}: is for images that keep more than 8 bits; add --bits own")
    if data.memory_megabytes < 0:
        raise UserError(f"--memory-megabytes {data.memory_megabytes}: give 0 or more")


def as_seen(data: Data, spec: Spec) -> Data:
    """`data` read as networks of `spec` see images: its size and channels and, of more than 8 bits, its range."""
    channels, height, width = spec.shape
    data = replace(data, size=(height, width), channels=channels)  # type: ignore[arg-type]
    if spec.depth.wide and data.source not in sets.named() and image_listing(find(data.source)) is not None:
        return replace(data, bits="own", value_range=(spec.depth.low, spec.depth.high))
    return data


def one_sided(data: Data, name: str) -> Data:
    """How to read the source `name` by itself: `data` without what only translation reads."""
    return replace(data, source=name, **{field: getattr(Data, field) for field in TWO_SIDED}, fit="crop")


def refuse_two_sided(data: Data) -> None:
    """UserError for what only translation reads."""
    if data.fit == "bucket":
        raise UserError("--fit bucket: is for translation alone; give crop, pad or stretch")
    for field in ONLY_TWO_SIDED:
        if (value := getattr(data, field)) != getattr(Data, field):
            given = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"--{field.replace('_', '-')} {given}: is for translation alone; leave it out")


def find(source: str) -> Path:
    """The path that `source` is. UserError, with the nearest name or path, if there is nothing there."""
    path = Path(source).expanduser()
    if source and path.exists():
        return path
    near = difflib.get_close_matches(source.lower(), sets.named(), n=1, cutoff=0.5)
    if not near and path.parent.is_dir():
        beside = [entry.name for entry in sorted(path.parent.iterdir())]
        near = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, beside, n=1)]
    hint = f"did you mean {listing.printable(near[0])}? Otherwise " if near else ""
    raise UserError(
        f"{source or repr(source)}: there is no such file or folder, and no set of that name; {hint}give a "
        f"path, or one of {', '.join(sets.named())}"
    )


def image_listing(path: Path, suffixes: frozenset[str] = SUFFIXES) -> listing.Listing | None:
    """The image files at `path`, by suffix, if it is a folder or a zip, else None."""
    if path.is_dir():
        return listing.folder(path, suffixes)
    return listing.zip_file(path, suffixes) if path.suffix.lower() == ".zip" else None
