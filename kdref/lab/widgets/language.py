"""A student with one hump and a teacher with two: what each divergence between them makes of it.

Lesson: notebooks/19_writing_models.ipynb.
"""

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["DIVERGENCES", "best_hump", "divergence_explorer", "hump"]

DIVERGENCES: Mapping[str, dict[str, Any]] = {
    "forward KL": {"kind": "forward"},
    "reverse KL": {"kind": "reverse"},
    "Jensen-Shannon, ½": {"kind": "jensen_shannon", "mix": 0.5},
    "skew forward, 0.1": {"kind": "skew_forward", "mix": 0.1},
    "skew reverse, 0.1": {"kind": "skew_reverse", "mix": 0.1},
    "total variation": {"kind": "total_variation"},
}
_WIDTHS = torch.arange(5, 61, dtype=torch.float64) / 10  # in words


def hump(position: Tensor | float, width: Tensor | float, *, words: int) -> Tensor:
    """Logits of one hump over words in a row: highest at a position, falling off at both sides, shape ``(..., V)``.

    Args:
        position: Where it is highest, from 0 to V - 1; a tensor gives one row per position.
        width: Its standard deviation, in words.
        words: V.
    """
    place, spread = (torch.as_tensor(value, dtype=torch.float64)[..., None] for value in (position, width))
    return -((torch.arange(words, dtype=torch.float64) - place) ** 2) / (2 * spread**2)


def best_hump(divergence: Callable[..., Tensor], teacher_logits: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Logits of the hump that is nearest to the teacher, of all positions and widths in steps of a tenth.

    Args:
        divergence: ``token_divergence``.
        teacher_logits: Shape ``(V,)``.
        settings: One of ``DIVERGENCES``.
    """
    words = len(teacher_logits)
    positions = torch.arange(10 * (words - 1) + 1, dtype=torch.float64) / 10
    humps = hump(positions[:, None], _WIDTHS, words=words).flatten(0, 1)
    found: Tensor = humps[divergence(humps, teacher_logits.cpu().double().expand_as(humps), **settings).argmin()]
    return found


def divergence_explorer(divergence: Callable[..., Tensor], teacher_logits: Tensor) -> Panel:
    """Move a student's hump along the teacher's words and make it wider; each divergence says how far off it is.

    Args:
        divergence: ``token_divergence``.
        teacher_logits: One position's raw scores, shape ``(V,)``.

    Returns:
        A panel whose children are sliders of position and width, the chart (PNG) and a table (HTML).

    Raises:
        ValueError: If the logits are not one row.
    """
    from kdref.lab import report
    from kdref.lab.report import plots, style

    if teacher_logits.dim() != 1:
        raise ValueError(f"expected one position's logits (V,), got shape {tuple(teacher_logits.shape)}: pass a row")
    teacher, words = teacher_logits.detach().cpu().double(), len(teacher_logits)
    named, layout = {"description_width": "9em"}, {"width": "36em"}
    place = ipywidgets.FloatSlider(
        (words - 1) / 2, min=0, max=words - 1, step=0.1, description="position", style=named, layout=layout
    )
    width = ipywidgets.FloatSlider(3.0, min=0.5, max=6, step=0.1, description="width", style=named, layout=layout)
    chart = ipywidgets.Image(format="png", layout={"width": "768px", "max_width": "100%"})
    table = ipywidgets.HTML()
    best = {}
    for name, settings in DIVERGENCES.items():
        nearest = best_hump(divergence, teacher, settings)
        best[name] = nearest, float(divergence(nearest, teacher, **settings))

    with style.new_figure(8, 3) as (figure, (ax,)):
        plots.draw_bars(ax, {"teacher": teacher.softmax(-1), "student": torch.zeros(words)})
        ax.set(ylim=(0, 0.5), xlabel="word", ylabel="probability")
        ax.legend(loc="upper right")
    figure.set_layout_engine("none")

    def draw(_: object = None) -> None:
        student = hump(place.value, width.value, words=words)
        for bar, height in zip(ax.patches[words:], student.softmax(-1).tolist(), strict=True):
            bar.set(height=height)
        chart.value = report.png(figure)
        rows = [
            f"<tr><td>{name}</td><td>{float(divergence(student, teacher, **settings)):.3f}</td>"
            f"<td>{best[name][1]:.3f}, at word {int(best[name][0].argmax())}</td></tr>"
            for name, settings in DIVERGENCES.items()
        ]
        head = "<tr><th>divergence</th><th>now</th><th>the least there is</th></tr>"
        table.value = f"<table>{head}{''.join(rows)}</table>"

    draw()
    for slider in (place, width):
        slider.observe(draw, names="value")
    return Panel([place, width, chart, table], text="Divergence explorer: run this cell, then move the student's hump.")
