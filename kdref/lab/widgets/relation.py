"""A triangle to drag: three examples of a student beside the teacher's, and what relation losses say about the two.

A few lines of JavaScript, which load nothing from anywhere, move the corners in the browser. The losses are computed
here, so that the numbers are those of the course's own code.

Lesson: notebooks/05_relation_based.ipynb.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import ipywidgets
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["CORNERS", "Triangle", "draw_tables", "draw_triangles", "start_positions", "triangle_explorer"]

CORNERS = ("A", "B", "C")
_REACH = 4.0  # of both coordinates

_MODULE = """
export default {
  render({ model, el }) {
    const [teacher, reach, colors] = ["teacher", "reach", "colors"].map((name) => model.get(name));
    const unit = 50;
    const edge = unit * (reach + 0.5);
    const place = ([x, y]) => [unit * x, -unit * y];
    const ticks = Array.from({ length: reach + 1 }, (_, step) => 2 * step - reach);
    const lines = ticks.map((tick) => {
      const [at, label] = [unit * tick, String(tick).replace("-", "\\u2212")];
      return `<path d="M${at} ${-edge}V${edge}M${-edge} ${-at}H${edge}"/>
        <text x="${at}" y="${edge + 18}" text-anchor="middle">${label}</text>
        <text x="${-edge - 8}" y="${5 - at}" text-anchor="end">${label}</text>`;
    });
    const squares = teacher.map((corner, index) => {
      const [x, y] = place(corner);
      return `<rect x="${x - 5}" y="${y - 5}" width="10" height="10"/>
        <text x="${x - 10}" y="${y + 20}" text-anchor="end">${"ABC"[index]}</text>`;
    });
    const handles = [..."ABC"].map((letter) => `
      <g class="corner" tabindex="0" role="slider" aria-roledescription="corner to drag"
        aria-label="corner ${letter} of the student" aria-valuemin="${-reach}" aria-valuemax="${reach}">
        <circle r="16" fill-opacity="0.2"/><circle r="6"/><text x="12" y="-12">${letter}</text></g>`);
    el.innerHTML = `
      <svg viewBox="${-edge - 60} ${-edge - 10} ${2 * edge + 70} ${2 * edge + 60}" role="group"
        aria-label="The teacher's triangle, dashed, and the student's, whose corners can be moved">
        <g class="grid">${lines.join("")}
          <text x="0" y="${edge + 40}" text-anchor="middle">feature 1</text>
          <text transform="translate(${-edge - 42} 0) rotate(-90)" text-anchor="middle">feature 2</text></g>
        <g class="teacher" stroke="${colors[0]}" fill="${colors[0]}">
          <polygon points="${teacher.map(place).join(" ")}"/>${squares.join("")}</g>
        <g class="student" stroke="${colors[1]}" fill="${colors[1]}"><polygon/>${handles.join("")}</g>
      </svg>
      <p>Dashed, with squares: the teacher. Drag a disc of the student, or choose one with the Tab key
        and move it with the arrow keys (with Shift in larger steps).</p>
      <p role="status"></p>`;
    el.classList.add("kdref-triangle");
    el.dataset.lmSuppressShortcuts = "true";  /* else arrow keys would go to the notebook's next cell */
    const [svg, status] = [el.querySelector("svg"), el.querySelector("[role=status]")];
    const corners = [...el.querySelectorAll(".corner")];

    const draw = () => {
      const values = model.get("corners");
      el.querySelector(".student polygon").setAttribute("points", values.map(place).join(" "));
      corners.forEach((corner, index) => {
        const [x, y] = values[index];
        corner.setAttribute("transform", `translate(${place(values[index]).join(" ")})`);
        corner.setAttribute("aria-valuenow", x);
        corner.setAttribute("aria-valuetext", `feature 1 ${x}, feature 2 ${y}`);
      });
    };
    const write = () => { status.textContent = model.get("text"); };
    const move = (index, target) => {
      const inside = target.map((value) => Math.max(-reach, Math.min(reach, Math.round(10 * value) / 10)));
      model.set("corners", model.get("corners").map((corner, other) => (other === index ? inside : corner)));
      model.save_changes();
    };
    corners.forEach((corner, index) => {
      corner.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        corner.setPointerCapture(event.pointerId);
        corner.focus();
      });
      corner.addEventListener("pointermove", (event) => {
        if (!corner.hasPointerCapture(event.pointerId)) return;
        const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
        move(index, [x / unit, -y / unit]);
      });
      corner.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
        if (!way) return;
        event.preventDefault();
        event.stopPropagation();
        const step = event.shiftKey ? 1 : 0.1;
        move(index, model.get("corners")[index].map((value, axis) => value + step * way[axis]));
      });
    });
    draw();
    write();
    model.on("change:corners", draw);
    model.on("change:text", write);
    return () => {
      model.off("change:corners", draw);
      model.off("change:text", write);
    };
  },
};
"""

_STYLE = """
.kdref-triangle { max-width: 36em; color: var(--jp-content-font-color1, inherit); }
.kdref-triangle svg { display: block; width: 100%; max-width: 30em; }
.kdref-triangle p { margin: 0.3em 0; }
.kdref-triangle p[role="status"] { white-space: pre-line; }
.kdref-triangle p[role="status"]::first-line { font-weight: bold; }
.kdref-triangle text { font: 15px sans-serif; stroke: none; }
.kdref-triangle .grid { fill: currentColor; stroke: currentColor; }
.kdref-triangle .grid path { stroke-opacity: 0.15; fill: none; }
.kdref-triangle :is(.teacher, .student) text { font-weight: bold; font-size: 17px; paint-order: stroke; }
.kdref-triangle :is(.teacher, .student) text { stroke: var(--jp-layout-color0, white); stroke-width: 4px; }
.kdref-triangle polygon { fill: none; stroke-width: 2.5; }
.kdref-triangle .teacher polygon { stroke-dasharray: 8 5; }
.kdref-triangle .teacher rect { fill: none; stroke-width: 2.5; }
.kdref-triangle .corner { cursor: grab; touch-action: none; stroke: none; outline: none; }
.kdref-triangle .corner:focus-visible circle:first-child { stroke: currentColor; stroke-width: 3; }
"""


class Triangle(anywidget.AnyWidget):
    """A student's triangle over the teacher's, with corners to drag; a screen reader hears ``text`` when it changes.

    Args:
        teacher: Three corners of two coordinates, within ``reach`` of the origin.
        corners: The student's. Set them, or drag them: what is too far comes back to the edge.
        text: Shown below.
        colors: Of the teacher and of the student.
    """

    _esm = _MODULE
    _css = _STYLE
    teacher: Any = traitlets.List().tag(sync=True)
    corners: Any = traitlets.List().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    colors: Any = traitlets.List().tag(sync=True)
    reach = traitlets.Float(_REACH).tag(sync=True)

    @traitlets.validate("corners")
    def _inside(self, proposal: Any) -> list[list[float]]:
        corners = proposal["value"]
        if [len(corner) for corner in corners] != [2, 2, 2] or not all(map(math.isfinite, itertools.chain(*corners))):
            raise traitlets.TraitError(f"three corners of two finite coordinates are needed, got {corners}")
        return [[max(-self.reach, min(self.reach, float(value))) for value in corner] for corner in corners]


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


def draw_triangles(
    teacher: Tensor, students: Mapping[str, Tensor], losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]]
) -> Figure:
    """Six triangles of a student beside the teacher's, each under its name and its losses."""
    from kdref.lab.report import style

    with style.new_figure(11, 7.4, rows=2, columns=3) as (figure, axes):
        for ax, (name, corners) in zip(axes, students.items(), strict=True):
            _draw_triangle(ax, teacher, corners)
            said = ", ".join(f"{loss(corners, teacher):.3f}" for loss in losses.values())
            ax.set_title(f"{name}: {said}", fontsize=10)
        axes[0].legend(loc="lower right")
    return figure


def _draw_triangle(ax: Axes, teacher: Tensor, student: Tensor) -> None:
    """Draw the teacher's triangle, dashed, and the student's, with their corners named.

    Args:
        ax: Where to draw; emptied first.
        teacher: Corners, shape ``(3, 2)``.
        student: Corners, shape ``(3, 2)``.
    """
    from kdref.lab.report import style

    ax.clear()
    for name, corners, line, color, place in (
        ("teacher", teacher, "--", style.COLORS[0], (-16.0, -13.0)),
        ("student", student, "-", style.COLORS[1], (6.0, 5.0)),
    ):
        closed = torch.cat([corners, corners[:1]])
        marker = style.MARKERS[1 if name == "teacher" else 0]
        ax.plot(*closed.T.tolist(), linestyle=line, marker=marker, color=color, label=name)
        for letter, (x, y) in zip(CORNERS, corners.tolist(), strict=True):
            ax.annotate(letter, (x, y), xytext=place, textcoords="offset points", color=color)
    ax.set(xlim=(-_REACH - 0.5, _REACH + 0.5), ylim=(-_REACH - 0.5, _REACH + 0.5), aspect="equal")
    ax.set(xlabel="feature 1", ylabel="feature 2")


def draw_tables(teacher: Tensor, students: Mapping[str, Tensor]) -> Figure:
    """Tables of distances, a row of three for each state of the student: the teacher's, its own, the difference.

    Args:
        teacher: Distances of examples sorted by class, equally many of ten classes, in units of their mean.
        students: By state, as in "before" and "after", the same for the student.
    """
    from kdref.lab.report import style

    size = len(teacher) // 10
    middles = range(size // 2, len(teacher), size)
    with style.new_figure(11, 3.6 * len(students), rows=len(students), columns=3) as (figure, axes):
        for row, (when, own) in enumerate(students.items()):
            panels = {"teacher": teacher, f"student {when}": own, "difference": (own - teacher).abs()}
            for ax, (title, table) in zip(axes[3 * row : 3 * row + 3], panels.items(), strict=True):
                picture = ax.imshow(table.numpy(), cmap=style.SEQUENTIAL, vmin=0, vmax=1.8)
                ax.set(title=title, xlabel="example, by class")
                ax.set_xticks(middles, list("0123456789"))
                ax.set_yticks(middles, list("0123456789"))
                ax.grid(False)
            axes[3 * row].set_ylabel("example, by class")
        figure.colorbar(picture, ax=axes, label="distance, in units of the mean", shrink=0.7)
    return figure


def triangle_explorer(teacher: Tensor, losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]]) -> Panel:
    """Drag the corners of a student's triangle; the losses against the teacher's follow, in words.

    Args:
        teacher: The teacher's embeddings of three examples A, B and C, shape ``(3, 2)``, within 4 of the origin.
        losses: Name to loss, called with the student's and the teacher's corners.

    Returns:
        A panel whose children are a row of the triangle to start from and a button back to it, and the ``Triangle``.

    Raises:
        ValueError: If the teacher's corners are not ``(3, 2)``.
    """
    from kdref.lab.report import style

    if teacher.shape != (3, 2):
        raise ValueError(f"a triangle has three corners of two coordinates, (3, 2), got {tuple(teacher.shape)}")
    teacher = teacher.detach().float()
    starts = start_positions(teacher)
    start = ipywidgets.Dropdown(options=list(starts), description="start from", layout={"width": "24em"})
    again = ipywidgets.Button(description="back to it", layout={"width": "8em"})
    picture = Triangle(teacher=teacher.tolist(), corners=teacher.tolist(), colors=list(style.COLORS[:2]))

    def say(_: object = None) -> None:
        student = torch.tensor(picture.corners)
        values = [f"{name} loss {loss(student, teacher).item():.4f}" for name, loss in losses.items()]
        picture.text = "; ".join(values) + f"\nStudent: {_sides_and_angles(student)}"

    def restart(_: object = None) -> None:
        picture.corners = starts[start.value].tolist()

    say()
    picture.observe(say, names="corners")
    start.observe(restart, names="value")
    again.on_click(restart)
    text = "Triangle explorer: run this cell, then drag a corner of the student's triangle."
    return Panel([ipywidgets.HBox([start, again]), picture], text=text)


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
