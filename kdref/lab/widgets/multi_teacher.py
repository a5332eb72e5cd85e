"""Two or three teachers and one example: move their weights and their loudness, and see both ways to average them.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["both_means", "draw_views", "teachers_explorer"]


def both_means(
    logits: Mapping[str, Tensor],
    *,
    weights: Sequence[float] | None = None,
) -> dict[str, Tensor]:
    """Each teacher's probabilities, and the two means of them.

    Args:
        logits: Teacher's name to its logits for one example, ``(C,)``.
        weights: One per teacher, not negative, not all 0; brought to the sum 1. Equal by default.

    Returns:
        Each teacher's probabilities by its name, then "arithmetic mean" and "geometric mean".
    """
    z = torch.stack([row.detach().cpu().double() for row in logits.values()])
    w = torch.ones(len(z), dtype=z.dtype) if weights is None else torch.tensor(weights, dtype=z.dtype)
    w = (w / w.sum())[:, None]
    p = z.softmax(dim=-1)
    shown = dict(zip(logits, p, strict=True))
    return shown | {"arithmetic mean": (w * p).sum(dim=0), "geometric mean": (w * z).sum(dim=0).softmax(dim=-1)}


def draw_views(
    axes: Sequence[Any],
    image: Tensor,  # (1, 1, 8, 8)
    views: Mapping[str, Callable[[Tensor], Tensor]],
) -> None:
    """Draw what the teachers of lesson 06 see of a digit: pixels, Fourier magnitudes, sums of rows and of columns.

    Args:
        axes: Four of them.
        image: One digit.
        views: What each sees of images, by the names "Fourier", "rows" and "columns": ``(1, 40)``, twice ``(1, 8)``.
    """
    from kdref.lab.report import style

    pixels, fourier, rows, columns = axes
    for ax in axes:
        ax.grid(False)
    pixels.imshow(image[0, 0], cmap="gray_r")
    pixels.set(title="pixels", xlabel="column", ylabel="row")
    fourier.imshow(views["Fourier"](image).reshape(8, 5), cmap=style.SEQUENTIAL)
    fourier.set(title="Fourier", xlabel="frequency across", ylabel="frequency down", xticks=range(0, 5, 2))
    rows.barh(range(8), views["rows"](image)[0], color=style.COLORS[0])
    rows.invert_yaxis()
    rows.set(title="rows", xlabel="sum / 4", ylabel="row")
    columns.bar(range(8), views["columns"](image)[0], color=style.COLORS[1])
    columns.set(title="columns", xlabel="column", ylabel="sum / 4", xticks=range(0, 8, 2))


def teachers_explorer(
    logits: Mapping[str, Tensor],
    *,
    class_names: Sequence[str] | None = None,
) -> Panel:
    """A weight and a loudness for each teacher, above the bars that they make.

    The loudness multiplies a teacher's logits: a louder teacher is surer of the same opinion.

    Args:
        logits: Teacher's name to its logits for one example, ``(C,)``.
        class_names: Names of the classes; their numbers by default.

    Returns:
        A panel whose children are one row of two sliders per teacher, the chart (PNG) and a line of text.

    Raises:
        ValueError: If there are fewer than two teachers, or their classes or the names differ in number.
    """
    from kdref.lab import report
    from kdref.lab.report import plots, style

    names, sizes = list(logits), {row.shape for row in logits.values()}
    if len(names) < 2 or len(sizes) != 1 or len(next(iter(sizes))) != 1:
        shapes = [tuple(row.shape) for row in logits.values()]
        raise ValueError(f"two teachers or more with the same classes are needed, got {names} with shapes {shapes}")
    classes = [str(name) for name in (range(len(logits[names[0]])) if class_names is None else class_names)]
    if len(classes) != len(logits[names[0]]):
        raise ValueError(f"{len(logits[names[0]])} classes need as many names, got {len(classes)}")
    with style.new_figure(8, 3.6) as (figure, (ax,)):
        plots.draw_bars(ax, both_means(logits), names=classes)
        ax.set(ylim=(0, 1), xlabel="class", ylabel="probability")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.set_layout_engine("none")

    look, layout = {"description_width": "5em"}, {"width": "22em"}
    weights = [
        ipywidgets.FloatSlider(value=1.0, min=0.0, max=1.0, step=0.05, description="weight", style=look, layout=layout)
        for _ in names
    ]
    louder = [
        ipywidgets.FloatSlider(
            value=1.0, min=0.0, max=10.0, step=0.1, description="loudness", style=look, layout=layout
        )
        for _ in names
    ]
    rows = [
        ipywidgets.HBox([ipywidgets.HTML(escape(name), layout={"width": "7em"}), weight, loudness])
        for name, weight, loudness in zip(names, weights, louder, strict=True)
    ]
    chart = ipywidgets.Image(format="png", layout={"width": "768px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        chosen = [slider.value for slider in weights]
        if sum(chosen) == 0:
            line.value = "nobody is asked: give one of them a weight"
            return
        heard = {name: loudness.value * logits[name] for name, loudness in zip(names, louder, strict=True)}
        shown = both_means(heard, weights=chosen)
        for bar, height in zip(ax.patches, torch.cat(list(shown.values())).tolist(), strict=True):
            bar.set(height=height)
        chart.value = report.png(figure)
        firsts = []
        for mean in ("arithmetic mean", "geometric mean"):
            top = int(shown[mean].argmax())
            firsts.append(f"{mean}: {escape(classes[top])} first, with {100 * float(shown[mean][top]):.1f} %")
        entropies = torch.stack([torch.special.entr(shown[name]).sum() for name in names])
        shares = torch.tensor(chosen, dtype=entropies.dtype) / sum(chosen)
        apart = float(torch.special.entr(shown["arithmetic mean"]).sum() - (shares * entropies).sum())
        most = float(torch.special.entr(shares).sum())
        line.value = f"{'; '.join(firsts)}; weighted disagreement {abs(apart):.2f} of at most {abs(most):.2f} nats"

    draw()
    for slider in [*weights, *louder]:
        slider.observe(draw, names="value")
    text = "Explorer of several teachers: run this cell, then move their weights and their loudness."
    return Panel([*rows, chart, line], text=text)
