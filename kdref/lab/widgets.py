"""Things to move: a slider or a choice beside the picture or text that follows it.

A factory returns a ``Panel``; put it at the end of a cell. Everything is joined by ``observe``, so a test can set
``.value`` and look at the picture's bytes, and nothing needs a front end or a network.

Lessons: notebooks/01_soft_targets.ipynb, notebooks/02_response_based.ipynb.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.check import Question

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Panel", "balance_explorer", "balance_grid", "quiz_panel", "temperature_explorer"]


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """A column of widgets with a sentence for readers without a running kernel (GitHub, print, a screen reader).

    The plain ``VBox`` writes its children's contents there, picture bytes included, which differ between machines.

    Args:
        children: Widgets, from top to bottom.
        text: Shown where widgets can't be, and compared when the notebook is tested.
    """

    def __init__(self, children: Sequence[Any], *, text: str) -> None:
        """See the class."""
        super().__init__(list(children))
        self.text = text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/plain": self.text}


def temperature_explorer(
    logits: Tensor,  # (C,)
    *,
    class_names: Sequence[str] | None = None,
    true_label: int | None = None,
    image: Tensor | None = None,
) -> Panel:
    """A slider of the temperature, from 0.5 to 20, above the softened probabilities that it makes.

    Args:
        logits: One example's raw scores, shape ``(C,)``.
        class_names: Names of the classes; their numbers by default.
        true_label: The right class, marked in the chart.
        image: The example itself, an image ``(1, H, W)`` or a signal ``(1, L)``, drawn beside the chart.

    Returns:
        A panel whose children are the slider, the chart (PNG) and a line of text.

    Raises:
        ValueError: If the logits are not one row, or there is not one name per class.
    """
    from kdref.lab import plots, report, style

    if logits.dim() != 1:
        raise ValueError(f"expected one example's logits (C,), got shape {tuple(logits.shape)}: pass a row of them")
    names = [str(name) for name in (range(len(logits)) if class_names is None else class_names)]
    if len(names) != len(logits):
        raise ValueError(f"{len(logits)} classes need as many names, got {len(names)}")
    scores = logits.detach().double().cpu()
    ratios = [3.0] if image is None else [1.0, 3.0]
    with style.new_figure(8, 3, columns=len(ratios), width_ratios=ratios) as (figure, axes):
        if image is not None:
            plots.draw_example(axes[0], image)
        plots.draw_bars(axes[-1], {"probability": torch.zeros(len(scores))}, names=names)
        axes[-1].set(ylim=(0, 1), xlabel="class", ylabel="softened probability")
        if true_label is not None:
            axes[-1].patches[true_label].set(facecolor=style.COLORS[1], hatch="//")
            axes[-1].set_title(f"striped: the true class, {names[true_label]}", fontweight="normal")
    figure.set_layout_engine("none")  # nothing moves any more but the bars, so a drawing costs half

    slider = ipywidgets.FloatLogSlider(
        value=1.0,
        base=10,
        min=math.log10(0.5),
        max=math.log10(20),
        step=0.02,
        description="temperature τ",
        readout_format=".2f",
        layout={"width": "36em"},
        style={"description_width": "initial"},
    )
    chart = ipywidgets.Image(format="png", layout={"width": "768px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        p = torch.softmax(scores / slider.value, dim=0)
        for bar, height in zip(axes[-1].patches, p.tolist(), strict=True):
            bar.set(height=height)
        chart.value = report.png(figure)
        top = int(p.argmax())
        entropy = float(torch.special.entr(p).sum())
        line.value = (
            f"τ = {slider.value:.2f}: largest probability {100 * p[top]:.1f} % ({escape(names[top])}), "
            f"entropy {entropy:.2f} of at most {math.log(len(p)):.2f} nats"
        )

    draw()
    slider.observe(draw, names="value")
    return Panel([slider, chart, line], text="Temperature explorer: run this cell, then move the slider.")


def balance_explorer(runs: "DataFrame", *, metric: str = "accuracy") -> Panel:
    """Choose the soft term's weight and its temperature; the cell of the heat map is marked, and described in words.

    Args:
        runs: Stored runs whose arms are named "weight | temperature". Weight 0 has one arm, whatever its temperature.
        metric: The column to show, a fraction.

    Returns:
        A panel whose children are the two choices, the heat map (PNG) and a line of text.

    Raises:
        ValueError: If there is no arm of weight 0 to compare with, or a pair has no runs.
    """
    from matplotlib.patches import Rectangle

    from kdref.lab import plots, report
    from kdref.lab.seeds import compare

    pairs = [tuple(map(float, arm.split(" | "))) for arm in dict.fromkeys(runs["arm"])]
    weights, temperatures = (sorted({pair[axis] for pair in pairs}) for axis in (0, 1))
    plain = next((f"0 | {temperature:g}" for weight, temperature in pairs if weight == 0), None)
    missing = [(w, t) for w in weights for t in temperatures if w > 0 and (w, t) not in pairs]
    if plain is None or missing:
        raise ValueError(f"the grid must be full and have an arm of weight 0; missing: {missing or 'weight 0'}")
    result = compare(runs, baseline=plain, metric=metric)
    figure = plots.grid(
        balance_grid(runs, metric=metric), x_label="temperature τ", y_label="soft weight", title=metric, percent=True
    )
    mark = Rectangle((0, 0), 1, 1, fill=False, edgecolor="#D55E00", linewidth=5)
    figure.axes[0].add_patch(mark)
    figure.set_layout_engine("none")

    style = {"description_width": "9em"}
    layout = {"width": "36em"}
    weight_choice, temperature_choice = (
        ipywidgets.SelectionSlider(
            options=[(f"{v:g}", v) for v in values], value=values[-2:][0], description=name, style=style, layout=layout
        )
        for name, values in (("soft weight", weights), ("temperature τ", temperatures))
    )
    chart = ipywidgets.Image(format="png", layout={"width": "768px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        weight, temperature = weight_choice.value, temperature_choice.value
        mark.set_xy((temperatures.index(temperature) - 0.5, weights.index(weight) - 0.5))
        chart.value = report.png(figure)
        row = result.loc[plain if weight == 0 else f"{weight:g} | {temperature:g}"]
        text = f"soft weight {weight:g}, τ = {temperature:g}: {metric} {100 * row['mean']:.1f} %"
        if weight == 0:
            line.value = f"{text}, from labels alone; the temperature means nothing here ({row['seeds']} seeds)"
            return
        low, difference, high = (f"{100 * row[end]:+.1f}" for end in ("low", "difference", "high"))
        line.value = f"{text}, {difference} [{low}, {high}] points against labels alone ({row['seeds']} seeds)"

    draw()
    weight_choice.observe(draw, names="value")
    temperature_choice.observe(draw, names="value")
    text = "Loss-balance explorer: run this cell, then choose a soft weight and a temperature."
    return Panel([weight_choice, temperature_choice, chart, line], text=text)


def balance_grid(runs: "DataFrame", *, metric: str = "accuracy") -> "DataFrame":
    """Means of runs whose arms are named "weight | temperature": a row per weight, a column per temperature.

    Args:
        runs: Stored runs. What a weight has only one temperature for, stands in all columns.
        metric: The column to average.
    """
    pairs = runs["arm"].str.split(" | ", regex=False, expand=True).astype(float)
    table = runs.assign(weight=pairs[0], temperature=pairs[1]).pivot_table(metric, "weight", "temperature")
    table.loc[table.notna().sum(axis=1) == 1] = table.ffill(axis=1).bfill(axis=1)
    return table.rename(index="{:g}".format, columns="{:g}".format)


def quiz_panel(title: str, questions: Sequence[Question]) -> Panel:
    """Multiple-choice questions; choosing an answer shows what to say about it.

    Args:
        title: Above the questions.
        questions: What to ask.

    Returns:
        A panel of a heading and, for each question, a box of its text, its choices and the feedback.
    """
    boxes = [ipywidgets.HTML(f"<b>{escape(title)}</b>")]
    lines = [f"{title}: run this cell to answer."]
    for number, question in enumerate(questions, 1):
        boxes.append(_question_box(number, question))
        lines += [f"{number}. {question.text}", *(f"   ( ) {option}" for option in sorted(question.options))]
    return Panel(boxes, text="\n".join(lines))


def _question_box(number: int, question: Question) -> Any:
    text = ipywidgets.HTML(f"{number}. {escape(question.text)}")
    choices = ipywidgets.RadioButtons(options=sorted(question.options), value=None)  # or the right one is always first
    choices.layout.width = "auto"
    feedback = ipywidgets.HTML()

    def answer(_: object) -> None:
        verdict = "Right." if choices.value == question.right else "Not quite."
        why = question.options.get(choices.value)  # nothing when the choice is taken back
        feedback.value = "" if why is None else f"<b>{verdict}</b> {escape(why)}"

    choices.observe(answer, names="value")
    return ipywidgets.VBox([text, choices, feedback])
