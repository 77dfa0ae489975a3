"""`zerosum recommend`: what each user likes, from what users took."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from zerosum.commands.base import Command, OneSidedOptions, fresh_folder
from zerosum.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Recommend(Command):
    """Learn what each user likes of your items' images, from who took what and when.

    Trains DVBPR (an image network and a taste for each user) beside BPR, VBPR and popularity, and says how well the
    items that users took last stand in each one's order: among items that were taken before, and among new ones. The
    taste that is kept for zerosum design is learned anew, from all that users took.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "zerosum recommend ./shirts --interactions bought.csv",
        "zerosum recommend ./shirts --interactions bought.csv --size 64 64 --out tastes/shirts",
    )

    data: tyro.conf.OmitArgPrefixes[OneSidedOptions] = field(default_factory=OneSidedOptions)
    interactions: Path
    """A CSV with the columns user, item (an image's name) and time (a number)."""
    skip_unknown: bool = False
    """Leave out lines of items that there is no image of."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the taste goes; tastes/DATA, with a number behind it from the second on, if not given."""
    steps: int = 3_000
    """Of each recommender, at most: of DVBPR's each looks at up to 256 items, of the others' at 8,192 triplets (user,
    item taken, item not taken). The taste that is kept learns for as many as DVBPR was best after."""
    factors: int = 64
    """Numbers that a taste has."""
    seed: int = 0
    """Weights and triplets are drawn from it."""

    def run(self) -> int:
        for name, least in (("steps", 1), ("factors", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}: must be {least} or more")
        from zerosum import api, atomic
        from zerosum.applications import kept, parts, taste
        from zerosum.applications.recommend import (
            BPR,
            DVBPR,
            VBPR,
            Look,
            Model,
            Settings,
            Triplets,
            at_best,
            popularity,
            train,
            train_on_all,
        )
        from zerosum.data.store import ArrayDataset
        from zerosum.metrics.features import imagenet
        from zerosum.metrics.features.base import Extractor
        from zerosum.metrics.features.weak import RandomConvolutions
        from zerosum.recipes.pick import for_device
        from zerosum.view import progress_bar

        data = self.data.plain()
        data = for_device(data, "auto")  # as train reads them, whose run is to design
        out = fresh_folder(self.out, kept.FOLDER / Path(data.source).stem, kept.ABOUT)
        found = api.open_images(data)
        assert isinstance(found, ArrayDataset)
        found = found.in_eight_bits()
        if not found.spec.is_image:
            raise UserError(f"{data.source}: has points, not images")
        names = parts.file_names(data, found) or [str(i) for i in range(len(found))]
        taken = taste.read(self.interactions, names, self.skip_unknown)
        height, width = found.spec.shape[1:]
        print(
            f"{len(taken):,} lines of {len(taken.users):,} users and {len(names):,} items of {height}x{width} pixels "
            "(height x width)",
            file=sys.stderr,
        )
        if taken.unknown:
            lines, some = sum(taken.unknown.values()), ", ".join(list(taken.unknown)[:3])
            print(
                f"{lines:,} lines of {len(taken.unknown):,} items without an image left out ({some})", file=sys.stderr
            )
        split = taste.split(taken)
        everything = taste.joined(split.train, split.validation, split.test)
        Triplets(everything, self.seed)  # refuses before the work what the taste that is kept could not be learned from
        users, settings = len(split.train.users), Settings(factors=self.factors, seed=self.seed)
        features: Extractor = (
            imagenet.ImageNet(found.spec.shape) if imagenet.installed() else RandomConvolutions(found.spec)
        )
        with progress_bar("features") as tick:
            seen = features(found.values, tick).numpy()
        models: list[Model] = [
            BPR(users, len(names), settings), VBPR(users, seen, settings), DVBPR(users, found.values, settings),
        ]  # fmt: skip
        looks: dict[str, list[Look]] = {}
        rows: dict[str, dict[str, object]] = {}
        scorers = {"popularity": popularity(split.train)}
        for model in models:
            with progress_bar(model.name) as tick:
                looks[model.name] = train(model, split, steps=self.steps, seed=self.seed, told=tick)
            scorers[model.name] = model.scores
        best = at_best(looks[DVBPR.name]).steps
        final = DVBPR(users, found.values, settings)
        with progress_bar("the taste, from all") as tick:
            train_on_all(final, split, steps=best, seed=self.seed, told=tick)
        kept.save(final, split.train.users, out)  # before the table: a fault in reporting must not cost the training
        print("".join(f"{head:>16}" for head in ("", "AUC", "NDCG@10", "AUC, new", "NDCG, new")))
        known = taste.joined(split.train, split.validation)
        counts: list[int] = []
        for name, scores in scorers.items():
            warm = taste.ranking(scores, split.test, known, ~split.cold)
            cold = taste.ranking(scores, split.test, known, split.cold)
            counts = [warm.count, cold.count]  # the same for each
            cells = [cell for r in (warm, cold) for cell in ((r.auc, r.auc_within), (r.ndcg, r.ndcg_within))]
            shown = [f"{value:.3f} +- {within:.3f}" for value, within in cells]
            print(f"{name:>16}" + "".join(f"{cell:>16}" for cell in shown))
            rows[name] = {"warm": _known(asdict(warm)), "cold": _known(asdict(cold))}
        rows[VBPR.name]["features"] = {
            "name": features.name, "weights": features.weights, "preparation": features.preparation,
        }  # fmt: skip
        print(
            f"of {counts[0]:,} interactions and {counts[1]:,} of new items; +- is of 95 %, over users", file=sys.stderr
        )
        for what, count in zip(("taken before", "new"), counts, strict=True):
            if not count:
                print(f"nan: of what users took last, nothing was {what}, or no other item was", file=sys.stderr)
        weak = f"; they are weak: better ones come with {imagenet.INSTALL}" if features.weak else ""
        print(f"VBPR sees items in features of {features.name}{weak}", file=sys.stderr)
        rows[DVBPR.name]["kept"] = {"steps": best, "interactions": len(everything)}
        print(
            f"kept is DVBPR learned anew from all {len(everything):,} interactions ({best:,} steps); nothing is "
            "left to measure that one with",
            file=sys.stderr,
        )
        atomic.write_file(out / "ranking.json", (json.dumps(rows, indent=1, allow_nan=False) + "\n").encode())
        print(out)
        return 0


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """None where there is no number, as of a ranking of no items: JSON has no other word for it."""
    return {key: None if value != value else value for key, value in row.items()}
