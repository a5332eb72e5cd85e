"""The triangle answers when it is moved, and says with the losses what a learner should see."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from kdref.lab.widgets import Panel
from kdref.lab.widgets_triangle import CORNERS, start_positions, triangle_explorer
from kdref.relation_rkd import rkd_angle_loss, rkd_distance_loss

TEACHER = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [-2.0, 2.0]])  # sides 4, 5 and 3
LOSSES = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}


def panel() -> tuple[Any, Any, Any, Any, Any, Any]:
    start, corner, x, y, chart, line = triangle_explorer(TEACHER, LOSSES).children
    return start, corner, x, y, chart, line


def said(line: Any) -> tuple[float, float]:
    distance, angle = re.match(r"distance loss ([\d.]+); angle loss ([\d.]+)\. ", line.value).groups()
    return float(distance), float(angle)


def test_it_starts_where_both_agree_and_names_sides_and_angles() -> None:
    *_, chart, line = panel()
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert line.value == (
        "distance loss 0.0000; angle loss 0.0000. "
        "Student: AB = 4.0, BC = 5.0, CA = 3.0, angle at A 90°, angle at B 37°, angle at C 53°."
    )


def test_moving_a_corner_changes_picture_and_text_and_moving_it_back_restores_them() -> None:
    _, corner, x, _, chart, line = panel()
    before = bytes(chart.value), line.value
    corner.value = "B"
    assert (bytes(chart.value), line.value) == before
    assert x.value == 2
    x.value = -1
    assert bytes(chart.value) != before[0]
    assert min(said(line)) > 0
    assert "AB = 1.0" in line.value
    x.value = 2
    assert (bytes(chart.value), line.value) == before


def test_only_the_chosen_corner_moves() -> None:
    _, corner, x, y, _, line = panel()
    corner.value = "C"
    x.value, y.value = 2, 3
    assert "AB = 4.0" in line.value
    corner.value = "A"
    assert (x.value, y.value) == (-2, -1)


@pytest.mark.parametrize("name", list(start_positions(TEACHER)))
def test_relations_see_shape_and_order_and_nothing_else(name: str) -> None:
    start, _, _, _, chart, line = panel()
    before = bytes(chart.value)
    start.value = name
    assert (max(said(line)) == 0) == (name not in {"stretched", "two examples swapped"})
    assert (bytes(chart.value) == before) == (name == "the teacher's")


def test_a_start_replaces_what_was_moved_and_leaves_the_starts_alone() -> None:
    start, _, x, y, _, line = panel()
    x.value = 4
    start.value = "turned"
    assert said(line) == (0, 0)
    assert torch.tensor([x.value, y.value]).equal(start_positions(TEACHER)["turned"][0])
    x.value = -4
    start.value = "moved"
    start.value = "turned"
    assert said(line) == (0, 0)


def test_corners_on_top_of_each_other_have_no_angle() -> None:
    _, _, x, _, _, line = panel()
    x.value = 2
    assert "AB = 0.0" in line.value
    assert [corner for corner in CORNERS if f"angle at {corner}" in line.value] == ["C"]


def test_explorer_leaves_the_teacher_alone_and_takes_no_other_shape() -> None:
    teacher: Tensor = TEACHER.clone()
    _, _, x, _, _, _ = triangle_explorer(teacher, LOSSES).children
    x.value = 1
    assert torch.equal(teacher, TEACHER)
    with pytest.raises(ValueError, match=r"three corners of two coordinates, \(3, 2\), got \(2, 3\)"):
        triangle_explorer(torch.zeros(2, 3), LOSSES)


def test_readers_without_a_kernel_get_a_sentence() -> None:
    shown = triangle_explorer(TEACHER, LOSSES)
    assert isinstance(shown, Panel)
    assert shown._repr_mimebundle_()["text/plain"].startswith("Triangle explorer: run this cell")
