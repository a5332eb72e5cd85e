"""A triangle to move: three examples of a student beside the teacher's, and what relation losses say about the two.

Lesson: notebooks/05_relation_based.ipynb.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import torch
from matplotlib.axes import Axes
from torch import Tensor

from kdref.lab.widgets import Panel

__all__ = ["CORNERS", "draw_triangle", "start_positions", "triangle_explorer"]

CORNERS = ("A", "B", "C")
_REACH = 4.0


def start_positions(teacher: Tensor) -> dict[str, Tensor]:
    """Triangles to start from, name to corners ``(3, 2)``: what is made of the teacher's by simple maps.

    Args:
        teacher: The teacher's corners, shape ``(3, 2)``.
    """
    turn, mirror = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.tensor([-1.0, 1.0])
    return {
        "the teacher's": teacher.clone(),
        "turned": teacher @ turn,
        "mirrored": teacher * mirror,
        "half as large": teacher / 2,
        "moved": teacher + torch.tensor([2.0, 1.0]),
        "stretched": teacher * torch.tensor([1.0, 0.25]),
        "two examples swapped": teacher[[1, 0, 2]],
    }


def draw_triangle(ax: Axes, teacher: Tensor, student: Tensor) -> None:
    """Draw the teacher's triangle, dashed, and the student's, with their corners named.

    Args:
        ax: Where to draw; emptied first.
        teacher: Corners, shape ``(3, 2)``.
        student: Corners, shape ``(3, 2)``.
    """
    from kdref.lab import style

    ax.clear()
    for name, corners, line, color, place in (
        ("teacher", teacher, "--", style.COLORS[0], (-7.0, -13.0)),
        ("student", student, "-", style.COLORS[1], (6.0, 5.0)),
    ):
        closed = torch.cat([corners, corners[:1]])
        marker = style.MARKERS[0 if name == "teacher" else 1]
        ax.plot(*closed.T.tolist(), linestyle=line, marker=marker, color=color, label=name)
        for letter, (x, y) in zip(CORNERS, corners.tolist(), strict=True):
            ax.annotate(letter, (x, y), xytext=place, textcoords="offset points", color=color)
    ax.set(xlim=(-_REACH - 0.5, _REACH + 0.5), ylim=(-_REACH - 0.5, _REACH + 0.5), aspect="equal")


def triangle_explorer(teacher: Tensor, losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]]) -> Panel:
    """Move the corners of a student's triangle; the losses against the teacher's follow, in the title and in words.

    Args:
        teacher: The teacher's embeddings of three examples A, B and C, shape ``(3, 2)``, within 4 of the origin.
        losses: Name to loss, called with the student's and the teacher's corners.

    Returns:
        A panel whose children are a choice of the starting triangle, a choice of the corner, sliders of its x and y,
        the picture (PNG) and a line of text.

    Raises:
        ValueError: If the teacher's corners are not ``(3, 2)``.
    """
    from kdref.lab import report, style

    if teacher.shape != (3, 2):
        raise ValueError(f"a triangle has three corners of two coordinates, (3, 2), got {tuple(teacher.shape)}")
    starts = start_positions(teacher.detach().float())
    student = starts["the teacher's"].clone()
    with style.new_figure(6, 5) as (figure, (ax,)):
        draw_triangle(ax, teacher, student)
        ax.set_title(" ")
    figure.set_layout_engine("none")

    width = {"description_width": "7em"}
    layout = {"width": "36em"}
    start = ipywidgets.Dropdown(options=list(starts), description="start from", style=width, layout=layout)
    corner = ipywidgets.ToggleButtons(options=CORNERS, description="corner", style={**width, "button_width": "4em"})
    sliders = [
        ipywidgets.FloatSlider(min=-_REACH, max=_REACH, step=0.1, description=name, style=width, layout=layout)
        for name in ("x", "y")
    ]
    chart = ipywidgets.Image(format="png", layout={"width": "576px", "max_width": "100%"})
    line = ipywidgets.HTML()
    loading = [False]  # while the sliders are set to a corner, they move nothing

    def draw() -> None:
        values = {name: loss(student, teacher).item() for name, loss in losses.items()}
        draw_triangle(ax, teacher, student)
        ax.legend(loc="lower right")
        ax.set_title(",  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        chart.value = report.png(figure)
        sides = _sides_and_angles(student)
        line.value = "; ".join(f"{name} loss {value:.4f}" for name, value in values.items()) + f". Student: {sides}."

    def load(_: object = None) -> None:
        loading[0] = True
        for slider, value in zip(sliders, student[CORNERS.index(corner.value)].tolist(), strict=True):
            slider.value = value
        loading[0] = False

    def restart(_: object) -> None:
        student.copy_(starts[start.value])
        load()
        draw()

    def move(_: object) -> None:
        if not loading[0]:
            student[CORNERS.index(corner.value)] = torch.tensor([slider.value for slider in sliders])
            draw()

    load()
    draw()
    start.observe(restart, names="value")
    corner.observe(load, names="value")
    for slider in sliders:
        slider.observe(move, names="value")
    children: list[Any] = [start, corner, *sliders, chart, line]
    return Panel(children, text="Triangle explorer: run this cell, then choose a corner and move it.")


def _sides_and_angles(corners: Tensor) -> str:
    """Lengths of the sides and the angles, in words; an angle beside a side of length 0 is not named."""
    parts = []
    for first, second in ((0, 1), (1, 2), (2, 0)):
        length = (corners[first] - corners[second]).norm().item()
        parts.append(f"{CORNERS[first]}{CORNERS[second]} = {length:.1f}")
    for vertex in range(3):
        one, other = (corners[(vertex + step) % 3] - corners[vertex] for step in (1, 2))
        lengths = one.norm() * other.norm()
        if lengths > 0:
            cosine = (one @ other / lengths).clamp(-1, 1).item()
            parts.append(f"angle at {CORNERS[vertex]} {math.degrees(math.acos(cosine)):.0f}°")
    return ", ".join(parts)
