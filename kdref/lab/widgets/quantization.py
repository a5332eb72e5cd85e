"""Weights and the levels that they are rounded to: the error of rounding, the error of clipping, and the step between.

Lesson: notebooks/14_edge.ipynb.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SHARES", "Errors", "errors", "levels_explorer", "levels_figure"]


class Quantizer(Protocol):
    """``fake_quantize``: a widget imports no method."""

    def __call__(self, x: Tensor, scale: Tensor, *, bits: int) -> Tensor:
        """Round x to the levels of a step."""


SHARES: tuple[float, ...] = tuple(0.02 * 60 ** (k / 79) for k in range(80))  # of the step that clips nothing
START = (3, 1.0)  # bits, and the step as a share


class Errors(NamedTuple):
    """Mean squared errors, as shares of the weights' mean square."""

    rounding: float
    clipping: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.rounding + self.clipping


def errors(quantize: Quantizer, weights: Tensor, *, bits: int, share: float) -> Errors:
    """Split the error by whether a weight lies between the first and the last level.

    Args:
        quantize: ``kdref.quantization.fake_quantize``.
        weights: Any shape.
        bits: From 2 on.
        share: The step, in that one which puts the largest weight on the last level.
    """
    step, low, high = _grid(weights, bits, share)
    lost = (quantize(weights, step, bits=bits) - weights).square()
    outside = (weights < low * step) | (weights > high * step)
    rounding, clipping = ((lost * part).sum() / weights.square().sum() for part in (~outside, outside))
    return Errors(rounding.item(), clipping.item())


def levels_figure(quantize: Quantizer, weights: Tensor, *, bits: int = START[0], share: float = START[1]) -> "Figure":
    """The levels on the weights' histogram, and both errors over the step.

    Args:
        quantize: ``kdref.quantization.fake_quantize``.
        weights: Any shape.
        bits: From 2 on.
        share: The step, in that one which puts the largest weight on the last level.

    Raises:
        ValueError: If all weights are zero, or there are none.
    """
    from kdref.lab.report import style

    if not weights.any():
        raise ValueError(f"weights must not all be zero, got shape {tuple(weights.shape)}")
    with style.new_figure(11.5, 4.0, columns=2, width_ratios=(3, 2)) as (figure, axes):
        _draw(axes, quantize, weights.detach().float().flatten(), bits, share)
    return figure


def levels_explorer(quantize: Quantizer, weights: Tensor) -> Panel:
    """Choose bits and a step, and see what is lost by rounding and what by clipping.

    Args:
        quantize: ``kdref.quantization.fake_quantize``.
        weights: Of a trained layer, any shape.

    Returns:
        A panel whose children are the two sliders, the picture (PNG) and a line of text.

    Raises:
        ValueError: If all weights are zero, or there are none.
    """
    from kdref.lab import report

    flat = weights.detach().float().flatten()
    figure = levels_figure(quantize, flat)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "11em"}, {"width": "36em"}
    bits = ipywidgets.IntSlider(value=START[0], min=2, max=8, description="bits", style=style, layout=layout)
    share = ipywidgets.FloatSlider(
        value=START[1], min=0.02, max=1.2, step=0.02, description="step, of the largest's", style=style, layout=layout
    )
    share.readout_format = ".0%"
    chart = ipywidgets.Image(format="png", layout={"width": "1080px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        _draw(figure.axes, quantize, flat, bits.value, share.value)
        chart.value = report.png(figure)
        line.value = _words(quantize, flat, bits.value, share.value)

    draw()
    for choice in (bits, share):
        choice.observe(draw, names="value")
    text = "Levels explorer: run this cell, then choose how many bits there are, and make the step smaller."
    return Panel([bits, share, chart, line], text=text)


def _grid(weights: Tensor, bits: int, share: float) -> tuple[Tensor, int, int]:
    """The step, the first level and the last."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return share * weights.abs().max() / high, low, high


def _best(quantize: Quantizer, weights: Tensor, bits: int) -> float:
    """The share with the least error."""
    return min(SHARES, key=lambda share: errors(quantize, weights, bits=bits, share=share).total)


def _words(quantize: Quantizer, weights: Tensor, bits: int, share: float) -> str:
    found, best = errors(quantize, weights, bits=bits, share=share), _best(quantize, weights, bits)
    step, low, high = _grid(weights, bits, share)
    clipped = ((weights < low * step) | (weights > high * step)).float().mean().item()
    least = errors(quantize, weights, bits=bits, share=best).total
    return (
        f"{bits} bits, {2**bits} levels · {100 * clipped:.1f} % of the weights clipped · error: rounding "
        f"{100 * found.rounding:.3g} % + clipping {100 * found.clipping:.3g} % = {100 * found.total:.3g} % of the "
        f"weights' square · least, {100 * least:.3g} %, at a step of {100 * best:.0f} %"
    )


def _draw(axes: Sequence["Axes"], quantize: Quantizer, weights: Tensor, bits: int, share: float) -> None:
    from kdref.lab.report import style

    histogram, curves = axes
    step, low, high = _grid(weights, bits, share)
    levels = torch.arange(low, high + 1) * step
    edge = 1.1 * weights.abs().max().item()
    histogram.clear()
    histogram.hist(weights.numpy(), bins=80, range=(-edge, edge), color="#bbbbbb", label="weights")
    histogram.vlines(
        levels.numpy(), 0, 0.06, transform=histogram.get_xaxis_transform(), color=style.COLORS[0], label="levels"
    )
    for place, (start, end) in enumerate(((-edge, levels[0].item()), (levels[-1].item(), edge))):
        if start < end:
            label = "clipped" if place else None
            histogram.axvspan(start, end, color=style.COLORS[1], alpha=0.15, label=label)
    histogram.set(title=f"{bits} bits", xlabel="weight", ylabel="how many", xlim=(-edge, edge))
    histogram.legend(loc="upper left")
    curves.clear()
    every = [errors(quantize, weights, bits=bits, share=each) for each in SHARES]
    for name, color, line in (("total", style.COLORS[6], "-"), ("rounding", style.COLORS[0], "--")):
        curves.plot(SHARES, [getattr(each, name) for each in every], line, color=color, label=name)
    curves.plot(SHARES, [each.clipping for each in every], ":", color=style.COLORS[1], label="clipping")
    curves.plot(share, errors(quantize, weights, bits=bits, share=share).total, "ko", markersize=9)
    curves.set(title="what is lost", xlabel="step, of the largest's", xlim=(0, 1.2), yscale="log", ylim=(1e-5, 1.5))
    curves.set_ylabel("of the weights' square")
    curves.legend(loc="lower center")
    style.percent_axis(curves.xaxis)
