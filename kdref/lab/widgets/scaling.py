"""What the published law says of a budget: train the student alone, or pay for a teacher as well?

Lesson: notebooks/13_scaling_laws.ipynb.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["budget_explorer", "budget_figure"]

SIZES = {"143 million": 143e6, "546 million": 546e6, "1.82 billion": 1.82e9, "7.75 billion": 7.75e9}
EXPONENTS = tuple(19 + step / 4 for step in range(21))  # of ten: from a day on one GPU to the largest of the paper
START = ("546 million", 21.0)
PARTS = ("student's training", "teacher's answers", "teacher's training")


def budget_figure(size: str, exponent: float, payer: str) -> "Figure":
    """A student's loss against the budget, alone and taught, and how the best use of one budget is split.

    Args:
        size: One of ``SIZES``.
        exponent: The budget is 10 to this power, in floating-point operations.
        payer: Who pays for the teacher: one of ``kdref.lab.experiments._scaling_splits.PAYERS``.
    """
    from kdref.lab.report import style

    with style.new_figure(11.5, 4.2, columns=2, width_ratios=(3, 2)) as (figure, axes):
        _draw(axes, size, exponent, payer)
    return figure


def budget_explorer() -> Panel:
    """Choose a student's size, a budget and who pays for the teacher; see what to do with the budget.

    Returns:
        A panel whose children are the size, the budget, the payer, the picture (PNG) and a line of text.
    """
    from kdref.lab import report
    from kdref.lab.experiments._scaling_splits import PAYERS

    payers = list(PAYERS)
    figure = budget_figure(*START, payers[0])
    figure.set_layout_engine("none")
    style, layout = {"description_width": "11em"}, {"width": "36em"}
    size = ipywidgets.Dropdown(
        options=list(SIZES), value=START[0], description="parameters", style=style, layout=layout
    )
    budget = ipywidgets.FloatSlider(
        value=START[1], min=EXPONENTS[0], max=EXPONENTS[-1], step=0.25, description="log₁₀ of the budget"
    )
    budget.style, budget.layout = style, layout
    payer = ipywidgets.Dropdown(options=payers, value=payers[0], description="who pays", style=style, layout=layout)
    chart = ipywidgets.Image(format="png", layout={"width": "1080px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        _draw(figure.axes, size.value, float(budget.value), payer.value)
        chart.value = report.png(figure)
        line.value = _words(size.value, float(budget.value), payer.value)

    draw()
    for control in (size, budget, payer):
        control.observe(draw, names="value")
    text = "Budget explorer: run this cell, then choose a size, a budget and who pays for the teacher."
    return Panel([size, budget, payer, chart, line], text=text)


def _words(size: str, exponent: float, payer: str) -> str:
    from kdref.lab.experiments._scaling_splits import alone, best_split

    parameters, budget = SIZES[size], 10**exponent
    loss, best = alone(parameters, budget), best_split(parameters, budget, payer)
    said = f"alone {loss:.3f} nats"
    if best is None:
        return f"{said} · no teacher that the law can be trusted with can be paid"
    difference = loss - best.loss
    # the constants are rounded: a hundredth of a nat is not to be trusted
    verdict = "much the same" if abs(difference) < 0.01 else "distil" if difference > 0 else "train"
    teacher = f"by a teacher of {best.teacher_parameters / 1e9:.2g} billion and {best.teacher_loss:.2f} nats"
    return f"{said} · taught {best.loss:.3f}, {teacher} · {verdict}"


def _draw(axes: Sequence["Axes"], size: str, exponent: float, payer: str) -> None:
    from kdref.lab.experiments._scaling_splits import alone, best_split
    from kdref.lab.report import style

    parameters, (curves, bars) = SIZES[size], axes
    budgets = [10**step for step in EXPONENTS]
    splits = [best_split(parameters, budget, payer) for budget in budgets]
    curves.clear()
    curves.plot(budgets, [alone(parameters, budget) for budget in budgets], color=style.COLORS[0], label="alone")
    paid = [(budget, split.loss) for budget, split in zip(budgets, splits, strict=True) if split]
    curves.plot(*zip(*paid, strict=True), "--", color=style.COLORS[1], label="taught")
    curves.axvline(10**exponent, color="#555555", linewidth=1)
    curves.set(xscale="log", xlabel="budget, floating-point operations", ylabel="loss of the student, nats")
    curves.set(title=f"a student of {size} parameters")
    curves.legend(loc="upper right")
    bars.clear()
    best = best_split(parameters, 10**exponent, payer)
    for place, share in enumerate(best.shares if best else ()):
        bars.bar(place, share, color=style.COLORS[place], hatch=style.HATCHES[place])
        bars.text(place, share + 0.02, f"{100 * share:.0f} %", ha="center")
    bars.set(title="what the budget is spent on", xticks=range(3), ylim=(0, 1.15), xlim=(-0.6, 2.6))
    bars.set_xticks(range(3), [part.replace(" ", "\n") for part in PARTS])
    style.percent_axis(bars.yaxis)
