"""Image files through a translator: one, a folder or a zip, each written as it comes, in the depth that it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from zerosum import atomic
from zerosum.data import deep, listing, picture, plates
from zerosum.data.depth import Depth, Stored
from zerosum.data.picture import Broken
from zerosum.errors import UserError
from zerosum.translation.model import Translator, Wish

Tick = Callable[[int, int, str], None]
WITH_ALPHA = (2, 4)  # channels


@dataclass(frozen=True)
class Done:
    """What was written, and which images could not be used, with the reason."""

    written: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def one(translator: Translator, source: Path, target: Path, wish: Wish, tick: Tick = lambda *_: None) -> Done:
    """Translate one image file. UserError if it cannot be read or written."""
    try:
        still = _read(translator, source.read_bytes(), source.name, wish)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error
    except Broken as broken:
        raise UserError(f"{source}: cannot be used: {broken}; give another image, or save it anew") from broken
    stored = translator.stored(still.values, wish.direction, still.depth).stored
    channels = translator.route(wish.direction).target.shape[0]
    deep.check(target, stored, channels, max(still.values.shape[1:]))  # before the work
    made = still.translated(translator, wish, lambda done, of: tick(done, of, source.name))
    _write(made, target, translator)
    return Done((target,), (), still.notes)


def all_of(translator: Translator, source: Path, target: Path, wish: Wish, tick: Tick = lambda *_: None) -> Done:
    """Translate every image of a folder or a zip into the folder `target`, under the same names (see `Names`).

    An image that cannot be used is left out and named. What is done stays, whatever comes after. UserError if there is
    no image, or none could be used, or the disk refuses.
    """
    suffixes = plates.suffixes("own")
    found = listing.zip_file(source, suffixes) if source.is_file() else listing.folder(source, suffixes)
    if not found.items:
        raise UserError(f"{source}: holds no images ({', '.join(sorted(suffixes))})")
    names = Names(item.name for item in found.items)
    written: list[Path] = []
    skipped: list[tuple[str, str]] = list(found.refused)
    notes: dict[str, None] = {}
    for number, item in enumerate(found.items):
        tick(number, len(found.items), listing.printable(item.name))
        try:
            still = _read(translator, found.read(item), item.name, wish)
            made = still.translated(translator, wish)
        except (Broken, UserError) as error:
            skipped.append((listing.printable(item.name), str(error)))
            continue
        written.append(_write(made, target / names.of(item.name, made), translator))
        notes |= dict.fromkeys(still.notes)
    tick(len(found.items), len(found.items), "")
    if not written:
        name, reason = skipped[0]
        raise UserError(f"{source}: none of {len(skipped):,} images could be used, such as {name}: {reason}")
    return Done(tuple(written), tuple(skipped), tuple(notes))


class Names:
    """What the translations of the files `sources` are called: as these, and no two alike.

    Where the format of a file cannot hold its translation, another suffix takes the place of its own; or comes after
    it, if files differ by their suffixes alone: `7.webp` beside `7.png` becomes `7.webp.png`. Upper and lower case
    count as the same, as on some disks.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        names = [name.casefold() for name in sources]
        self._taken = set(names)
        self._stems = Counter(PurePosixPath(name).with_suffix("") for name in names)

    def of(self, source: str, made: np.ndarray) -> PurePosixPath:
        path, stored, channels = PurePosixPath(source), made.dtype.name, len(made)
        format = deep.SUFFIXES.get(path.suffix.lower())
        if format is not None and deep.holds(format, stored, channels):
            return path
        suffix = deep.suffix_for(stored, channels)  # type: ignore[arg-type]
        alone = self._stems[PurePosixPath(source.casefold()).with_suffix("")] == 1
        name = path.with_suffix(suffix) if alone else path.with_name(path.name + suffix)
        while str(name).casefold() in self._taken:
            name = name.with_name(name.name + suffix)
        self._taken.add(str(name).casefold())
        return name


@dataclass(frozen=True)
class _Still:
    """What is read of a file, as the translator is to be given it."""

    values: np.ndarray
    depth: Depth | None
    notes: tuple[str, ...]

    def translated(
        self, translator: Translator, wish: Wish, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        return translator(
            self.values, wish.direction, depth=self.depth, tile=wish.tile, overlap=wish.overlap, progress=progress
        )


def _read(translator: Translator, raw: bytes, name: str, wish: Wish) -> _Still:
    """The bytes of a file, decoded. Raises Broken, UserError."""
    given = deep.read(raw, name)
    values = translator.make(given.values, wish.direction) if wish.make else given.values
    if values.dtype == np.uint16 and plates.has_alpha(given.format, len(values)) and not wish.make:
        values = picture.without_rims(values[None])[0]  # as what it was trained on; of 8 bits the translator knows
    stored: Stored = values.dtype.name  # type: ignore[assignment]
    depth = None if wish.value_range is None or stored == "uint8" else Depth(stored, *wish.value_range)
    notes = given.notes
    if len(values) in WITH_ALPHA and translator.route(wish.direction).source.shape[0] not in WITH_ALPHA:
        notes += ("what is transparent is laid on white: the translator was trained without transparency",)
    return _Still(values, depth, notes)


def _write(made: np.ndarray, path: Path, translator: Translator) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise atomic.explain(error, path.parent) from error
    deep.write(made, path, dict(translator.origin))
    return path
