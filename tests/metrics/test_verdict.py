"""The verdict: each sentence where its measurement has left the floor, and none where it has not."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest

from zerosum.metrics.intervals import Interval, fewer
from zerosum.metrics.measurement import Measurement, Protocol
from zerosum.metrics.verdict import Share, verdict

PROTOCOL = Protocol(
    metric="Frechet distance", extractor="e", weights="0" * 64, preparation="none", real="real", real_sha256="1" * 64,
    n_real=100, n_fake=100, real_lossy=False, fake_lossy=False, seed=0,
)  # fmt: skip


def interval(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half, 0.95, "given")


def measured(metric: str, value: float, floor: float, better: str = "lower") -> Measurement:
    found = interval(value)
    return Measurement(
        value=value, low=found.low, high=found.high, level=0.95, how="given", floor=interval(floor),
        better=better, protocol=replace(PROTOCOL, metric=metric),  # type: ignore[arg-type]
    )  # fmt: skip


NOISY = ("grain", measured("grain", 2.0, 0.0))
BLURRED = ("detail", measured("fine detail", -2.0, 0.0, "higher"))
RARE = {"detail": 1e-9, "grain": 1e-9}


def share(real: float, fake: float, p_value: float = 1e-9) -> Share:
    return Share("coat", interval(real, 0.01), interval(fake, 0.01), p_value)


def kinds(*given: tuple[str, Measurement], **named: object) -> list[str]:
    return [f.kind for f in verdict(dict(given), **named)]  # type: ignore[arg-type]


def test_what_is_like_real_gets_one_sentence() -> None:
    like = [
        ("frechet", measured("Frechet distance", 0.3, 0.2)),
        ("detail", measured("fine detail", 0.1, 0.0, "higher")),
    ]
    assert kinds(*like, shares=[share(0.1, 0.09)], p_values={"copies": 0.2, "class balance": 0.3}) == ["nothing found"]
    assert kinds() == ["cannot say"], "nothing was measured"


@pytest.mark.parametrize(("value", "found"), [(-2.0, "blur"), (2.0, "nothing found"), (-0.3, "nothing found")])
def test_fine_detail_names_blur(value: float, found: str) -> None:
    (finding,) = verdict({"detail": measured("fine detail", value, 0.0, "higher")}, p_values=RARE)
    assert finding.kind == found
    assert found == "nothing found" or "4.0 times less" in finding.text


@pytest.mark.parametrize(("value", "found"), [(2.0, "noise"), (-2.0, "nothing found"), (0.2, "nothing found")])
def test_grain_names_noise_but_not_beside_blur(value: float, found: str) -> None:
    grain = ("grain", measured("grain", value, 0.0))
    assert kinds(grain, p_values=RARE) == [found]
    assert kinds(grain, BLURRED, p_values=RARE) == ["blur"]


@pytest.mark.parametrize("key", ["grain", "detail"])
def test_blur_and_noise_that_chance_explains_are_not_named(key: str) -> None:
    far = {"grain": NOISY, "detail": BLURRED}[key]
    assert kinds(far, p_values={key: 0.002}) == ["nothing found"]
    assert kinds(far) == ["nothing found"]
    wide = replace(far[1], low=-9.0, high=9.0)
    assert kinds((key, wide), p_values={key: 1e-9}) != ["nothing found"], "the test of single images has its own power"


@pytest.mark.parametrize(("spoilt", "kind"), [("detail", "blur"), ("grain", "noise")])
def test_classes_of_spoilt_images_are_not_judged(spoilt: str, kind: str) -> None:
    """A classifier misreads them; labels do not."""
    far = {"grain": NOISY, "detail": BLURRED}[spoilt]
    p_values = {spoilt: 1e-9, "class balance": 1e-9}
    found = verdict(dict([far]), [share(0.1, 0.0)], p_values)
    assert [f.kind for f in found] == [kind, "cannot say"]
    assert "Class shares cannot be judged" in found[1].text
    assert kinds(far, shares=[share(0.1, 0.09)], p_values=p_values) == [kind, "cannot say"]
    assert kinds(far, shares=[share(0.1, 0.09, 0.5)], p_values={spoilt: 1e-9}) == [kind]
    assert kinds(far, shares=[share(0.1, 0.0)], p_values=p_values, guessed=False) == ["mode dropping", kind]


def test_little_coverage_of_spoilt_images_is_no_missing_variety() -> None:
    low = ("coverage", measured("coverage", 0.5, 0.9, "higher"))
    found = verdict(dict([low, NOISY]), p_values=RARE)
    assert [f.kind for f in found] == ["noise", "cannot say"]
    assert "Missing variety cannot be judged: 50.0 %" in found[1].text


def test_a_distance_beyond_its_floor_is_said_and_nothing_on_the_good_side() -> None:
    assert kinds(("frechet", measured("Frechet distance", 1.0, 0.2))) == ["differs"]
    assert kinds(("frechet", measured("Frechet distance", 0.1, 0.9))) == ["nothing found"]
    assert kinds(("kernel", measured("kernel distance", 1.0, 0.2))) == ["differs"]


@pytest.mark.parametrize("key", ["precision", "recall", "coverage"])
@pytest.mark.parametrize(("value", "found"), [(0.5, "differs"), (0.69, "nothing found"), (1.2, "nothing found")])
def test_samples_short_of_the_floor_are_told_where_no_distance_is(key: str, value: float, found: str) -> None:
    """By its interval's reach (0.1 on either side) and more; and once only."""
    short, shares = (key, measured(key, value, 0.9 if value < 0.6 else 0.8, "higher")), [share(0.1, 0.1)]
    assert kinds(short, shares=shares) == [found]
    far = ("frechet", measured("Frechet distance", 3.0, 0.2))
    assert kinds(short, far, shares=shares) == ["differs"]


def test_intervals_that_touch_say_nothing_and_without_any_nothing_can_be_said() -> None:
    assert kinds(("frechet", measured("Frechet distance", 0.35, 0.2))) == ["nothing found"]
    bare = replace(measured("Frechet distance", 9.0, 0.2), low=None, high=None, level=None)
    assert kinds(("frechet", bare)) == ["cannot say"]
    assert kinds(("frechet", replace(measured("Frechet distance", 9.0, 0.2), floor=None))) == ["cannot say"]
    assert kinds(("frechet", bare), ("kernel", measured("kernel distance", 0.2, 0.2))) == ["nothing found"]


def test_a_missing_class_is_named_and_a_rarer_one_is_not_called_missing() -> None:
    (found,) = verdict({}, [share(0.1, 0.1), share(0.1, 0.02)])
    assert found.kind == "mode dropping"
    assert "coat (2.0 %, real 10.0 %)" in found.text
    assert kinds(shares=[share(0.1, 0.07)]) == ["nothing found"]
    assert kinds(shares=[share(0.1, 0.01, p_value=0.01)]) == ["nothing found"]
    assert kinds(shares=[share(0.1, 0.07)], p_values={"class balance": 1e-6}) == ["class shares"]


def test_without_classes_coverage_tells_missing_variety() -> None:
    low = ("coverage", measured("coverage", 0.5, 0.9, "higher"))
    assert kinds(low) == ["mode dropping"]
    assert kinds(low, shares=[share(0.1, 0.1)]) == ["differs"]
    assert kinds(("coverage", measured("coverage", 0.9, 0.5, "higher"))) == ["nothing found"]


def test_classes_that_were_asked_for_do_not_hide_missing_variety() -> None:
    low = ("coverage", measured("coverage", 0.5, 0.9, "higher"))
    assert kinds(low, shares=[share(0.1, 0.1)], guessed=False) == ["mode dropping"]


@pytest.mark.parametrize(("value", "found"), [(0.5, "wrong classes"), (0.75, "nothing found"), (0.95, "nothing found")])
def test_another_class_than_was_asked_for_is_told(value: float, found: str) -> None:
    agreement = ("agreement", measured("label agreement", value, 0.8, "higher"))
    assert kinds(agreement, shares=[share(0.1, 0.1)], guessed=False) == [found]


def test_samples_off_the_data_are_not_called_missing_variety() -> None:
    """Between the modes: little is covered, and yet all of it is reached."""
    coverage, precision = (
        ("coverage", measured("coverage", 0.5, 0.9, "higher")),
        ("precision", measured("precision", 0.3, 0.9, "higher")),
    )
    assert kinds(coverage, precision, ("recall", measured("recall", 0.9, 0.9, "higher"))) == ["differs"]
    assert kinds(coverage, precision, ("recall", measured("recall", 0.3, 0.9, "higher"))) == ["mode dropping"]


def test_a_flat_image_gets_no_absurd_number() -> None:
    (finding,) = verdict({"detail": measured("fine detail", -24.0, 0.0, "higher")}, p_values=RARE)
    assert "over 1,024 times less power" in finding.text


def test_copies_are_named_or_set_aside_where_blur_explains_them() -> None:
    copies = ("copies", measured("copies", 0.06, 0.01))
    assert kinds(copies, p_values={"copies": 1e-9}) == ["copies"]
    assert kinds(copies, p_values={"copies": 0.01}) == ["nothing found"]
    assert kinds(copies, BLURRED, p_values={"copies": 1e-9, **RARE}) == ["blur", "cannot say"]


def test_fewer_is_the_hypergeometric_tail() -> None:
    def ways(k: int) -> float:
        return comb(10, k) * comb(20, 7 - k) / comb(30, 7)

    assert fewer(2, 10, 5, 20) == pytest.approx(ways(0) + ways(1) + ways(2))
    assert fewer(10, 10, 20, 20) == pytest.approx(1)
