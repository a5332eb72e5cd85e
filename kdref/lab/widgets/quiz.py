"""The quiz at the end of every lesson."""

from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets

from kdref.lab.course.questions import Question
from kdref.lab.widgets.panel import Panel

__all__ = ["quiz_panel"]


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
