"""What exercises, their checks and quizzes are made of: plain data, and how an answer's failures are put in words.

Lesson: notebooks/00_start_here.ipynb.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Complaint", "Differs", "Exercise", "Forms", "NotAttempted", "Question", "cut", "named", "speaking"]

Differs = Callable[[Any, Any], str | None]
"""Takes the learner's answer and another one; says what differs, or None where they are the same."""


class Complaint(Exception):
    """What to say to a learner whose answer gave nothing that could be compared."""


class NotAttempted(Exception):
    """Raised by an exercise's comparison when the answer is still the stub."""


class Forms(tuple[Any, ...]):
    """Several wrong answers that are one mistake: a clamp at 1e-8 or at 1e-12, say."""

    def __new__(cls, *forms: Any) -> "Forms":
        """Take the answers one by one."""
        return super().__new__(cls, forms)

    @staticmethod
    def of(wrong: Any) -> "Forms":
        """The forms of a wrong answer, which is one itself unless it is some."""
        return wrong if isinstance(wrong, Forms) else Forms(wrong)


@dataclass(frozen=True)
class Exercise:
    """An exercise and how to tell right from wrong."""

    title: str
    """What is asked, in a few words."""
    hint: str
    """Shown as long as the stub stands, whether asked for or not: no more than the lesson's folded one says."""
    differs: Differs
    """How a learner's answer is compared with another one."""
    solution: Any
    """The right answer, to compare with."""
    mistakes: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Name of a typical mistake to the wrong answer it gives, or its ``Forms``, and what to say about it."""
    further: str = ""
    """Says more than the first one: shown with an answer that is wrong in a way that has no name."""
    remark: str = ""
    """What to notice, said with "right"."""


@dataclass(frozen=True)
class Question:
    """A question with several answers, one of them right."""

    text: str
    """The question."""
    options: Mapping[str, str]
    """Each answer, and what to say to who chooses it."""
    right: str
    """The right answer, one of ``options``."""

    def __post_init__(self) -> None:
        """Refuse a question that nobody can answer."""
        if self.right not in self.options:
            raise ValueError(f"the right answer {self.right!r} is not among {list(self.options)}")


def speaking(differs: Differs) -> Differs:
    """A comparison that says what went wrong instead of raising it; only a stub and an interrupt come out."""

    @functools.wraps(differs)
    def spoken(answer: Any, reference: Any) -> str | None:
        try:
            return differs(answer, reference)
        except Complaint as complaint:
            return str(complaint)
        except (NotAttempted, KeyboardInterrupt):
            raise
        except BaseException as error:  # an answer may hold anything
            return f"Your answer can't be compared: {named(error)}"

    return spoken


def named(error: BaseException) -> str:
    """An exception on one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # it may not even have words
        text = ""
    return cut(f"{type(error).__name__}: {text}")


def cut(text: str) -> str:
    """A text of at most 200 characters and dots."""
    return text if len(text) <= 200 else f"{text[:200]} ..."
