"""The triangle answers when a corner is moved, and says with the losses what a learner should see."""

import re
from typing import Any

import pytest
import torch
import traitlets
from torch import Tensor

from kdref.lab.widgets import Panel
from kdref.lab.widgets.relation import (
    CORNERS,
    Triangle,
    draw_tables,
    draw_triangles,
    start_positions,
    triangle_explorer,
)
from kdref.relation import rkd_angle_loss, rkd_distance_loss

TEACHER = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [-2.0, 2.0]])  # sides 4, 5 and 3
LOSSES = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}


def panel() -> tuple[Any, Any, Any]:
    row, triangle = triangle_explorer(TEACHER, LOSSES).children
    start, again = row.children
    return start, again, triangle


def said(triangle: Any) -> tuple[float, float]:
    distance, angle = re.match(r"distance loss ([\d.]+); angle loss ([\d.]+)\n", triangle.text).groups()
    return float(distance), float(angle)


def with_corner(triangle: Any, letter: str, x: float, y: float) -> list[list[float]]:
    return [[x, y] if name == letter else corner for name, corner in zip(CORNERS, triangle.corners, strict=True)]


def test_it_starts_where_both_agree_and_names_sides_and_angles() -> None:
    _, _, triangle = panel()
    assert triangle.corners == triangle.teacher == TEACHER.tolist()
    assert triangle.text == (
        "distance loss 0.0000; angle loss 0.0000\n"
        "Student: AB = 4.0, BC = 5.0, CA = 3.0, angle at A 90°, angle at B 37°, angle at C 53°"
    )


def test_moving_a_corner_changes_the_text_and_moving_it_back_restores_it() -> None:
    _, _, triangle = panel()
    before = triangle.text
    triangle.corners = with_corner(triangle, "B", -1, -1)
    assert min(said(triangle)) > 0
    assert "AB = 1.0" in triangle.text
    triangle.corners = with_corner(triangle, "B", 2, -1)
    assert triangle.text == before


def test_the_losses_are_those_of_the_functions_it_was_given() -> None:
    _, _, triangle = panel()
    corners = [[0.5, -1.0], [3.0, 0.25], [-1.0, 2.0]]
    triangle.corners = corners
    expected = [loss(torch.tensor(corners), TEACHER).item() for loss in LOSSES.values()]
    assert said(triangle) == pytest.approx(expected, abs=5e-5)
    assert min(expected) > 1e-3


def test_mirroring_c_in_ab_is_the_second_place_where_both_losses_are_zero() -> None:
    _, _, triangle = panel()
    triangle.corners = with_corner(triangle, "C", -2, -4)
    assert said(triangle) == (0, 0)


@pytest.mark.parametrize("name", list(start_positions(TEACHER)))
def test_relations_see_shape_and_order_and_nothing_else(name: str) -> None:
    start, _, triangle = panel()
    before = triangle.corners
    start.value = name
    assert (max(said(triangle)) == 0) == (name not in {"stretched", "two examples swapped"})
    assert (triangle.corners == before) == (name == "the teacher's")


def test_a_start_replaces_what_was_moved_and_the_button_leads_back_to_it() -> None:
    start, again, triangle = panel()
    triangle.corners = with_corner(triangle, "A", 4, 4)
    start.value = "turned"
    turned = start_positions(TEACHER)["turned"].tolist()
    assert triangle.corners == turned
    triangle.corners = with_corner(triangle, "A", 4, 4)
    assert triangle.corners != turned
    again.click()
    assert triangle.corners == turned
    assert said(triangle) == (0, 0)


def test_corners_on_top_of_each_other_have_no_angle() -> None:
    _, _, triangle = panel()
    triangle.corners = with_corner(triangle, "A", 2, -1)
    assert "AB = 0.0" in triangle.text
    assert [corner for corner in CORNERS if f"angle at {corner}" in triangle.text] == ["C"]


def test_a_corner_too_far_away_comes_back_to_the_edge() -> None:
    _, _, triangle = panel()
    triangle.corners = with_corner(triangle, "C", -9, 4.5)
    assert triangle.corners[2] == [-4, 4]


@pytest.mark.parametrize("corners", [[[0, 0], [1, 0]], [[0, 0], [1, 0], [0, float("nan")]], [[0], [1, 2], [3, 4]]])
def test_what_is_no_triangle_is_refused_and_changes_nothing(corners: list[list[float]]) -> None:
    _, _, triangle = panel()
    with pytest.raises(traitlets.TraitError, match="three corners of two finite coordinates"):
        triangle.corners = corners
    assert triangle.corners == TEACHER.tolist()


def test_explorer_leaves_the_teacher_alone_and_takes_no_other_shape() -> None:
    teacher: Tensor = TEACHER.clone()
    _, triangle = triangle_explorer(teacher, LOSSES).children
    triangle.corners = with_corner(triangle, "A", 1, 1)
    assert torch.equal(teacher, TEACHER)
    with pytest.raises(ValueError, match=r"three corners of two coordinates, \(3, 2\), got \(2, 3\)"):
        triangle_explorer(torch.zeros(2, 3), LOSSES)


def test_readers_without_a_kernel_get_a_sentence() -> None:
    shown = triangle_explorer(TEACHER, LOSSES)
    assert isinstance(shown, Panel)
    assert shown._repr_mimebundle_()[0]["text/plain"].startswith("Triangle explorer: run this cell")


def test_the_browser_loads_nothing() -> None:
    for text in (Triangle._esm, Triangle._css):
        assert (
            re.findall(r"//|https?:|url\(|\bimport\b|\brequire\b|\bfetch\b|\bsrc\b|\bhref\b|XMLHttp|@font", text) == []
        )
    assert re.findall(r"\bexport\b.*", Triangle._esm) == ["export default {"]


def test_corners_can_be_reached_and_are_named_without_a_pointer() -> None:
    for part in ('tabindex="0"', 'role="slider"', "aria-label=", "aria-valuetext", "keydown", 'role="status"'):
        assert part in Triangle._esm
    assert ":focus-visible" in Triangle._css


def test_what_the_browser_reads_is_what_it_is_sent() -> None:
    read = set(re.findall(r'model\.get\("(\w+)"\)|"(\w+)"(?=[^\]]*\]\.map\(\(name\) => model)', Triangle._esm))
    assert {one or other for one, other in read} == {"teacher", "reach", "colors", "corners", "text"}
    sent = triangle_explorer(TEACHER, LOSSES).children[-1].get_state()
    assert {"teacher", "reach", "colors", "corners", "text", "_esm", "_css"} <= set(sent)


def test_each_state_of_the_student_gets_a_row_of_tables() -> None:
    teacher = torch.ones(20, 20)
    figure = draw_tables(teacher, {"before": 3 * teacher, "after": teacher})
    panels = [ax for ax in figure.axes if ax.images]
    titles = ["teacher", "student before", "difference", "teacher", "student after", "difference"]
    assert [ax.get_title(loc="left") for ax in panels] == titles
    assert [float(ax.images[0].get_array().mean()) for ax in panels] == [1, 3, 2, 1, 1, 0]


def test_triangles_stand_under_their_losses() -> None:
    starts = dict(list(start_positions(TEACHER).items())[1:])
    titles = [ax.get_title(loc="left") for ax in draw_triangles(TEACHER, starts, LOSSES).axes]
    assert [title.split(":")[0] for title in titles] == list(starts)
    assert [title.endswith(": 0.000, 0.000") for title in titles] == [True] * 4 + [False] * 2
