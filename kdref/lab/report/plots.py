"""The figures that lessons share: class-by-class matrices, curves with bands, paired differences, bars, examples.

Each function returns a figure; ``report.figure`` displays it together with its alternative text.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit

from kdref.lab.report.style import COLORS, DIVERGING, HATCHES, MARKERS, SEQUENTIAL, new_figure, percent_axis
from kdref.lab.report.tables import widened

__all__ = ["bars", "curve", "examples", "grid", "intervals", "matrix"]


def matrix(
    panels: Mapping[str, Any],
    *,
    class_names: Sequence[str] | None = None,
    row_label: str = "true class",
    column_label: str = "predicted class",
    decimals: int = 2,
    diagonal: bool = True,
) -> Figure:
    """Draw class-by-class matrices side by side, every value written in its cell.

    Args:
        panels: Title to matrix ``(C, C)``, tensor or array. Each panel has its own colours, from zero to its maximum.
        class_names: Names of the classes; their numbers by default.
        row_label: What the rows are.
        column_label: What the columns are.
        decimals: Of the written values; a leading zero is left out, a value that rounds to zero is not written.
        diagonal: False leaves the diagonal blank, so that what is off it can be told apart.
    """
    with new_figure(5.4 * len(panels), 5.2, columns=len(panels)) as (figure, axes):
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            shown = _array(values).astype(float)
            if not diagonal:
                np.fill_diagonal(shown, np.nan)
            ax.imshow(shown, cmap=SEQUENTIAL, vmin=0)
            ax.set_facecolor("#DDDDDD")  # of what is left blank
            names = [str(n) for n in class_names] if class_names is not None else [str(n) for n in range(len(shown))]
            ax.set_xticks(range(len(names)), names)
            ax.set_yticks(range(len(names)), names)
            ax.set(title=title, xlabel=column_label, ylabel=row_label)
            ax.grid(False)
            ax.tick_params(length=0)
            dark = 0.7 * np.nanmax(shown)
            size = min(11.0, 110 / len(names))
            for (row, column), value in np.ndenumerate(shown):
                text = f"{value:.{decimals}f}"
                if not math.isnan(value) and float(text) != 0:
                    color = "white" if value > dark else "black"
                    ax.text(column, row, text.removeprefix("0"), ha="center", va="center", color=color, fontsize=size)
    return figure


def curve(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    percent: bool = False,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a mean per point with its 95 % band over the rows (seeds) that share it; a line per group.

    Args:
        frame: One row per measurement.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
        by: Column that tells the lines apart, such as ``"arm"``. None draws one line.
        x_label: The column's name by default.
        y_label: The column's name by default.
        title: Above the axes.
        log_x: Logarithmic horizontal axis, its ticks at the points measured.
        log_y: Logarithmic vertical axis.
        percent: ``y`` is a fraction, to be shown in per cent.
        levels: Name to value: horizontal lines to compare with, named at their right end.
    """
    groups = [(y, frame)] if by is None else [(str(k), frame[frame[by] == k]) for k in dict.fromkeys(frame[by])]
    with new_figure(8, 4.4) as (figure, (ax,)):
        for index, (name, rows) in enumerate(groups):
            means = rows.groupby(x)[y].agg(["mean", "std", "count"])
            color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
            ax.plot(means.index, means["mean"], color=color, marker=marker, label=name)
            if (means["count"] > 1).all():
                half = stdtrit(means["count"] - 1, 0.975) * means["std"] / np.sqrt(means["count"])
                ax.fill_between(means.index, means["mean"] - half, means["mean"] + half, color=color, alpha=0.2, lw=0)
        if log_x:
            ax.set_xscale("log")
            ticks = sorted(frame[x].unique())
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
        elif pd.api.types.is_numeric_dtype(frame[x]) and (frame[x] % 1 == 0).all():
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # no half epochs
        if log_y:
            ax.set_yscale("log")
        for index, (name, value) in enumerate((levels or {}).items()):
            ax.axhline(value, color="#555555", linestyle=("--", ":", "-.")[index % 3], lw=1.5)
            ax.annotate(
                name,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color="#333333",
            )
        if percent:
            percent_axis(ax.yaxis)
        ax.set(title=title, xlabel=x_label or x, ylabel=y_label or y)
        if len(groups) > 1:
            ax.legend()
    return figure


def intervals(
    result: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    margin: float = 0.01,
    x_label: str = "difference in accuracy, points",
    title: str = "",
    percent: bool = True,
) -> Figure:
    """Draw what ``lab.compare`` returned: each arm's paired difference with its interval, zero, and the margin.

    Args:
        result: From ``lab.compare``; the baseline's row is left out. Or several, title to result, with the same arms:
            they are drawn side by side, and the names stand at the left.
        margin: The margin of the comparison, drawn as a band.
        x_label: Of the horizontal axis; below it stands for how many arms intervals are widened, where they are.
        title: Above the axes.
        percent: Differences are of fractions: show them in points.

    Raises:
        ValueError: If several results have other arms, or the same in another order.
    """
    panels = {title: result} if isinstance(result, pd.DataFrame) else result
    shown = {name: frame[frame["verdict"] != "baseline"] for name, frame in panels.items()}
    names = [list(frame.index) for frame in shown.values()]
    if any(other != names[0] for other in names):
        raise ValueError(f"results drawn side by side need the same arms in the same order, got {names}")
    width = 8.0 if len(shown) == 1 else 3.2 + 3.6 * len(shown)
    with new_figure(width, 1.5 + 0.5 * len(names[0]), columns=len(shown)) as (figure, axes):
        for ax, (name, frame) in zip(axes, shown.items(), strict=True):
            _draw_intervals(ax, frame, margin, 100 if percent else 1)
            ax.set_yticks(range(len(frame)), [str(arm) for arm in frame.index] if ax is axes[0] else [])
            ax.set(title=name, xlabel="\n".join(filter(None, (x_label, widened(frame)))))
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_intervals(ax: Axes, frame: pd.DataFrame, margin: float, scale: int) -> None:
    ax.axvspan(-scale * margin, scale * margin, color="#EFEFEF", lw=0, label="too small to matter")
    ax.axvline(0, color="#555555", lw=1.5)
    for place, (_, row) in enumerate(frame.iterrows()):
        error = [[scale * (row["difference"] - row["low"])], [scale * (row["high"] - row["difference"])]]
        color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
        ax.errorbar(scale * row["difference"], place, xerr=error, color=color, marker=marker, capsize=5, lw=2)
    ax.set_ylim(len(frame) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def grid(
    values: pd.DataFrame,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    percent: bool = False,
    width: float = 8,
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
    differences: bool = False,
) -> Figure:
    """Draw a table of numbers as a heat map, every value written in its cell.

    Args:
        values: Columns along the horizontal axis, rows from top to bottom. Colours go from the least to the largest.
        x_label: What the columns are.
        y_label: What the rows are.
        title: Above the axes.
        percent: Values are fractions, to be shown in per cent.
        width: Inches.
        limits: What the lightest and the darkest colour stand for, where pictures are to be compared.
        decimals: Of values that are not shown in per cent.
        differences: Values may be of both signs: red below zero, white at zero, blue above, and the sign is written.
    """
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    if differences:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    with new_figure(width, 1.2 + 0.62 * len(values)) as (figure, (ax,)):
        ax.imshow(values.to_numpy(), cmap=DIVERGING if differences else SEQUENTIAL, aspect="auto", vmin=low, vmax=high)
        ax.set_xticks(range(values.shape[1]), [f"{name}" for name in values.columns])
        ax.set_yticks(range(values.shape[0]), [f"{name}" for name in values.index])
        for (row, column), value in np.ndenumerate(values.to_numpy()):
            dark = abs(value) > 0.6 * high if differences else value > low + 0.6 * (high - low)
            color = "white" if dark else "black"
            sign = "+" if differences else ""
            text = f"{100 * value:{sign}.1f} %" if percent else f"{value:{sign}.{decimals}f}"
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=12)
        ax.grid(False)
        ax.tick_params(length=0)
        ax.set(title=title, xlabel=x_label, ylabel=y_label)
    return figure


def bars(
    series: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    x_label: str = "class",
    y_label: str = "probability",
    title: str = "",
    percent: bool = False,
) -> Figure:
    """Draw grouped bars, told apart by colour and hatching.

    Args:
        series: Name of each series to its values, one per group.
        names: Names of the groups; their numbers by default.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        title: Above the axes.
        percent: Values are fractions, to be shown in per cent.
    """
    with new_figure(8, 3.8) as (figure, (ax,)):
        draw_bars(ax, series, names=names)
        ax.set(title=title, xlabel=x_label, ylabel=y_label)
        if percent:
            percent_axis(ax.yaxis)
        if len(series) > 1:
            ax.legend()
    return figure


def draw_bars(ax: Axes, series: Mapping[str, Any], *, names: Sequence[str] | None = None) -> None:
    """Draw grouped bars on given axes; see ``bars``."""
    width = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        heights = _array(values)
        places = np.arange(len(heights)) + (index - (len(series) - 1) / 2) * width
        color, hatch = COLORS[index % len(COLORS)], HATCHES[index % len(HATCHES)]
        ax.bar(places, heights, width, color=color, hatch=hatch, label=name)
        ax.set_xticks(range(len(heights)), [str(n) for n in (range(len(heights)) if names is None else names)])
    ax.grid(axis="x", visible=False)


def examples(inputs: Any, titles: Sequence[str] | None = None, *, columns: int = 8) -> Figure:
    """Draw a grid of examples: images ``(N, 1, H, W)`` as pictures, signals ``(N, 1, L)`` as lines.

    Args:
        inputs: Tensor or array, examples first, one channel.
        titles: One per example.
        columns: Examples per row.
    """
    shown = _array(inputs)
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    with new_figure(1.25 * columns, 1.45 * rows, rows=rows, columns=columns) as (figure, axes):
        for ax in axes:
            ax.set_axis_off()
        for index, (ax, example) in enumerate(zip(axes, shown, strict=False)):
            draw_example(ax, example)
            if titles is not None:
                ax.set_title(str(titles[index]), loc="center", fontsize=12, fontweight="normal")
    return figure


def draw_example(ax: Axes, example: Any) -> None:
    """Draw one image ``(1, H, W)`` or signal ``(1, L)`` on given axes."""
    values = _array(example)[0]
    if values.ndim == 2:
        ax.imshow(values, cmap="gray_r")
    else:
        ax.plot(values, color=COLORS[0])
    ax.set_axis_off()


def _array(values: Any) -> Any:
    """A tensor or anything like an array, as NumPy's."""
    return np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
