"""The chooser says what fits its answers, and keeps to the table."""

import html
import re

from kdref.lab.course.choices import CHOICES, QUESTIONS, case_of, fitting
from kdref.lab.widgets.choose import NOTHING, chooser, recommended


def advised(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<b>(.*?)</b>", text)]


def test_it_asks_every_question_and_stands_at_the_plain_case() -> None:
    *asked, answer = chooser().children
    assert [box.description for box in asked] == [question.text for question in QUESTIONS.values()]
    assert [box.options for box in asked] == [question.answers for question in QUESTIONS.values()]
    assert advised(answer.value) == [choice.advice for choice in fitting(CHOICES, case_of())]
    assert "Start with" in answer.value
    assert "Measure" not in answer.value


def test_an_answer_changes_what_is_said_and_back() -> None:
    panel = chooser()
    boxes, answer = dict(zip(QUESTIONS, panel.children, strict=False)), panel.children[-1]
    at_rest = answer.value
    for key, value in {"student": "is too small for them", "teachers": "none", "harm": "a slow device"}.items():
        boxes[key].value = value
        assert advised(answer.value) == [choice.advice for choice in fitting(CHOICES, case_of(**{key: value}))]
        assert answer.value != at_rest
        boxes[key].value = QUESTIONS[key].answers[0]
    assert answer.value == at_rest


def test_figures_and_commands_stand_beside_the_advice() -> None:
    text = recommended(case_of())
    assert re.search(
        r"soft targets at τ = 10 against labels \+\d\.\d points \[\d\.\d, \d\.\d\], 24 seeds:\s+helps", text
    )
    assert "python -m kdref copy distillation_loss" in text
    assert max(map(len, text.splitlines())) <= 110


def test_where_nothing_fits_it_says_so() -> None:
    assert recommended(case_of(task="embeddings", gives="answers or text only")) == NOTHING
    panel = chooser()
    boxes, answer = dict(zip(QUESTIONS, panel.children, strict=False)), panel.children[-1]
    boxes["task"].value, boxes["gives"].value = "embeddings", "answers or text only"
    assert NOTHING in answer.value


def test_shows_the_plain_case_where_there_are_no_widgets() -> None:
    bundle, _ = chooser()._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Chooser: run this cell, then answer its questions.")
    assert recommended(case_of()) in bundle["text/plain"]
