"""How often two networks of given accuracies are right together, and how much of it chance explains.

Lesson: notebooks/15_fidelity.ipynb.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Overlap", "floor", "overlap", "overlap_explorer", "overlap_figure", "possible"]

PARTS = ("both right", "only the student", "only the teacher", "both wrong")
START = (0.8, 0.9, 0.3)  # the student's accuracy, the teacher's, and κ


class Overlap(NamedTuple):
    """Shares of all examples, in the order of ``PARTS``, and the κ that they have."""

    shares: tuple[float, float, float, float]
    consistency: float

    @property
    def agreement(self) -> float:
        """The share on which both are right or both wrong."""
        return self.shares[0] + self.shares[3]


def floor(student_accuracy: float, teacher_accuracy: float) -> float:
    """The agreement in right and wrong of two networks whose errors are independent."""
    return student_accuracy * teacher_accuracy + (1 - student_accuracy) * (1 - teacher_accuracy)


def possible(student_accuracy: float, teacher_accuracy: float) -> tuple[float, float]:
    """The lowest and the highest κ of two networks with these accuracies."""
    expected = floor(student_accuracy, teacher_accuracy)
    if expected == 1:  # always right, or always wrong, both: chance explains everything
        return 0.0, 0.0
    least = abs(student_accuracy + teacher_accuracy - 1)  # errors that avoid each other as far as they can
    most = 1 - abs(student_accuracy - teacher_accuracy)  # the better one's errors are all errors of the other
    # independent errors are always possible, whatever rounding says
    return min((least - expected) / (1 - expected), 0.0), max((most - expected) / (1 - expected), 0.0)


def overlap(student_accuracy: float, teacher_accuracy: float, consistency: float) -> Overlap:
    """Split all examples by who is right; a κ that is not possible gives way to the nearest that is.

    Args:
        student_accuracy: From 0 to 1.
        teacher_accuracy: From 0 to 1.
        consistency: Error consistency κ: 0 for independent errors, 1 for the same ones.

    Raises:
        ValueError: If an accuracy is not a share.
    """
    for name, value in (("student_accuracy", student_accuracy), ("teacher_accuracy", teacher_accuracy)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {value:g}")
    lowest, highest = possible(student_accuracy, teacher_accuracy)
    kappa = min(max(consistency, lowest), highest)
    expected = floor(student_accuracy, teacher_accuracy)
    agreement = expected + kappa * (1 - expected)
    both = (agreement + student_accuracy + teacher_accuracy - 1) / 2
    shares = (both, student_accuracy - both, teacher_accuracy - both, agreement - both)
    first, second, third, fourth = (max(share, 0.0) for share in shares)  # rounding may leave -1e-17
    return Overlap((first, second, third, fourth), kappa)


def overlap_figure(student_accuracy: float, teacher_accuracy: float, consistency: float) -> "Figure":
    """Who is right on which share of examples, and the agreement above its floor.

    Args:
        student_accuracy: From 0 to 1.
        teacher_accuracy: From 0 to 1.
        consistency: Error consistency κ; the nearest possible one is drawn.
    """
    from kdref.lab.report import style

    with style.new_figure(11.5, 4.0, columns=2, width_ratios=(2, 1)) as (figure, axes):
        _draw(axes, student_accuracy, teacher_accuracy, consistency)
    return figure


def overlap_explorer() -> Panel:
    """Choose two accuracies and κ, and see how much agreement is left beyond chance.

    Returns:
        A panel whose children are the three sliders, the picture (PNG) and a line of text.
    """
    from kdref.lab import report

    figure = overlap_figure(*START)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "11em"}, {"width": "36em"}
    sliders = [
        ipywidgets.FloatSlider(value=value, min=least, max=1.0, step=0.05, description=name, style=style, layout=layout)
        for value, least, name in zip(
            START, (0.0, 0.0, -1.0), ("student's accuracy", "teacher's accuracy", "consistency κ"), strict=True
        )
    ]
    chart = ipywidgets.Image(format="png", layout={"width": "1080px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        student, teacher, kappa = (float(slider.value) for slider in sliders)
        _draw(figure.axes, student, teacher, kappa)
        chart.value = report.png(figure)
        line.value = _words(student, teacher, kappa)

    draw()
    for slider in sliders:
        slider.observe(draw, names="value")
    text = "Overlap explorer: run this cell, then choose two accuracies and how far the errors are the same."
    return Panel([*sliders, chart, line], text=text)


def _words(student: float, teacher: float, kappa: float) -> str:
    found = overlap(student, teacher, kappa)
    said = (
        f"agreement in right and wrong {100 * found.agreement:.1f} % · "
        f"with independent errors {100 * floor(student, teacher):.1f} % · κ {_short(found.consistency)}"
    )
    if abs(found.consistency - kappa) < 1e-9:
        return said
    lowest, highest = possible(student, teacher)
    ends = _short(lowest), _short(highest)
    span = f"only {ends[0]}" if ends[0] == ends[1] else f"only from {ends[0]} to {ends[1]}"
    return f"{said} · κ {_short(kappa)} is not possible with these accuracies, {span}"


def _short(kappa: float) -> str:
    return f"{round(kappa, 2) + 0.0:.2f}"  # never -0.00


def _draw(axes: Sequence["Axes"], student: float, teacher: float, kappa: float) -> None:
    from kdref.lab.report import style

    found, independent = overlap(student, teacher, kappa), overlap(student, teacher, 0.0)
    bars, total = axes
    bars.clear()
    colors = (style.COLORS[2], style.COLORS[0], style.COLORS[4], style.COLORS[1])
    for place, (share, chance) in enumerate(zip(found.shares, independent.shares, strict=True)):
        bars.bar(place, share, color=colors[place], hatch=style.HATCHES[place])
        bars.plot([place - 0.4, place + 0.4], [chance, chance], "k--", linewidth=1.5)
        bars.text(place, max(share, chance) + 0.02, f"{100 * share:.1f} %", ha="center")
    bars.lines[0].set_label("where errors are independent")
    bars.set(title="who is right", xticks=range(4), xticklabels=PARTS, ylim=(0, 1.1), ylabel="share of examples")
    bars.legend(loc="upper right")
    total.clear()
    total.bar(0, found.agreement, width=0.5, color=colors[0], hatch=style.HATCHES[0])
    total.plot([-0.4, 0.4], [floor(student, teacher)] * 2, "k--", linewidth=1.5)
    total.text(0, max(found.agreement, floor(student, teacher)) + 0.02, f"{100 * found.agreement:.1f} %", ha="center")
    total.set(title="agreement", xticks=[0], xticklabels=["both right or both wrong"], xlim=(-0.8, 0.8), ylim=(0, 1.1))
    for ax in axes:
        style.percent_axis(ax.yaxis)
