"""Recommenders: what is read, how it is split and ranked, and that each learns what it can."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from zerosum.applications import recommend, taste
from zerosum.applications.recommend import (
    BPR,
    DVBPR,
    TINY,
    VBPR,
    Dense,
    Look,
    Rows,
    Settings,
    Triplets,
    at_best,
    popularity,
    train,
    train_on_all,
)
from zerosum.applications.taste import Interactions, places, ranking, read, split
from zerosum.commands.recommend import _known
from zerosum.errors import UserError

USERS, ITEMS, SIDE = 40, 60, 8


def looks() -> np.ndarray:
    """Items of two kinds, bright above or bright below, with noise: uint8 (ITEMS, 1, 8, 8)."""
    random = np.random.default_rng(0)
    images = random.integers(0, 60, (ITEMS, 1, SIDE, SIDE), dtype=np.uint8)
    for i in range(ITEMS):
        half = slice(0, SIDE // 2) if i % 2 else slice(SIDE // 2, None)
        images[i, 0, half] += 150
    return images


def by_look(items: int = ITEMS, cold: int = 10) -> Interactions:
    """Even users take even items, odd ones odd ones; the last `cold` items only at the very end."""
    random = np.random.default_rng(1)
    user, item, time = [], [], []
    for u in range(USERS):
        warm = [i for i in range(items - cold) if i % 2 == u % 2]
        last = [i for i in range(items - cold, items) if i % 2 == u % 2]
        chosen = [*random.permutation(warm)[:10].tolist(), int(random.choice(last))]
        user += [u] * len(chosen)
        item += chosen
        time += range(len(chosen))
    names = tuple(f"u{i}" for i in range(USERS)), tuple(f"{i}.png" for i in range(items))
    return Interactions(np.array(user), np.array(item), np.array(time), *names)


# ---- reading -------------------------------------------------------------------------------------------


def test_items_without_an_image_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    table = tmp_path / "taken.csv"
    table.write_text("user,item,time\nann,a,1\nbob,gone,2\nann ,gone,3\n cid,b,4\n")
    found = read(table, ["a.png", "b.png"], skip_unknown=True)
    assert found.users == ("ann", "cid"), "bob took nothing else"
    assert found.unknown == {"gone": 2}
    assert (found.user.tolist(), found.item.tolist(), found.time.tolist()) == ([0, 1], [0, 1], [1, 4])
    with pytest.raises(UserError, match="there is an image of none of its items"):
        read(table, ["c.png"], skip_unknown=True)


def test_a_table_is_read_whatever_its_columns_are_called(tmp_path: Path) -> None:
    table = tmp_path / "bought.csv"
    table.write_text("Timestamp,customer,image\n3,ann,tops/a.png\n1,bob,b\n2.5,ann,b.png\n")
    found = read(table, ["tops/a.png", "tops/b.png"])
    assert found.users == ("ann", "bob")
    assert found.user.tolist() == [0, 1, 0]
    assert found.item.tolist() == [0, 1, 1]
    assert found.time.tolist() == [3, 1, 2.5]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("user,item\na,b\n", "has no column time"),
        ("user,item\na,b,3\n", "has no column time; it has user, item; call"),
        ("user,item,time\na,c.png,1\n", "line 2: there is no image 'c.png'"),
        ("user,item,time\na,a.png,soon\n", "line 2: time 'soon' is no number"),
        ("user,item,time\na,a.png\n", "line 2: does not have a user, an item and a time"),
        ("user,item,time\n,a.png,3\n", "line 2: does not have"),
        ("user,item,time\na,a.png,1,9\n", "line 2: does not have"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, text: str, why: str) -> None:
    table = tmp_path / "bought.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=why):
        read(table, ["a.png"])


# ---- splitting and ranking -----------------------------------------------------------------------------


def test_the_last_two_are_measured_with_and_the_one_before_chosen_by() -> None:
    found = split(by_look())
    assert len(found.test) == 2 * USERS
    assert len(found.validation) == USERS
    assert len(found.train) == 8 * USERS
    for u in range(USERS):
        times = [part.time[part.user == u] for part in (found.train, found.validation, found.test)]
        assert times[0].max() < times[1].min()
        assert times[1].max() < times[2].min()
    assert found.cold[-10:].all(), "nobody has taken them before"
    few = by_look().of(np.arange(3))
    with pytest.raises(UserError, match="no user has 4 interactions"):
        split(few)


def test_what_is_taken_again_counts_the_first_time() -> None:
    names = ("u",), tuple("abcdef")
    item = np.array([0, 1, 2, 0, 3, 0, 4])
    found = split(Interactions(np.zeros(7, dtype=int), item, np.arange(7.0), *names))
    assert found.train.item.tolist() == [0, 1]
    assert found.validation.item.tolist() == [2]
    assert found.test.item.tolist() == [3, 4]


def test_training_ends_as_it_was_at_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    found = split(by_look())
    model = BPR(USERS, ITEMS, Settings(factors=4))
    areas = iter([0.6, 0.9, 0.5, 0.4, 0.3, 0.2])
    seen: list[torch.Tensor] = []

    def stands(*args: object) -> taste.Ranking:
        seen.append(model.user.value.clone())
        return taste.Ranking(next(areas), 0.0, 5)

    monkeypatch.setattr(recommend, "ranking", stands)
    looks = train(model, found, triplets=60_000, looks=6)
    assert len(looks) == 5, "three looks without a gain"
    assert torch.equal(model.user.value, seen[1])


def test_the_best_look_is_the_first_of_the_best_and_the_last_where_nothing_is_chosen_by() -> None:
    looks = [Look(i + 1, 10 * (i + 1), 0.5, taste.Ranking(auc, 0.0, 5)) for i, auc in enumerate((0.6, 0.9, 0.9, 0.7))]
    assert at_best(looks).triplets == 20
    blind = [Look(i + 1, 10 * (i + 1), 0.5, taste.Ranking(float("nan"), float("nan"), 0)) for i in range(3)]
    assert at_best(blind).triplets == 30


@pytest.mark.parametrize("steps", [1, 3, 11])
def test_nothing_is_best_before_it_has_learned(steps: int) -> None:
    found = train(DVBPR(USERS, looks(), Settings(factors=3)), split(by_look()), steps=steps)
    assert [look.steps for look in found] == sorted({look.steps for look in found})
    assert found[0].steps >= 1
    assert at_best(found).steps >= 1


def test_what_is_kept_is_learned_from_what_was_held_out_too() -> None:
    found = split(by_look())
    held, all_of_it = (BPR(USERS, ITEMS, Settings(factors=4)) for _ in range(2))
    train(held, found, triplets=20_000, looks=1)
    train_on_all(all_of_it, found, steps=3)
    taken = np.unique(by_look().item)
    assert found.cold[taken].any()
    assert (held.item.sum.numpy()[found.cold] == 0).all()
    assert (all_of_it.item.sum.numpy()[taken] > 0).all()


def test_ranking_by_hand() -> None:
    known = Interactions(np.array([0]), np.array([0]), np.array([0]), ("u",), tuple("abcde"))
    held = Interactions(np.array([0]), np.array([2]), np.array([1]), ("u",), tuple("abcde"))
    among = np.ones(5, dtype=bool)
    scores = np.array([[9.0, 1.0, 3.0, 4.0, 0.0]])
    found = ranking(lambda users: scores[users], held, known, among)
    assert found.auc == pytest.approx(2 / 3), "b and e stand below, d above; a was taken"
    assert found.ndcg == pytest.approx(1 / np.log2(3))
    assert found.count == 1
    among[3] = False
    assert ranking(lambda users: scores[users], held, known, among).auc == 1
    tied = ranking(lambda users: np.zeros((1, 5)), held, known, np.ones(5, dtype=bool))
    assert tied.auc == 0.5


def test_an_item_without_another_is_not_ranked() -> None:
    """It would be first of one: as good as can be, whatever the scores."""
    names = ("ann", "bob"), tuple("abc")
    known = Interactions(np.array([0]), np.array([1]), np.array([0]), *names)
    held = Interactions(np.array([0, 1]), np.array([2, 2]), np.array([1, 1]), *names)
    scores = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    found = places(lambda users: scores[users], held, known, np.array([False, True, True]))
    assert (found.user.tolist(), found.auc.tolist()) == ([1], [0.0]), "ann has taken the only other one"
    assert found.ranking.count == 1
    alone = ranking(lambda users: scores[users], held, known, np.array([False, False, True]))
    assert alone.count == 0
    assert np.isnan(alone.auc)


def test_the_interval_of_a_ranking_is_over_users() -> None:
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(50), 2)
    each = random.normal(size=50)[user]  # both of a user's alike: as if there were 50
    within = taste.half_interval(each, user)
    alone = taste.half_interval(each[::2], np.arange(50))
    assert within == pytest.approx(alone, rel=1e-9)
    assert alone == pytest.approx(2.0096 * each[::2].std(ddof=1) / np.sqrt(50), rel=1e-4)
    assert np.isnan(taste.half_interval(np.ones(2), np.zeros(2, dtype=int)))


def test_triplets_are_of_what_was_taken_and_what_was_not() -> None:
    known = split(by_look()).train
    taken = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
    u, i, j = Triplets(known, 0).draw(5_000)
    assert all(pair in taken for pair in zip(u.tolist(), i.tolist(), strict=True))
    assert not any(pair in taken for pair in zip(u.tolist(), j.tolist(), strict=True))
    again = Triplets(known, 0).draw(5_000)
    assert torch.equal(again[2], j)


def test_a_few_items_are_looked_at_once_for_all_triplets_among_them() -> None:
    known = split(by_look()).train
    taken = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
    triplets, times = Triplets(known, 0), np.zeros(ITEMS, dtype=int)
    for _ in range(2):  # all of 50 items in two goes of 25
        u, i, j = triplets.among(25, others=20)
        here = np.unique(i)
        assert len(here) == 25
        assert np.isin(j, here).all()
        pairs = list(zip(u.tolist(), i.tolist(), strict=True))
        assert set(pairs) == {pair for pair in taken if pair[1] in here}, "whoever took one of them"
        assert max(pairs.count(pair) for pair in set(pairs)) <= 20
        assert not any(pair in taken for pair in zip(u.tolist(), j.tolist(), strict=True))
        times[here] += 1
    assert (times == np.isin(np.arange(ITEMS), known.item)).all(), "every item that was taken as often as any"
    assert len(triplets.among(25, others=3, most=10)[0]) <= 30


def test_users_who_took_nearly_everything_are_learned_from_and_those_who_took_all_are_not() -> None:
    pairs = [(0, i) for i in range(10)] + [(1, i) for i in range(9)]
    user, item = (np.array(side) for side in zip(*pairs, strict=True))
    names = tuple(f"{i}.png" for i in range(10))
    u, _, j = Triplets(Interactions(user, item, np.arange(19.0), ("all", "nearly"), names), 0).draw(500)
    assert (set(u.tolist()), set(j.tolist())) == ({1}, {9})
    few = Triplets(Interactions(user, item, np.arange(19.0), ("all", "nearly"), names), 0)
    assert {(a, c) for _ in range(9) for a, _, c in zip(*(side.tolist() for side in few.among(5)), strict=True)} == {
        (1, 9)
    }, "a go without is none"
    with pytest.raises(UserError, match="every user took every item"):
        Triplets(Interactions(user[:10], item[:10], np.arange(10.0), ("all",), names), 0)


def test_an_item_that_nobody_took_yet_has_no_factors_of_its_own() -> None:
    known = split(by_look()).train
    model, triplets = BPR(USERS, ITEMS, Settings(factors=8)), Triplets(known, 0)
    for _ in range(5):
        model.step(*triplets.draw(200))
    found = model.scores(np.arange(USERS))
    met = np.isin(np.arange(ITEMS), known.item)
    assert not met.all()
    assert (found[:, ~met] == 0).all()
    assert (found[:, met] != 0).any(0).all()
    other = BPR(USERS, ITEMS, Settings(factors=8, seed=1))
    other.load_state(model.state())
    assert np.array_equal(other.scores(np.arange(USERS)), found)


def test_how_often_an_item_is_offered_is_no_taste_of_anybody() -> None:
    """Each item is taken by its kind of users, and some by three times as many: that is beta's to say."""
    random, often = np.random.default_rng(2), np.arange(ITEMS) % 6 < 2
    pairs = [
        (u, i)
        for u in range(USERS)
        for i in range(ITEMS)
        if i % 2 == u % 2 and random.random() < (0.6 if often[i] else 0.2)
    ]
    user, item = (np.array(side) for side in zip(*pairs, strict=True))
    names = tuple(f"u{i}" for i in range(USERS)), tuple(f"{i}.png" for i in range(ITEMS))
    model, without = (DVBPR(USERS, looks(), Settings(factors=4)) for _ in range(2))
    triplets = Triplets(Interactions(user, item, np.arange(len(user), dtype=float), *names), 0)
    for _ in range(150):
        some = triplets.among()
        model.step(*some)
        without._live.bias.data.zero_()
        without.step(*some)
    beta = model.mean.bias.detach().numpy()
    assert beta[often].min() > np.median(beta[~often])
    everyone = np.arange(USERS)

    def gap(of: DVBPR) -> float:
        """How much more looks alone say of what is offered often, in standard deviations."""
        by_looks = of.scores(everyone, of.images).mean(0)
        return float((by_looks[often].mean() - by_looks[~often].mean()) / by_looks.std())

    assert gap(model) < 0.7 * gap(without)
    np.testing.assert_allclose(
        model.scores(everyone) - model.scores(everyone, model.images), np.tile(beta, (USERS, 1)), atol=1e-5
    )


# ---- learning ------------------------------------------------------------------------------------------


def test_bprs_gradient_is_that_of_its_loss() -> None:
    """One step with Adagrad's first, equal steps: along the gradient of ln sigma(x_uij) - lambda / 2 |.|^2."""
    model = BPR(5, 7, Settings(factors=3, rate=0.1, decay=0.01))
    u, i, j = torch.tensor([1]), torch.tensor([2]), torch.tensor([4])
    before = {name: getattr(model, name).value.clone() for name in ("user", "item", "bias")}
    leaves = {name: value.clone().requires_grad_() for name, value in before.items()}
    x = (leaves["user"][1] * (leaves["item"][2] - leaves["item"][4])).sum() + (leaves["bias"][2] - leaves["bias"][4])[0]
    touched = leaves["user"][1].square().sum() + leaves["item"][2].square().sum() + leaves["item"][4].square().sum()
    goal = torch.nn.functional.logsigmoid(x) - 0.01 / 2 * touched
    goal.backward()
    model.step(u, i, j)
    for name, row in (("user", 1), ("item", 2), ("item", 4), ("bias", 2), ("bias", 4)):
        gradient = leaves[name].grad[row]
        moved = getattr(model, name).value[row] - before[name][row]
        torch.testing.assert_close(moved, 0.1 * gradient / gradient.square().mean().sqrt(), rtol=1e-3, atol=1e-5)


def test_dvbprs_loss_is_that_of_its_triplets() -> None:
    images, decay = looks(), 0.01
    model = DVBPR(USERS, images, Settings(factors=3, decay=decay))
    live = model._live
    with torch.no_grad():
        live.bias.copy_(torch.randn(ITEMS, generator=torch.Generator().manual_seed(0)))
    u, i, j = torch.tensor([1, 1, 7]), torch.tensor([2, 4, 2]), torch.tensor([4, 5, 4])
    phi = live.network(torch.from_numpy(images).float() / 127.5 - 1)
    x = (live.taste.weight[u] * (phi[i] - phi[j])).sum(1) + live.bias[i] - live.bias[j]
    loss, seen, who = -torch.nn.functional.logsigmoid(x).mean(), torch.tensor([2, 4, 5]), torch.tensor([1, 7])
    lengths = (
        live.taste.weight[who].square().sum(1).mean(),
        phi[seen].square().sum(1).mean(),
        live.bias[seen].square().mean(),
    )
    expected = torch.autograd.grad(loss + decay * sum(lengths), [*live.parameters()])
    assert model.step(u, i, j) == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, gradient in zip(live.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_dvbprs_first_step_is_adams_and_only_phi_decays() -> None:
    """Adam's first step is of its rate along the gradient's sign; before it AdamW takes a share of the weights."""
    rate, live = 1e-3, (model := DVBPR(USERS, looks(), Settings(factors=3), rate=1e-3))._live
    with torch.no_grad():
        live.bias.copy_(torch.linspace(-1, 1, ITEMS))
    was = {name: p.detach().clone() for name, p in live.named_parameters()}
    model.step(torch.tensor([1, 1, 7]), torch.tensor([2, 4, 2]), torch.tensor([4, 5, 4]))
    for name, p in live.named_parameters():
        decay = recommend.WEIGHT_DECAY if name.startswith("network") else 0.0
        pace = recommend.BIAS_RATE if name == "bias" else 1.0
        expected = was[name] * (1 - rate * decay) - pace * rate * p.grad.sign()
        far = (p.grad.abs() > 1e-5) | (p.grad == 0)  # eps is nothing beside it
        assert (far & (p.grad != 0)).any()
        torch.testing.assert_close(p.detach()[far], expected[far], rtol=0, atol=2e-5, msg=name)


def test_dvbpr_ends_as_it_was_at_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DVBPR(USERS, looks(), Settings(factors=3))
    areas, seen = iter([0.6, 0.9, 0.5, 0.4, 0.3, 0.2]), list[np.ndarray]()

    def stands(*args: object) -> taste.Ranking:
        seen.append(model.scores(np.arange(USERS)))
        return taste.Ranking(next(areas), 0.0, 5)

    monkeypatch.setattr(recommend, "ranking", stands)
    found = train(model, split(by_look()), steps=12, looks=6)
    assert [look.steps for look in found] == [2, 4, 6, 8, 10], "three looks without a gain"
    assert np.array_equal(model.scores(np.arange(USERS)), seen[1]), "beta, too"


def test_dvbpr_uses_a_mean_over_its_steps() -> None:
    """Each step moves it by as much as the half-life says, which grows with the images that were seen."""
    model, triplets = DVBPR(USERS, looks(), Settings(factors=3)), Triplets(split(by_look()).train, 0)
    mean, seen = model._live.taste.weight.detach().clone(), 0
    for _ in range(5):
        some = triplets.among()
        model.step(*some)
        count = len(torch.unique(torch.cat(some[1:])))
        seen += count
        mean = mean.lerp(model._live.taste.weight.detach(), 1 - 0.5 ** (count / recommend.HALF_LIFE(seen)))
    torch.testing.assert_close(model.taste.weight, mean)
    assert not torch.equal(mean, model._live.taste.weight)


def test_a_row_that_comes_twice_moves_by_both() -> None:
    one, two = (BPR(3, 4, Settings(factors=2)) for _ in range(2))
    t = torch.tensor
    one.step(t([0, 0]), t([1, 1]), t([2, 2]))
    two.step(t([0]), t([1]), t([2]))
    assert not torch.equal(one.user.value[0], two.user.value[0])
    assert torch.equal(one.user.value[1], two.user.value[1])


def test_vbprs_gradient_is_that_of_its_loss() -> None:
    """Of the sum of ln sigma(x_uij) - lambda / 2 |factors|^2, by every parameter; E decays once, biases do not.

    How far Adagrad's first step went, and what it has summed, give back the gradient that it was given: by a row that
    of the sum, by E and beta' that of the mean. One user and two items come twice.
    """
    features = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    rate, decay = 0.1, 0.05
    model = VBPR(4, features, Settings(factors=3, rate=rate, decay=decay))
    plain = model.plain
    plain.bias.value, model.bias.value = torch.randn(6, 1), torch.randn(5)
    u, i, j = torch.tensor([1, 2, 1]), torch.tensor([2, 5, 2]), torch.tensor([4, 0, 0])
    parts: dict[str, Rows | Dense] = {
        "user": plain.user, "item": plain.item, "bias": plain.bias,
        "taste": model.taste, "embed": model.embed, "bias of looks": model.bias,
    }  # fmt: skip
    at = {name: part.value.clone().requires_grad_() for name, part in parts.items()}
    mine, taken, left, liked = at["user"][u], at["item"][i], at["item"][j], at["taste"][u]
    seen = model.features[i] - model.features[j]
    x = (mine * (taken - left)).sum(1) + (at["bias"][i] - at["bias"][j])[:, 0]
    gain = torch.nn.functional.logsigmoid(x + (liked * (seen @ at["embed"])).sum(1) + seen @ at["bias of looks"])
    lengths = sum(factors.square().sum() for factors in (mine, taken, left, liked, at["embed"]))
    (gain.sum() - decay / 2 * lengths).backward()
    assert model.step(u, i, j) == pytest.approx(-float(gain.detach().mean()), rel=1e-5)
    for name, part in parts.items():
        moved = part.value - at[name].detach()
        if isinstance(part, Rows):
            given = moved * (part.sum + TINY).sqrt()[:, None] / rate
        else:
            given = len(u) * moved * (part.sum.sqrt() + TINY) / rate
        torch.testing.assert_close(given, at[name].grad, rtol=1e-3, atol=1e-5, msg=partial("{}: {}".format, name))


@pytest.mark.parametrize("name", ["BPR", "VBPR", "DVBPR"])
def test_each_learns_what_users_like(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "BATCH", 256)
    images, found = looks(), split(by_look())
    settings = Settings(factors=8)
    model = {
        "BPR": lambda: BPR(USERS, ITEMS, settings),
        "VBPR": lambda: VBPR(USERS, images.reshape(ITEMS, -1), settings),
        "DVBPR": lambda: DVBPR(USERS, images, settings, rate=3e-3),
    }[name]()
    seen = train(model, found, triplets=1_000_000 if name == "DVBPR" else 40_000, looks=4)
    assert seen[-1].loss < seen[0].loss < 0.75
    warm = ranking(model.scores, found.test, found.train, ~found.cold)
    cold = ranking(model.scores, found.test, found.train, found.cold)
    offered = ranking(popularity(found.train), found.test, found.train, ~found.cold)
    assert warm.auc > offered.auc
    assert warm.auc > 0.6
    if name == "BPR":
        assert cold.auc < 0.7, "it has never seen them"
    else:  # of the 9 others 4 are of the same kind: 5 / 9 + 4 / 9 / 2 is the best that can be
        assert cold.auc > 0.72, "it sees what they look like"


def test_what_was_learned_depends_on_the_seed_alone() -> None:
    found = split(by_look())
    models = [BPR(USERS, ITEMS, Settings(factors=4, seed=seed)) for seed in (1, 1, 2)]
    for model in models:
        train(model, found, triplets=20_000, looks=1)
    assert torch.equal(models[0].user.value, models[1].user.value)
    assert not torch.equal(models[0].user.value, models[2].user.value)


def test_names_that_mean_two_items_mean_none() -> None:
    assert taste._numbers(["a/x.png", "b/x.png", "c/y.png"]) == {
        "a/x.png": 0, "b/x.png": 1, "c/y.png": 2, "y.png": 2, "y": 2,
    }  # fmt: skip


def test_a_ranking_of_nothing_is_written_as_null() -> None:
    known = Interactions(np.array([0]), np.array([0]), np.array([0]), ("u",), tuple("abc"))
    nothing = ranking(lambda users: np.zeros((1, 3)), known, known, np.zeros(3, dtype=bool))
    assert np.isnan(nothing.auc)
    written = json.loads(json.dumps(_known(asdict(nothing)), allow_nan=False))
    assert written == {"auc": None, "ndcg": None, "count": 0, "auc_within": None, "ndcg_within": None}
    assert _known({"auc": 0.5}) == {"auc": 0.5}
