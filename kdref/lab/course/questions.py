"""What exercises, their checks and quizzes are made of: plain data that all of them use.

Lesson: notebooks/00_start_here.ipynb.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exercise", "NotAttempted", "Question"]


class NotAttempted(Exception):
    """Raised by an exercise's comparison when the answer is still the stub."""


@dataclass(frozen=True)
class Exercise:
    """An exercise and how to tell right from wrong."""

    title: str
    """What is asked, in a few words."""
    hint: str
    """Shown as long as the stub stands."""
    differs: Callable[[Any, Any], str | None]
    """Takes the learner's answer and another one; says what differs, or None where they are the same."""
    solution: Any
    """The right answer, to compare with."""
    mistakes: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Name of a typical mistake to the wrong answer it gives, and what to say about it."""
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
