"""A student with one hump learns a teacher with two: which loss makes it cover both, and which makes it choose.

Lesson: notebooks/09_adversarial.ipynb.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GRID", "discriminator_explorer", "humps_figure", "path", "student_law", "teacher_law"]

Loss = Callable[[Tensor, Tensor], Tensor]  # log q and log p on the grid, (G,) each: a widget imports no method

GRID = torch.linspace(-8, 8, 161)
STEPS, RATE = 150, 0.1  # Adam; every loss has come to rest by then
START = (0.5, 0.0)  # the student's mean and the logarithm of its deviation
TOP = 0.1  # of the picture, in probability per point of the grid
WEIGHTS, DEVIATION = (0.4, 0.6), 0.6  # of the teacher's humps: the right one is larger


def teacher_law(distance: float) -> Tensor:
    """Log-probabilities on the grid of two humps that are so far apart, shape (G,)."""
    means = torch.tensor([-distance / 2, distance / 2])
    humps = torch.tensor(WEIGHTS).log()[:, None] - ((GRID - means[:, None]) / DEVIATION).square() / 2
    return humps.logsumexp(dim=0).log_softmax(dim=0)


def student_law(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log-probabilities on the grid of one hump, shape (G,)."""
    return (-((GRID - mean) / log_deviation.exp()).square() / 2).log_softmax(dim=0)


@functools.lru_cache(maxsize=64)
def path(loss: Loss, distance: float) -> Tensor:
    """The student's mean and log-deviation before the first step and after each one, shape (STEPS + 1, 2).

    Args:
        loss: Of log q and log p, the laws of student and teacher on the grid.
        distance: Of the teacher's humps.
    """
    log_p, place = teacher_law(distance), torch.tensor(START).requires_grad_()
    optimizer, passed = torch.optim.Adam([place], lr=RATE), [place.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(student_law(place[0], place[1]), log_p).backward()
        optimizer.step()
        passed.append(place.detach().clone())
    return torch.stack(passed)


def humps_figure(
    losses: Mapping[str, Loss],
    *,
    distance: float,
    step: int = STEPS,
    columns: int = 4,
) -> "Figure":
    """Teacher, student and the best discriminator between them, one panel a loss.

    Args:
        losses: Name to loss of log q and log p.
        distance: Of the teacher's humps.
        step: How many steps the student has taken.
        columns: Panels side by side.
    """
    from kdref.lab.report import style

    rows = -(-len(losses) // columns)
    with style.new_figure(11.5, 3.6 * rows, rows=rows, columns=columns) as (figure, axes):
        _draw(axes, losses, distance, step)
    return figure


def discriminator_explorer(losses: Mapping[str, Loss]) -> Panel:
    """Move the teacher's humps apart, and the student along its training.

    Args:
        losses: As for ``humps_figure``.

    Returns:
        A panel whose children are the two sliders, the picture (PNG) and a line of text.

    Raises:
        ValueError: If there is no loss.
    """
    from kdref.lab import report

    if not losses:
        raise ValueError("losses must hold one loss at least, got none")
    figure = humps_figure(losses, distance=3.0)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "11em"}, {"width": "36em"}
    apart = ipywidgets.FloatSlider(
        value=3.0, min=1.0, max=6.0, step=0.5, description="distance of humps", style=style, layout=layout
    )
    steps = ipywidgets.IntSlider(
        value=STEPS, min=0, max=STEPS, step=5, description="training steps", style=style, layout=layout
    )
    chart = ipywidgets.Image(format="png", layout={"width": "1080px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        _draw(figure.axes, losses, apart.value, steps.value)
        chart.value = report.png(figure)
        found = (path(loss, apart.value)[steps.value] for loss in losses.values())
        widths = (
            f"{name}: {'covers both' if covers(mean, log_deviation, apart.value) else 'sits on one or between'}"
            for name, (mean, log_deviation) in zip(losses, found, strict=True)
        )
        line.value = f"humps {apart.value:g} apart, after {steps.value} steps · " + " · ".join(widths)

    draw()
    for choice in (apart, steps):
        choice.observe(draw, names="value")
    text = "Discriminator explorer: run this cell, then move the humps apart and step through the training."
    return Panel([apart, steps, chart, line], text=text)


def covers(mean: Tensor, log_deviation: Tensor, distance: float) -> bool:
    """Whether both humps' middles lie within two of the student's deviations."""
    far = max(abs(float(mean) - distance / 2), abs(float(mean) + distance / 2))
    return far < 2 * math.exp(float(log_deviation))


def _draw(axes: Sequence["Axes"], losses: Mapping[str, Loss], distance: float, step: int) -> None:
    from kdref.lab.report import style

    log_p = teacher_law(distance)
    for index, (ax, (name, loss)) in enumerate(zip(axes, losses.items(), strict=False)):
        mean, log_deviation = path(loss, distance)[step]
        log_q = student_law(mean, log_deviation)
        ax.clear()
        ax.fill_between(GRID.numpy(), log_p.exp().numpy(), color="#bbbbbb", label="teacher")
        ax.plot(GRID.numpy(), log_q.exp().numpy(), color=style.COLORS[index], linewidth=2.5, label="student")
        says_teacher = TOP * torch.sigmoid(log_p - log_q)
        ax.plot(GRID.numpy(), says_teacher.numpy(), "k--", linewidth=1, label="discriminator, 0 to 1")
        ax.set(title=name, xlabel="x", xlim=(-6, 6), ylim=(0, TOP), yticks=[])
        if not index:
            ax.set_ylabel("probability")
    axes[0].legend(loc="upper left", fontsize=9)
