"""The look of every figure: a palette for colour-blind readers too, markers beside it, sizes for a projector.

Lesson: notebooks/01_soft_targets.ipynb.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = ["COLORS", "DIVERGING", "MARKERS", "SEQUENTIAL", "new_figure", "percent_axis"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too pale for lines on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One per colour, so that a figure can be read without any."""

HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")
"""The same for bars."""

SEQUENTIAL = "Blues"
"""Colour map of magnitudes: one hue from light to dark, which no eye can confuse; zero is nearly white."""

DIVERGING = "RdBu"
"""Colour map of differences: red below zero, white at zero, blue above; told apart by the colour-blind too."""

_RC: Any = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so text has the same width everywhere
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 7,
    "hatch.color": "#FFFFFF",
    "hatch.linewidth": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def new_figure(
    width: float, height: float, *, rows: int = 1, columns: int = 1, width_ratios: Sequence[float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure in the course's style; what is drawn inside the ``with`` block gets the style.

    The figure is not registered with pyplot, so it needs no closing and no notebook shows it twice.

    Args:
        width: Inches. A notebook's column is about 10 inches wide.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        width_ratios: One number per column; equal by default.

    Yields:
        The figure and its axes, row by row.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)
        yield figure, list(axes.flat)
        figure.draw_without_rendering()  # a second drawing would move things a little: let the layout settle


def percent_axis(axis: Any) -> None:
    """Label an axis (``ax.xaxis`` or ``ax.yaxis``) of fractions in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))
