"""Simulated shoppers of Fashion-MNIST: who finds their taste, and are designs liked better than what is there."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerosum import pictures
from zerosum.applications import kept
from zerosum.applications.design import (
    APART,
    AS_NEAR,
    AS_REAL,
    CPU,
    FOLLOWED,
    MOVES,
    NEIGHBOURS,
    PULL,
    RATE,
    Studio,
    steady,
)
from zerosum.applications.kept import UserScorer
from zerosum.applications.recommend import BPR, DVBPR, VBPR, Model, Settings, Triplets, popularity, train
from zerosum.applications.studio import of_run
from zerosum.applications.taste import (
    Interactions,
    Places,
    Scores,
    Split,
    half_interval,
    joined,
    places,
    ranking,
    split,
)
from zerosum.bench import protocol
from zerosum.bench.field import Judge
from zerosum.bench.protocol import Bench, Result, data_record, recipe
from zerosum.bench.report import Column, Report, Table, Target, above, at_least, below
from zerosum.bench.shoppers import Shoppers
from zerosum.bench.training import played, shortened
from zerosum.data.loader import scale
from zerosum.data.source import open_source
from zerosum.data.spec import Data
from zerosum.data.store import ArrayDataset
from zerosum.engine import kept_memory
from zerosum.metrics.features.base import Extractor, unit
from zerosum.metrics.features.imagenet import ImageNet
from zerosum.metrics.features.weak import RandomConvolutions
from zerosum.metrics.intervals import binomial
from zerosum.metrics.neighbours import nearest_few
from zerosum.recipes.images import quick
from zerosum.recipes.pick import pick
from zerosum.run import Run
from zerosum.runlog import RECIPE
from zerosum.sample import to_uint8

SEEDS = (0, 1)
ITEMS = 8_000  # of the training images: the catalogue
UNSEEN = 2_000  # others, for how near real items lie to it
CHOSEN_BY = 140  # users of the first world whom an earlier search was judged by (100), and this one chosen by (40)
JUDGED = 100  # users that designs are made for: those after them, in every world
RIVALS = 32  # items that score highest, of which the one is chosen as designs are
DESIGNS = 4  # for each
DRAWN, STEPS = 2_000, 60  # latents that a search begins with, and how long those that score highest are followed
SHOWN = 8  # users in the sheet
AT_ONCE = 500  # images, when they are judged
MINUTES = 8.0
TRIPLETS = {"BPR": 40_000_000, "VBPR": 40_000_000, "DVBPR": 120_000_000}
TOLD_USERS = 40  # of them, for whom a search is also told the truth
BETTER = 0.7  # of users, whose design they truly prefer to the best item retrieved
RATES = {"BPR": 1_000_000, "VBPR": 100_000}  # triplets a second
SCORING = 4  # raise it when numbers change their meaning
SOURCE = "Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), as its authors publish it (IDX files)"
RANKED = (
    Column("warm_auc", "AUC", ".4f"), Column("warm_within", "give or take (95 %, users)", ".4f"),
    Column("warm_ndcg", "NDCG@10", ".4f"),
    Column("cold_auc", "AUC, new items", ".4f"), Column("cold_ndcg", "NDCG@10, new items", ".4f"),
    Column("triplets", "triplets", ",.0f"), Column("seconds", "s", ".0f"),
)  # fmt: skip
BETTER_AUC = (
    Column("gain", "AUC gained", "+.4f"), Column("low", "at least (95 %, users)", "+.4f"),
    Column("high", "at most", "+.4f"),
)  # fmt: skip
DESIGNED = (
    Column("better", "users who truly prefer the first design", ".1%"), Column("low", "at least", ".1%"),
    Column("high", "at most", ".1%"), Column("over_highest", "to the item that scores highest unmoved", ".1%"),
    Column("asked", "the first, if all showed what was asked for", ".1%"),
    Column("liked", "true preference of the item", ".2f"), Column("truth", "of the design", ".2f"),
    Column("gain", "gained", "+.3f"), Column("shown", "show what was asked for", ".1%"),
    Column("far", "farther from the catalogue than the usual real item", ".1%"),
    Column("outside", "than 95 % of them", ".1%"), Column("copies", "nearer than 99 %", ".1%"),
    Column("users", "users", ".0f"), Column("judge", "the judge of classes is right", ".1%"),
)  # fmt: skip

TOLD = (
    Column("known_better", "users who truly prefer the first design to that item", ".1%"),
    Column("known_best", "to every item that they had not taken", ".1%"),
    Column("known_gain", "gained over that item", "+.3f"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options(protocol.Options):
    """What this benchmark can be told beside what every benchmark can."""

    minutes: float | None = None
    """Train the generator so long in place of 8 minutes."""
    rates: bool = False
    """Only measure triplets a second."""


OPTIONS = Options


def measure(bench: Bench) -> Report:
    options = bench.options
    assert isinstance(options, Options)
    root = None if options.data is None else str(options.data)
    data = Data(source="fashion-mnist", root=root, held_out=0)
    whole = open_source(data)
    assert whole.labels is not None
    known = (data_record(data, whole, SOURCE),)
    count = 600 if bench.quick else ITEMS
    shelf = ArrayDataset(np.array(whole.values[:count]), whole.labels[:count], whole.class_names)
    tables, targets = list[Table](), list[Target]()
    rates = {name: [bench.arm(f"rate-{name}", 0, {}, partial(_rate, name, bench.quick))] for name in RATES}
    columns = (Column("rate", "triplets/s", ",.0f"),)
    tables.append(Table("Speed: 2,000 users, 20,000 items, 64 factors; VBPR on 1,280 features", columns, rates))
    targets += [
        at_least(f"{name}: triplets a second", [r["rate"] for r in found], RATES[name], ",.0f")
        for name, found in rates.items()
    ]
    if options.rates:
        return Report(title="Tastes", about=ABOUT, data=(), tables=tuple(tables), targets=tuple(targets))
    ranked: dict[str, list[Result]] = {}
    designed: list[Result] = []
    unseen = ArrayDataset(np.array(whole.values[count:]), whole.labels[count:], whole.class_names)
    judging = _Judging(bench, shelf, unseen)
    for seed in bench.seeds:
        stage = _Stage(bench, shelf, judging, seed, options.minutes or MINUTES)
        for name, scores in stage.scorers().items():
            ranked.setdefault(name, []).append(stage.ranked(name, scores))
        designed.append(stage.designed())
    order = ["random", "popularity", "BPR", "VBPR", "DVBPR"]
    gained: dict[str, list[Result]] = {}
    for lower, higher in pairwise(order):
        # World by world: what can be known at all is not the same in each.
        found = [_gained(a, b) for a, b in zip(ranked[lower], ranked[higher], strict=True)]
        gained[f"{higher} over {lower}"] = found
        # Surely better: the same users, each by the one and by the other.
        targets.append(above(f"AUC of {higher} over {lower}, at least", [r["low"] for r in found], 0.0, "+.4f"))
    tables += [
        Table("Each user's last items among those not taken", RANKED, ranked),
        Table("The same users by one recommender and by the one before it", BETTER_AUC, gained),
        Table("Designs beside the best item retrieved, by the hidden true preference", DESIGNED, {"designs": designed}),
        Table(
            f"A search told the truth in place of DVBPR's score, for {TOLD_USERS} users", TOLD, {"designs": designed}
        ),
    ]
    targets.append(at_least("users who truly prefer the first design", [r["better"] for r in designed], BETTER, ".0%"))
    targets.append(
        below("designs farther from the catalogue than the usual real item", [r["far"] for r in designed], 0.5, ".0%")
    )
    sheet = f"{bench.name}/designs-seed{bench.seeds[0]}.png"
    return Report(
        title="Tastes: recommenders and designs on simulated shoppers", about=ABOUT, data=known, tables=tuple(tables),
        targets=tuple(targets), pictures=((sheet, "Each row a user: three items taken, then the designs."),),
        arithmetic="bf16 where a trial chose it; scored in fp32",
    )  # fmt: skip


ABOUT = (
    "The shoppers are simulated (`src/zerosum/bench/shoppers.py`): hidden tastes over eight visual attributes and ten "
    "classes, noise, popularity, cold items. It was committed before any model, and none of them imports it. "
    f"The catalogue is {ITEMS:,} training images of Fashion-MNIST. All users are known to the recommenders; their last "
    "items are not.",
    "AUC and NDCG are of each user's last items against all that they have not taken; new items are those that nobody "
    "was shown before. `the truth` rows rank by what the simulator chooses by: its preference, and that with "
    "popularity. All are trained until the items to choose by stand no better, or for "
    f"{TRIPLETS['BPR']:,} triplets (DVBPR {TRIPLETS['DVBPR']:,}), by which BPR, VBPR and DVBPR still gained a little. "
    "They have the same factors and lambda; DVBPR's steps, its weight decay and its mean were chosen in a third world, "
    "where BPR and VBPR were not tuned. Two recommenders are compared world by world, by what each user gains from one "
    "to the other; the target is of the lower bound.",
    f"For {JUDGED} users a class-conditional generator (what `zerosum train` picks, {MINUTES:g} minutes) designs "
    f"{DESIGNS} items by DVBPR's score; beside them stands the best item of the catalogue, chosen as the first "
    f"design is: of the {RIVALS} that DVBPR scores highest, by their looks and not by how often they were taken, "
    "the one that does when moved by a pixel, too. Only what DVBPR learned that the user took is no such item. "
    "The verdict is the simulator's true preference, which nothing was trained on. It knows an image's attributes "
    "and its class, and that is what a judge sees in it who learned from other images, whatever was asked for. "
    "How near real items lie is measured in features of EfficientNet-Lite0, in which nothing was searched, "
    f"against {UNSEEN:,} real images outside the catalogue; a design that is farther from it than 95 % of those "
    "wins nothing. An earlier search was judged by 100 other users of the first world (53 % of them), and how "
    "strict this one is was chosen by 40 more; none of the 140 is judged by here. Bounds are of 95 %, over users; "
    "the target is of the share itself, not of its lower bound.",
    f"For {TOLD_USERS} of them a search is told that true preference in place of DVBPR's score, which says what "
    "generator and search could do if a taste were known; against it stand the same item, which DVBPR chose, and "
    "the truly best of all items that the user had not taken. It takes steps at random, for the truth cannot be "
    "followed, and it is told of classes by the judge that it is judged by.",
    f"These {JUDGED} users are among those that DVBPR was trained on, and not held-out users: a taste is learned from "
    "what its user took, and of somebody who took nothing there is none to design for. Held out are their last three "
    "items, which nothing was learned from (two to measure with, one to choose by). So the verdict says how designs "
    "fare with users who are known, and nothing of new ones.",
)


class _Judging:
    """What designs are judged by, and nothing was trained or searched with. `other`: real images, not on the shelf."""

    def __init__(self, bench: Bench, shelf: ArrayDataset, other: ArrayDataset) -> None:
        self.quick, self.shelf, self.other = bench.quick, shelf, other
        self.held = 200 if bench.quick else UNSEEN  # of the others, which the judge does not learn from

    @cached_property
    def _judge(self) -> nn.Sequential:
        assert self.other.labels is not None
        settings = Judge(width=4, hidden=16, passes=1) if self.quick else Judge(passes=4)
        few = slice(self.held, 2 * self.held if self.quick else None)
        return settings.trained(self.other.values[few], self.other.labels[few], len(self.other.class_names))

    def classes(self, images: np.ndarray) -> np.ndarray:
        """What these images uint8 (n, C, H, W) show, int64 (n,)."""
        with torch.no_grad():
            parts = [self._judge(unit(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE)]
        return torch.cat(parts).argmax(1).numpy()

    @cached_property
    def accuracy(self) -> float:
        """On real images that the judge did not learn from."""
        assert self.other.labels is not None
        return float((self.classes(self.other.values[: self.held]) == self.other.labels[: self.held]).mean())

    @cached_property
    def features(self) -> Extractor:
        return RandomConvolutions(self.shelf.spec) if self.quick else ImageNet(self.shelf.spec.shape)

    @cached_property
    def catalogue(self) -> Tensor:
        return self.features(self.shelf.values)

    def distances(self, images: np.ndarray) -> Tensor:
        """To the NEIGHBOURS nearest items of the catalogue, (n, NEIGHBOURS), the nearest first."""
        return nearest_few(self.features(images), self.catalogue, NEIGHBOURS)[0]

    @cached_property
    def usual(self) -> Tensor:
        """The same of real items."""
        return self.distances(self.other.values[: self.held])

    @cached_property
    def outside(self) -> float:
        """Farther from the catalogue than this are 5 % of real items."""
        return float(self.usual[:, -1].quantile(0.95))


class _Stage:
    """A world of shoppers by its seed, and what is learned of it."""

    def __init__(self, bench: Bench, shelf: ArrayDataset, judging: _Judging, seed: int, minutes: float) -> None:
        self.bench, self.shelf, self.judging, self.seed, self.minutes = bench, shelf, judging, seed, minutes
        assert shelf.labels is not None
        users = 60 if bench.quick else 2_000
        self.shoppers = Shoppers(shelf.values, shelf.labels, users=users, seed=seed)
        visits = self.shoppers.shop()
        names = tuple(f"user-{i}" for i in range(users)), tuple(str(i) for i in range(len(shelf)))
        self.split: Split = split(Interactions(visits.user, visits.item, visits.time.astype(float), *names))
        self.protocol = {"sha256": shelf.fingerprint, "users": users, "triplets": TRIPLETS, "scoring": SCORING}

    def scorers(self) -> dict[str, Callable[[], tuple[Scores, Result]]]:
        settings, users = Settings(seed=self.seed), len(self.split.train.users)

        def random() -> tuple[Scores, Result]:
            draw = np.random.default_rng(self.seed)
            return lambda u: draw.random((len(u), len(self.shelf))), {}

        def of(make: Callable[[], Model]) -> Callable[[], tuple[Scores, Result]]:
            return lambda: self._trained(make())

        def known(popularity: bool) -> Callable[[], tuple[Scores, Result]]:
            return lambda: (partial(self.shoppers.utilities, popularity=popularity), {})

        return {
            "random": random,
            "popularity": lambda: (popularity(self.split.train), {}),
            "BPR": of(lambda: BPR(users, len(self.shelf), settings)),
            "VBPR": of(lambda: VBPR(users, self.judging.catalogue.numpy(), settings)),
            "DVBPR": of(lambda: DVBPR(users, self.shelf.values, settings)),
            "the truth of tastes": known(popularity=False),
            "the truth, with popularity": known(popularity=True),
        }

    def _trained(self, model: Model) -> tuple[Scores, Result]:
        began = time.perf_counter()
        looks = train(model, self.split, triplets=20_000 if self.bench.quick else TRIPLETS[model.name], seed=self.seed)
        seconds = time.perf_counter() - began
        if isinstance(model, DVBPR):
            kept.save(model, self.split.train.users, self._taste)
        return model.scores, {"triplets": looks[-1].triplets, "seconds": seconds}

    def ranked(self, name: str, make: Callable[[], tuple[Scores, Result]]) -> Result:
        def work() -> Result:
            scores, times = make()
            known = joined(self.split.train, self.split.validation)
            of_users = places(scores, self.split.test, known, ~self.split.cold)
            warm = of_users.ranking
            cold = ranking(scores, self.split.test, known, self.split.cold & self.shoppers.cold)
            return {
                "warm_auc": warm.auc, "warm_within": warm.auc_within, "warm_ndcg": warm.ndcg, "cold_auc": cold.auc,
                "cold_ndcg": cold.ndcg, **times, "of_users": _packed(of_users),
            }  # fmt: skip

        return self.bench.arm(f"ranked-{name}", self.seed, self.protocol, work)

    # --- designs -----------------------------------------------------------------------------------------------------

    def _adjusted(self, found: Run) -> Run:
        asked = replace(found, seed=self.seed, conditional=True, minutes=self.minutes, images=None)
        return shortened(asked) if self.bench.quick else asked

    def designed(self) -> Result:
        run = self._adjusted(quick(Data(source="fashion-mnist", held_out=0)))
        picture = self.bench.folder / f"designs-seed{self.seed}.png"
        generator = self.bench.runs / self.bench.name / f"generator-seed{self.seed}"

        def play() -> Result:
            found = pick(run.data, minutes=self.minutes, device="cpu", dataset=self.shelf, adjust=self._adjusted).run
            return played(self.bench, "generator", found, self.shelf)[1]

        def work() -> Result:
            return self._judged(of_run(generator, items=self.shelf), kept.load(self._taste).model, picture)

        about: Result = {"sha256": self.shelf.fingerprint, "run": recipe(run)}
        times = self.bench.arm("generator", self.seed, about, play, (generator / RECIPE,))
        if not (self._taste / kept.WEIGHTS).is_file():  # its ranking was measured before, elsewhere
            self._trained(DVBPR(len(self.split.train.users), self.shelf.values, Settings(seed=self.seed)))
        search = {
            "as real": AS_REAL, "as near": AS_NEAR, "moves": MOVES, "neighbours": NEIGHBOURS, "apart": APART,
            "rate": RATE, "pull": PULL, "followed": FOLLOWED, "drawn": DRAWN, "steps": STEPS,
        }  # fmt: skip
        # A verdict is of one generator and one taste, not of their like.
        made = {"generator": times, "taste": hashlib.sha256((self._taste / kept.WEIGHTS).read_bytes()).hexdigest()}
        judged = [CHOSEN_BY, JUDGED, RIVALS, TOLD_USERS]
        about = {**self.protocol, **about, **made, "designs": DESIGNS, "search": search, "judged": judged}
        return self.bench.arm("designs", self.seed, about, work, (picture,))

    @property
    def _taste(self) -> Path:
        return self.bench.runs / self.bench.name / f"taste-seed{self.seed}"

    def _judged(self, studio: Studio, model: DVBPR, picture: Path) -> Result:
        train, shelf, quick = self.split.train, self.shelf, self.bench.quick  # the taste is of `train` alone
        assert shelf.labels is not None
        users = np.random.default_rng(self.seed).permutation(len(train.users))
        users = users[:4] if quick else users[CHOSEN_BY : CHOSEN_BY + JUDGED]
        found_of = defaultdict[str, list[bool | float]](list)
        firsts, rows = list[np.ndarray](), list[np.ndarray]()
        told_truth = set(users[:TOLD_USERS].tolist())
        scores = model.scores(users, shelf.values)
        for user, score in zip(users.tolist(), scores, strict=True):
            taken = train.item[train.user == user]
            score[taken] = -np.inf
            scorer = UserScorer(model, user)
            rivals = np.argsort(-score)[:RIVALS]
            worth = steady(scorer, scale(shelf.values[rivals], torch.float32, CPU))
            best = rivals[[int(worth.argmax()), 0]]
            liked, highest = self.shoppers.preference(user, shelf.values[best], shelf.labels[best])
            search = partial(studio.design, n=DESIGNS, seed=user, drawn=1_000 if quick else DRAWN, steps=STEPS)
            found = search(scorer)
            assert found.label is not None
            # The first is the recommender's own choice: that one is judged, not the best of four by the truth.
            first, asked = found.images[:1], found.label[:1].numpy()
            truth, item = self._truth(user, first)[0], self._is_item(first)
            found_of["better"].append(item and truth > liked)
            found_of["over_highest"].append(item and truth > highest)
            found_of["asked"].append(item and self.shoppers.preference(user, first, asked)[0] > liked)
            found_of["liked"].append(liked)
            found_of["truth"].append(truth)
            found_of["gain"].append(truth - liked)
            found_of["shown"].append(bool(self.judging.classes(first) == asked))
            if user in told_truth:
                told = search(lambda x, user=user: self._truth(user, to_uint8(x))).images[:1]
                truth, item = self._truth(user, told)[0], self._is_item(told)
                every = self.shoppers.preference(user, shelf.values, shelf.labels)[np.isfinite(score)]
                found_of["known_better"].append(item and truth > liked)
                found_of["known_best"].append(item and truth > every.max())
                found_of["known_gain"].append(truth - liked)
            firsts.append(first)
            if len(rows) < SHOWN * (3 + DESIGNS):
                rows += [*shelf.values[taken[:3]], *found.images]
        pictures.save_png(
            pictures.grid(np.stack(rows), columns=3 + DESIGNS), picture, {"zerosum": "generated", "left": "items taken"}
        )
        near, usual = self.judging.distances(np.concatenate(firsts)), self.judging.usual
        bounds = binomial(int(sum(found_of["better"])), len(users))
        return {
            **{name: float(np.mean(found)) for name, found in found_of.items()},
            "low": bounds.low, "high": bounds.high,
            "far": float((near[:, -1] > usual[:, -1].median()).double().mean()),
            "outside": float((near[:, -1] > self.judging.outside).double().mean()),
            "copies": float((near[:, 0] < usual[:, 0].quantile(0.01)).double().mean()),
            "users": len(users), "judge": self.judging.accuracy,
        }  # fmt: skip

    def _truth(self, user: int, images: np.ndarray) -> np.ndarray:
        """What the user thinks of images uint8 (n, C, H, W) of the classes that the judge sees in them, (n,)."""
        return self.shoppers.preference(user, images, self.judging.classes(images))

    def _is_item(self, image: np.ndarray) -> bool:
        """What is no item any more wins nothing."""
        return float(self.judging.distances(image)[0, -1]) <= self.judging.outside


def _packed(found: Places) -> str:
    """The AUC of every interaction in ten-thousandths, user by user: `3:9120,8714 4:10000 ...`."""
    whole = (10_000 * found.auc).round().astype(int)
    each = {int(user): ",".join(map(str, whole[found.user == user])) for user in np.unique(found.user)}
    return " ".join(f"{user}:{areas}" for user, areas in each.items())


def _unpacked(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The inverse: areas and users, each (interactions,)."""
    users, areas = list[int](), list[float]()
    for part in text.split():
        user, _, own = part.partition(":")
        found = [int(area) / 10_000 for area in own.split(",")]
        users += [int(user)] * len(found)
        areas += found
    return np.array(areas), np.array(users)


def _gained(before: Result, after: Result) -> Result:
    """What the AUC gains from one ranking of the same interactions to another."""
    (old, users), (new, same) = _unpacked(before["of_users"]), _unpacked(after["of_users"])
    assert np.array_equal(users, same)
    gain, within = float((new - old).mean()), half_interval(new - old, users)
    return {"gain": gain, "low": gain - within, "high": gain + within}


def _rate(name: str, quick: bool) -> Result:
    """Triplets a second of 2,000 users and 20,000 items, drawn and learned from."""
    random = np.random.default_rng(0)
    users, items, n = 2_000, 20_000, 200_000
    names = tuple(map(str, range(users))), tuple(map(str, range(items)))
    known = Interactions(random.integers(0, users, n), random.integers(0, items, n), np.arange(n, dtype=float), *names)
    drawn = Triplets(known, 0)
    model: BPR | VBPR = (
        BPR(users, items) if name == "BPR" else VBPR(users, random.standard_normal((items, 1_280)).astype(np.float32))
    )
    batch, seconds = 8_192, 0.2 if quick else 5.0
    with kept_memory():  # as in training
        model.step(*drawn.draw(batch))
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            model.step(*drawn.draw(batch))
            done += batch
        return {"rate": done / (time.perf_counter() - began), "threads": torch.get_num_threads()}
