"""Check an exercise, or ask a quiz: what differs and on which input, never the answer.

The exercises themselves are in ``kdref.lab.exercises.lesson_NN``, imported when they are asked for.

Lesson: notebooks/00_start_here.ipynb.
"""

import contextlib
import importlib
import io
import pkgutil
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kdref.lab.course.questions import Complaint, Exercise, Forms, NotAttempted, speaking

if TYPE_CHECKING:
    from kdref.lab.widgets import Panel

__all__ = ["check", "exercises_of", "quiz"]


def check(exercise: str, answer: object) -> None:
    """Print whether an answer is right; if not, what differs and on which input.

    A stub gets a hint, a typical mistake is named, another one gets a second hint where there is one, and whatever else
    the answer does is reported, never raised: a notebook runs from top to bottom whatever has been tried. (Only an
    interrupt interrupts.)

    Args:
        exercise: Its number, such as ``"01.2"``.
        answer: The function, or the value, that you found.

    Raises:
        ValueError: If there is no exercise of that number.

    Example:
        >>> check("01.3", ...)  # doctest: +ELLIPSIS
        01.3 ...: not attempted yet.
        Hint: ...
    """
    lesson, _, _ = exercise.partition(".")
    exercises = exercises_of(lesson)
    if exercise not in exercises:
        raise ValueError(f"there is no exercise {exercise!r} in lesson {lesson}: there are {', '.join(exercises)}")
    verdict = _verdict(exercises[exercise], answer)
    print(f"{exercise} {verdict.encode(errors='replace').decode()}")  # a learner's text may be beyond printing


def quiz(lesson: str) -> "Panel":
    """The quiz of a lesson: choose an answer and read why it is right or not. Put it at the end of a cell.

    Args:
        lesson: Its number, such as ``"01"``.

    Raises:
        ValueError: If there is no lesson of that number with a quiz.
    """
    from kdref.lab.widgets import quiz_panel

    return quiz_panel(f"Quiz of lesson {lesson}", _lesson(lesson).QUIZ)


def exercises_of(lesson: str) -> Mapping[str, Exercise]:
    """The exercises of a lesson, by number, in order.

    Args:
        lesson: Its number, such as ``"01"``.

    Raises:
        ValueError: If there is no lesson of that number with exercises.
    """
    exercises: Mapping[str, Exercise] = _lesson(lesson).EXERCISES
    return exercises


def _verdict(exercise: Exercise, answer: object) -> str:
    try:
        if answer is None or answer is ...:
            raise NotAttempted
        difference = speaking(exercise.differs)(answer, exercise.solution)
    except NotAttempted:
        return f"{exercise.title}: not attempted yet.\nHint: {exercise.hint}"
    if difference is None:
        return f"{exercise.title}: right." + (f"\n{exercise.remark}" if exercise.remark else "")
    lines = [f"{exercise.title}: not yet.", difference]
    hundredfold = (_hundredfold(exercise.solution), "a share is a number from 0 to 1.")
    for name, (wrong, message) in {**exercise.mistakes, "per cent for a share": hundredfold}.items():
        if any(_is(exercise, answer, form) for form in Forms.of(wrong)):
            return "\n".join([*lines, f"It looks like a typical mistake, {name}: {message}"])
    return "\n".join(lines + ([f"Hint: {exercise.further}"] if exercise.further else []))


def _is(exercise: Exercise, answer: object, wrong: object) -> bool:
    """Whether an answer is a certain wrong one. What it prints has been seen: it is called once more for each."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return speaking(exercise.differs)(answer, wrong) is None
        except NotAttempted:  # it was attempted, when it was called before
            return False


def _hundredfold(solution: Any) -> Any:
    """A solution in per cent, if it is a share, or a function of shares; else what no answer equals."""

    def hundredfold(*arguments: Any) -> Any:
        value = solution(*arguments)
        lowest, highest = (
            (float(end) for end in (value.min(), value.max())) if hasattr(value, "min") else (value, value)
        )
        if not 0 <= lowest <= highest <= 1:
            raise Complaint("not a share")
        return 100 * value

    if callable(solution):
        return hundredfold
    return 100 * solution if isinstance(solution, float) and 0 < solution < 1 else None


def _lesson(number: str) -> ModuleType:
    from kdref.lab import exercises

    names = [module.name.removeprefix("lesson_") for module in pkgutil.iter_modules(exercises.__path__)]
    if number not in names:
        raise ValueError(f"there are no exercises for lesson {number!r}: there are some for {', '.join(sorted(names))}")
    return importlib.import_module(f"kdref.lab.exercises.lesson_{number}")
