"""A map of the balance between labels and teacher. Lesson: notebooks/02_response_based.ipynb."""

from typing import TYPE_CHECKING

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["balance_explorer", "balance_grid"]


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

    from kdref.lab import report
    from kdref.lab.report import plots
    from kdref.lab.report.tables import widened
    from kdref.lab.training.seeds import compare

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
        how = "; ".join(filter(None, (f"{row['seeds']} seeds", widened(result))))
        line.value = f"{text}, {difference} [{low}, {high}] points against labels alone ({how})"

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
