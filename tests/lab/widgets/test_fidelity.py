"""The overlap explorer's four shares have the accuracies and the κ that were asked for, in picture and words."""

import itertools

import pytest

from kdref.lab.widgets.fidelity import PARTS, START, floor, overlap, overlap_explorer, overlap_figure, possible
from tests import checks

ACCURACIES = tuple(itertools.product((0.0, 0.3, 0.55, 0.8, 1.0), repeat=2))


@pytest.mark.parametrize(("student", "teacher"), ACCURACIES)
@pytest.mark.parametrize("kappa", [-1.0, -0.1, 0.0, 0.4, 1.0])
def test_shares_have_the_accuracies_and_the_consistency(student: float, teacher: float, kappa: float) -> None:
    found = overlap(student, teacher, kappa)
    both, only_student, only_teacher, neither = found.shares
    assert min(found.shares) >= 0
    assert sum(found.shares) == pytest.approx(1)
    assert both + only_student == pytest.approx(student)
    assert both + only_teacher == pytest.approx(teacher)
    expected = student * teacher + (1 - student) * (1 - teacher)
    if expected < 1:
        assert (both + neither - expected) / (1 - expected) == pytest.approx(found.consistency)
    lowest, highest = possible(student, teacher)
    assert lowest <= found.consistency <= highest
    if lowest <= kappa <= highest:
        assert found.consistency == kappa


def test_an_impossible_consistency_leaves_one_part_empty() -> None:
    # at the highest κ the better network is never wrong alone; at the lowest the two avoid each other's errors
    assert overlap(0.8, 0.9, 1.0).shares == pytest.approx((0.8, 0.0, 0.1, 0.1))
    assert overlap(0.8, 0.9, -1.0).shares == pytest.approx((0.7, 0.1, 0.2, 0.0))
    assert overlap(0.4, 0.3, -1.0).shares == pytest.approx((0.0, 0.4, 0.3, 0.3))
    assert overlap(0.8, 0.9, 1.0).consistency == pytest.approx((0.9 - 0.74) / 0.26)


def test_independent_errors_agree_as_the_products_say() -> None:
    assert overlap(0.8, 0.7, 0.0).shares == pytest.approx((0.56, 0.24, 0.14, 0.06))
    assert floor(0.8, 0.7) == pytest.approx(0.62)
    assert overlap(0.8, 0.7, 0.0).agreement == pytest.approx(0.62)
    assert possible(1.0, 1.0) == possible(0.0, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(("student", "teacher"), [(1.1, 0.5), (-0.1, 0.5)])
def test_an_accuracy_is_a_share(student: float, teacher: float) -> None:
    with pytest.raises(ValueError, match=f"student_accuracy must be from 0 to 1, got {student:g}"):
        overlap(student, teacher, 0.0)
    with pytest.raises(ValueError, match=f"teacher_accuracy must be from 0 to 1, got {student:g}"):
        overlap(teacher, student, 0.0)


def test_sliders_move_the_picture_and_the_words() -> None:
    panel = overlap_explorer()
    student, teacher, kappa, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (student.value, teacher.value, kappa.value) == START
    assert line.value == "agreement in right and wrong 81.8 % · with independent errors 74.0 % · κ 0.30"
    kappa.value = 0.0
    assert line.value == "agreement in right and wrong 74.0 % · with independent errors 74.0 % · κ 0.00"
    kappa.value = 0.9
    assert line.value == (
        "agreement in right and wrong 90.0 % · with independent errors 74.0 % · κ 0.62"
        " · κ 0.90 is not possible with these accuracies, only from -0.15 to 0.62"
    )
    student.value = teacher.value = 1.0
    assert line.value.endswith("κ 0.00 · κ 0.90 is not possible with these accuracies, only 0.00")
    checks.check_sliders_answer(overlap_explorer(), {0: 0.6, 1: 0.7, 2: 0.1})


def test_the_static_figure_draws_the_four_shares_and_the_floor() -> None:
    bars, total = overlap_figure(0.8, 0.7, 0.5).axes
    found = overlap(0.8, 0.7, 0.5)
    assert [patch.get_height() for patch in bars.patches] == pytest.approx(list(found.shares))
    assert [float(line.get_ydata()[0]) for line in bars.lines] == pytest.approx([0.56, 0.24, 0.14, 0.06])
    assert [label.get_text() for label in bars.get_xticklabels()] == list(PARTS)
    assert total.patches[0].get_height() == pytest.approx(found.agreement)
    assert float(total.lines[0].get_ydata()[0]) == pytest.approx(0.62)
    assert found.agreement == pytest.approx(0.62 + 0.5 * 0.38)


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = overlap_explorer()._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Overlap explorer: run this cell, then choose")
