"""What MUNGE makes of points along a curve, beside what is left when each attribute is drawn alone.

Lesson: notebooks/10_transfer_data.ipynb.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Make", "astray", "draw_made", "made_explorer", "made_figure", "made_of"]

Make = Callable[..., Tensor]  # kdref.transfer_data.munge: a widget imports no method
COPIES = 5


def made_of(points: Tensor, munge: Make, *, swap_probability: float, local_variance: float) -> Tensor:
    """Five times as many points: for the same settings the same ones."""
    return munge(
        points,
        copies=COPIES,
        swap_probability=swap_probability,
        local_variance=local_variance,
        generator=torch.Generator().manual_seed(1),
    )


def made_figure(
    points: Tensor,  # (N, 2)
    munge: Make,
    alone: Tensor,  # (M, 2)
    *,
    swap_probability: float,
    local_variance: float,
) -> "Figure":
    """The examples, what is made of them, and each attribute drawn alone: three panels of one scale.

    Args:
        points: The examples.
        munge: Makes new ones of them.
        alone: Points whose attributes were drawn one by one.
        swap_probability: For ``munge``.
        local_variance: For ``munge``.
    """
    from kdref.lab.report import style

    with style.new_figure(10, 3.7, columns=3) as (figure, axes):
        made = made_of(points, munge, swap_probability=swap_probability, local_variance=local_variance)
        draw_made(axes, points, made, alone)
    return figure


def draw_made(axes: Sequence["Axes"], points: Tensor, made: Tensor, alone: Tensor) -> None:
    """Draw on three given axes; see ``made_figure``."""
    from kdref.lab.report import style

    low, high = (points.amin(dim=0) - 0.4).tolist(), (points.amax(dim=0) + 0.4).tolist()
    titles = (f"{len(points)} examples", "MUNGE", "each attribute alone")
    for index, (ax, shown, title) in enumerate(zip(axes, (points, made, alone), titles, strict=True)):
        ax.clear()
        if index:
            ax.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=40, color="#bbbbbb", zorder=1)
        ax.scatter(
            shown[:, 0].numpy(),
            shown[:, 1].numpy(),
            s=14,
            color=style.COLORS[index],
            marker=style.MARKERS[index],
            zorder=2,
        )
        ax.set(title=title, xlabel="attribute 1", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes[0].set_ylabel("attribute 2")


def astray(made: Tensor, points: Tensor) -> float:
    """The share of made points farther from every example than any example is from its nearest other one."""
    between = torch.cdist(points, points).fill_diagonal_(float("inf")).amin(dim=1).max()
    return float((torch.cdist(made, points).amin(dim=1) > between).double().mean())


def made_explorer(
    points: Tensor,  # (N, 2)
    munge: Make,
    alone: Tensor,  # (M, 2)
) -> Panel:
    """Move MUNGE's two settings and see what it makes.

    Args:
        points: As for ``made_figure``.
        munge: As for ``made_figure``.
        alone: As for ``made_figure``.

    Returns:
        A panel whose children are the two sliders, the picture (PNG) and a line of text.

    Raises:
        ValueError: If the points are not in two dimensions.
    """
    from kdref.lab import report

    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must be (N, 2), to be drawn, got {tuple(points.shape)}")
    figure = made_figure(points, munge, alone, swap_probability=0.5, local_variance=1.0)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "11em"}, {"width": "36em"}
    swap = ipywidgets.FloatSlider(
        value=0.5, min=0.0, max=1.0, step=0.05, description="swap probability p", style=style, layout=layout
    )
    variance = ipywidgets.FloatLogSlider(
        value=1.0, base=2, min=-2, max=4, step=1, description="local variance s", style=style, layout=layout
    )
    chart = ipywidgets.Image(format="png", layout={"width": "960px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        made = made_of(points, munge, swap_probability=swap.value, local_variance=variance.value)
        draw_made(figure.axes, points, made, alone)
        chart.value = report.png(figure)
        line.value = (
            f"p = {swap.value:g}, s = {variance.value:g}: {100 * astray(made, points):.0f} % of what MUNGE makes lies "
            f"astray, of attributes drawn alone {100 * astray(alone, points):.0f} %"
        )

    draw()
    for choice in (swap, variance):
        choice.observe(draw, names="value")
    return Panel([swap, variance, chart, line], text="MUNGE explorer: run this cell, then move p and s.")
