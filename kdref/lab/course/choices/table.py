"""The chooser's questions, the form of a recommendation, and which ones fit a case.

Lesson: notebooks/18_choose_your_method.ipynb. What is recommended stands in the files ``for_...`` beside this one.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from kdref.lab.course.choices.evidence import Evidence, sentence

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "QUESTIONS", "Choice", "Question", "case_of", "command", "conditions", "fitting", "rows", "said"]


class Question(NamedTuple):
    """What the chooser asks, and the answers that there are; the first one stands there at rest."""

    text: str
    answers: tuple[str, ...]


QUESTIONS: dict[str, Question] = {
    "task": Question("What comes out", ("classes", "embeddings", "text")),
    "gives": Question(
        "The teacher gives", ("logits and features", "logits", "embeddings only", "answers or text only")
    ),
    "teachers": Question("Teachers", ("one", "several", "none")),
    "labels": Question("Labels", ("many", "many, some wrong", "few", "none")),
    "inputs": Question("Other inputs, no labels", ("none", "many", "no data at all")),
    "family": Question("Teacher and student", ("one family", "two families", "both transformers")),
    "student": Question("The student", ("fits its labels", "is too small for them")),
    "budget": Question("Training", ("long enough", "a few epochs")),
    "sensor": Question("The teacher's sensor", ("the same", "a better one", "a worse one")),
    "tokeniser": Question("Tokenisers (of text)", ("the same", "different")),
    "harm": Question(
        "The worst harm", ("low accuracy", "wrong confidence", "copied mistakes", "a broken licence", "a slow device")
    ),
}
KINDS = {"start": "Start with", "then": "Then try", "beware": "Beware", "measure": "Measure"}


class Choice(NamedTuple):
    """A recommendation: when, what, where it is taught, what speaks for it, what to copy."""

    kind: str  # of KINDS
    advice: str
    when: Mapping[str, tuple[str, ...]]  # for each question that matters, the answers that it is meant for
    lesson: str  # its number
    copy: str  # what ``python -m kdref copy`` takes
    evidence: tuple[Evidence, ...] = ()
    without: str = ""  # why there is no evidence here, where there is none


def case_of(**answers: str) -> dict[str, str]:
    """A whole case: the answers given, and those at rest for the other questions.

    Raises:
        ValueError: If there is no such question or no such answer.
    """
    for key, answer in answers.items():
        if key not in QUESTIONS:
            raise ValueError(f"there is no question {key!r}: there are {', '.join(QUESTIONS)}")
        if answer not in QUESTIONS[key].answers:
            raise ValueError(f"{key} can be {', '.join(map(repr, QUESTIONS[key].answers))}, not {answer!r}")
    return {key: question.answers[0] for key, question in QUESTIONS.items()} | answers


def fitting(choices: Iterable[Choice], case: Mapping[str, str]) -> list[Choice]:
    """The recommendations whose conditions a case meets, all of them, in the order of ``KINDS``."""
    met = [choice for choice in choices if all(case[key] in wanted for key, wanted in choice.when.items())]
    return sorted(met, key=lambda choice: list(KINDS).index(choice.kind))


def conditions(choice: Choice) -> str:
    """When it is meant, in words; without what holds of the case at rest too, which leaves "the plain case" of some."""
    words = [
        f"{QUESTIONS[key].text.lower()}: {' or '.join(wanted)}"
        for key, wanted in choice.when.items()
        if QUESTIONS[key].answers[0] not in wanted
    ]
    return "; ".join(words) or "the plain case"


def said(choice: Choice) -> str:
    """What speaks for it, with figures from the stored runs; or that nothing here does, and why."""
    return "; ".join(map(sentence, choice.evidence)) or f"no evidence here: {choice.without}"


def command(choice: Choice) -> str:
    """What copies its code."""
    return f"python -m kdref copy {choice.copy}"


def rows(choices: Iterable[Choice]) -> "pd.DataFrame":
    """Recommendations as a table: condition, kind and advice, evidence, lesson, what to copy."""
    import pandas as pd

    from kdref.lab.course.workspace import lessons

    links = {lesson.path.stem[:2]: f"[{lesson.path.stem[:2]}]({lesson.path.name})" for lesson in lessons()}
    lines = [
        (
            conditions(choice),
            f"**{KINDS[choice.kind]}** {choice.advice}",
            said(choice),
            links.get(choice.lesson, choice.lesson),
            f"`{choice.copy}`",
        )
        for choice in choices
    ]
    return pd.DataFrame(lines, columns=["if", "do", "evidence", "lesson", "copy"])
