"""The detection explorer's chances are the binomial's, in picture and words."""

import math

import pytest
from scipy.stats import binom

from kdref.lab.widgets.provenance import LEVEL, MOST, START, detection, detection_explorer, detection_figure
from tests import checks


@pytest.mark.parametrize("pairs", [1, 6, 7, 50, 200, 999])
@pytest.mark.parametrize(("share", "strength"), [(0.0, 2.0), (0.2, 2.0), (1.0, 0.0), (1.0, 3.0)])
def test_chances_add_up_from_single_outcomes(pairs: int, share: float, strength: float) -> None:
    found = detection(pairs, share, strength)
    marked = math.exp(strength) / (1 + math.exp(strength))
    assert found.green == pytest.approx((1 - share) * 0.5 + share * marked)
    chance = [math.comb(pairs, i) / 2**pairs for i in range(pairs + 1)]
    assert sum(chance[found.needed :]) <= LEVEL  # so many are enough
    assert sum(chance[found.needed - 1 :]) > LEVEL  # and one less is not
    assert found.found == pytest.approx(sum(binom.pmf(i, pairs, found.green) for i in range(found.needed, pairs + 1)))
    assert 0 < found.p_value <= 1


def test_a_student_that_never_saw_the_mark_is_accused_in_one_of_a_hundred_at_most() -> None:
    for pairs in (7, 30, 300, 1000):
        assert detection(pairs, 0.0, 2.0).found <= LEVEL
        assert detection(pairs, 1.0, 0.0).found <= LEVEL
    assert detection(6, 1.0, 4.0) == (pytest.approx(0.982, abs=1e-3), 7, 0.0, pytest.approx(1 / 64))  # too short


def test_more_text_more_mark_and_more_strength_give_it_away() -> None:
    found = [detection(*case).found for case in ((100, 0.2, 2.0), (400, 0.2, 2.0), (400, 0.5, 2.0), (400, 0.5, 4.0))]
    assert found == sorted(found)
    assert detection(388, 0.2, 2.0).p_value == pytest.approx(0.00135, rel=0.05)  # z is 3 there: exercise 16.5


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ((0, 0.2, 2.0), "pairs must be a whole number, at least 1, got 0"),
        ((2.5, 0.2, 2.0), r"pairs must be a whole number, at least 1, got 2\.5"),
        ((10, 1.2, 2.0), r"share must be from 0 to 1, got 1\.2"),
        ((10, 0.2, -1.0), "strength must be finite and at least 0, got -1"),
    ],
)
def test_what_can_not_be_is_named(case: tuple[float, float, float], message: str) -> None:
    pairs, share, strength = case
    with pytest.raises(ValueError, match=message):
        detection(pairs, share, strength)  # type: ignore[arg-type]  # 2.5 pairs are the point


def test_sliders_move_the_picture_and_the_words() -> None:
    panel = detection_explorer()
    pairs, share, strength, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (pairs.value, share.value, strength.value) == START
    assert line.value == (
        "green words 57.6 % · found (p below 1 %) in 42.9 % of such texts · p-value of a middling one 0.02"
    )
    share.value = 0.0
    assert line.value.startswith("green words 50.0 % · found (p below 1 %) in 1.0 % of such texts")
    checks.check_sliders_answer(detection_explorer(), {0: 600, 1: 0.6, 2: 1.0})


def test_the_static_figure_draws_both_students_and_the_curve() -> None:
    counts, power = detection_figure(50, 0.5, 2.0).axes
    never, student, border = counts.lines
    assert list(never.get_ydata()) == pytest.approx(list(binom.pmf(range(51), 50, 0.5)))
    found = detection(50, 0.5, 2.0)
    assert list(student.get_ydata()) == pytest.approx(list(binom.pmf(range(51), 50, found.green)))
    assert border.get_xdata()[0] == pytest.approx((found.needed - 0.5) / 50)
    curve, point, alarms = power.lines
    assert curve.get_xdata()[-1] == MOST
    assert curve.get_ydata()[-1] == pytest.approx(detection(MOST, 0.5, 2.0).found)
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (50, pytest.approx(found.found))
    assert list(alarms.get_ydata()) == [LEVEL, LEVEL]


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = detection_explorer()._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Detection explorer: run this cell, then choose")
