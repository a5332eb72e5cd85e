"""A slider of the temperature. Lesson: notebooks/01_soft_targets.ipynb."""

import math
from collections.abc import Sequence
from html import escape

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["temperature_explorer"]


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
    from kdref.lab import report
    from kdref.lab.report import plots, style

    if logits.dim() != 1:
        raise ValueError(f"expected one example's logits (C,), got shape {tuple(logits.shape)}: pass a row of them")
    names = [str(name) for name in (range(len(logits)) if class_names is None else class_names)]
    if len(names) != len(logits):
        raise ValueError(f"{len(logits)} classes need as many names, got {len(names)}")
    scores = logits.detach().cpu().double()
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
