"""One position of speculative decoding to move: how like the teacher the student is, and what a round then yields.

Lesson: notebooks/12_reasoning.ipynb.
"""

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["parts_of_a_round", "speculative_explorer"]


def parts_of_a_round(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Where a token of the text comes from: drafted and accepted, or drawn anew after a rejection.

    Args:
        student: Its probabilities, shape ``(V,)``.
        teacher: Its probabilities, same shape.

    Returns:
        Both distributions by name, and the two parts, which add up to the teacher's.
    """
    parts = {"student": student, "teacher": teacher}
    return parts | {"accepted": torch.minimum(student, teacher), "drawn anew": (teacher - student).clamp(min=0)}


def speculative_explorer(
    acceptance: Callable[[Tensor, Tensor], Tensor],
    tokens_per_call: Callable[..., Tensor],
    student_logits: Tensor,  # (V,)
    teacher_logits: Tensor,  # (V,)
    *,
    token_names: Sequence[str] | None = None,
) -> Panel:
    """Move the student towards the teacher and change the number of drafts; the bars show where tokens come from.

    Args:
        acceptance: ``speculative_acceptance``.
        tokens_per_call: ``expected_tokens_per_call``.
        student_logits: One position's raw scores, shape ``(V,)``.
        teacher_logits: The teacher's, same shape.
        token_names: Names of the tokens; their numbers by default.

    Returns:
        A panel whose children are sliders of how far the student has come, of the temperature and of the drafts, the
        chart (PNG) and a line of text.

    Raises:
        ValueError: If the logits are not two rows of one length, or there is not one name per token.
    """
    from kdref.lab import report
    from kdref.lab.report import plots, style

    if student_logits.dim() != 1 or student_logits.shape != teacher_logits.shape:
        shapes = tuple(student_logits.shape), tuple(teacher_logits.shape)
        raise ValueError(f"expected one position's logits (V,) of both, got shapes {shapes[0]} and {shapes[1]}")
    names = [str(name) for name in (range(len(student_logits)) if token_names is None else token_names)]
    if len(names) != len(student_logits):
        raise ValueError(f"{len(student_logits)} tokens need as many names, got {len(names)}")
    start, goal = student_logits.detach().cpu().double(), teacher_logits.detach().cpu().double()

    named, layout = {"description_width": "9em"}, {"width": "36em"}
    share = ipywidgets.FloatSlider(0.0, min=0, max=1, step=0.05, description="distilled", style=named, layout=layout)
    warmth = ipywidgets.FloatSlider(
        1.0, min=0.3, max=3, step=0.1, description="temperature τ", style=named, layout=layout
    )
    drafts = ipywidgets.IntSlider(4, 0, 12, description="drafts per call", style=named, layout=layout)
    chart = ipywidgets.Image(format="png", layout={"width": "768px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def parts() -> dict[str, Tensor]:
        student = start + share.value * (goal - start)
        return parts_of_a_round(*((logits / warmth.value).softmax(dim=-1) for logits in (student, goal)))

    with style.new_figure(8, 3.4) as (figure, (ax,)):
        plots.draw_bars(ax, parts(), names=names)
        ax.set(ylim=(0, 1), xlabel="next token", ylabel="probability")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.set_layout_engine("none")

    def draw(_: object = None) -> None:
        shown = parts()
        for bar, height in zip(ax.patches, torch.cat(list(shown.values())).tolist(), strict=True):
            bar.set(height=height)
        chart.value = report.png(figure)
        accepted = acceptance(shown["student"], shown["teacher"])
        yields = float(tokens_per_call(accepted, num_drafts=drafts.value))
        likeliest = escape(names[int(shown["teacher"].argmax())])
        line.value = (
            f"Accepted: {100 * float(accepted):.1f} % of drafts; {yields:.2f} tokens per call of the teacher, "
            f"of at most {drafts.value + 1}. Likeliest next token: {likeliest}, whoever drafts."
        )

    draw()
    for slider in (share, warmth, drafts):
        slider.observe(draw, names="value")
    text = "Explorer of speculative decoding: run this cell, then move the student, the temperature and the drafts."
    return Panel([share, warmth, drafts, chart, line], text=text)
