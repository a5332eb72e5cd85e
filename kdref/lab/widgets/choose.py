"""Answer questions about a case, and read what the course recommends for it, with the evidence and what to copy.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import html
import textwrap
from collections.abc import Mapping

import ipywidgets

from kdref.lab.course.choices import CHOICES, KINDS, QUESTIONS, Choice, case_of, command, fitting, said
from kdref.lab.widgets.panel import Panel

__all__ = ["chooser", "recommended"]

NOTHING = "The course has tried nothing for this case: whatever you do, run labels alone beside it."


def recommended(case: Mapping[str, str]) -> str:
    """What is recommended for a case, as a list in Markdown: advice, lesson, evidence and command.

    Args:
        case: An answer for every question, from ``case_of``.
    """
    lines = []
    for kind, heading in KINDS.items():
        for choice in _of_kind(case, kind):
            lines += [f"- {heading}: {choice.advice} (lesson {choice.lesson}).", f"  {said(choice)}."]
            lines += [f"  `{command(choice)}`"]
    wrapped = [
        textwrap.fill(line, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in lines or [NOTHING]
    ]
    return "\n".join(wrapped)


def chooser() -> Panel:
    """Choose what you have and need, and read what the lessons found for such a case.

    Returns:
        A panel whose children are a dropdown for each question, in the order of ``QUESTIONS``, and the answer (HTML).
    """
    style, layout = {"description_width": "14em"}, {"width": "32em"}
    asked = {
        key: ipywidgets.Dropdown(
            options=question.answers, value=question.answers[0], description=question.text, style=style, layout=layout
        )
        for key, question in QUESTIONS.items()
    }
    answer = ipywidgets.HTML()

    def say(_: object = None) -> None:
        answer.value = _as_html({key: box.value for key, box in asked.items()})

    say()
    for box in asked.values():
        box.observe(say, names="value")
    text = f"Chooser: run this cell, then answer its questions. At rest, the plain case:\n\n{recommended(case_of())}"
    return Panel([*asked.values(), answer], text=text)


def _of_kind(case: Mapping[str, str], kind: str) -> list[Choice]:
    return [choice for choice in fitting(CHOICES, case) if choice.kind == kind]


def _as_html(case: Mapping[str, str]) -> str:
    parts = []
    for kind, heading in KINDS.items():
        if found := _of_kind(case, kind):
            parts.append(f"<h4>{heading}</h4><ul>{''.join(map(_item, found))}</ul>")
    return "".join(parts) or f"<p>{NOTHING}</p>"


def _item(choice: Choice) -> str:
    advice, evidence, line = (html.escape(text) for text in (choice.advice, said(choice), command(choice)))
    return f"<li><b>{advice}</b> (lesson {choice.lesson})<br>{evidence}<br><code>{line}</code></li>"
