"""Right is right, a stub is no failure, typical mistakes are named, and no answer is given away."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdref.lab import exercises
from kdref.lab.course.check import check, exercises_of, quiz
from kdref.lab.course.questions import Exercise, Forms, NotAttempted, Question
from kdref.lab.exercises import calls, number

MODULES = [importlib.import_module(f"kdref.lab.exercises.{m.name}") for m in pkgutil.iter_modules(exercises.__path__)]
ALL = {key: exercise for module in MODULES for key, exercise in module.EXERCISES.items()}
MISTAKES = {f"{key} {name}": (key, name) for key, exercise in ALL.items() for name in exercise.mistakes}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str, object], str]:
    """What ``check`` prints."""

    def say(key: str, answer: object) -> str:
        check(key, answer)
        return capsys.readouterr().out

    return say


def stub(*_: object) -> None:
    raise NotImplementedError


# Every exercise there is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ALL)
def test_solution_is_right(key: str, said: Callable[[str, object], str]) -> None:
    assert said(key, ALL[key].solution).startswith(f"{key} {ALL[key].title}: right.")


@pytest.mark.parametrize("key", ALL)
def test_stub_gets_the_hint_and_no_failure(key: str, said: Callable[[str, object], str]) -> None:
    unattempted = [..., None, *([stub] if callable(ALL[key].solution) else [])]
    for answer in unattempted:
        assert said(key, answer) == f"{key} {ALL[key].title}: not attempted yet.\nHint: {ALL[key].hint}\n"


@pytest.mark.parametrize(("key", "name"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_named(key: str, name: str, said: Callable[[str, object], str]) -> None:
    wrong, message = ALL[key].mistakes[name]
    for form in Forms.of(wrong):
        output = said(key, form)
        assert output.startswith(f"{key} {ALL[key].title}: not yet.\n")
        assert output.endswith(f"It looks like a typical mistake, {name}: {message}\n")


@pytest.mark.parametrize("key", ALL)
def test_exercise_recognises_two_mistakes_or_more_and_has_a_hint(key: str) -> None:
    assert len(ALL[key].mistakes) >= 2
    assert len(ALL[key].hint.split()) >= 5


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__[-2:])
def test_exercises_are_numbered_and_the_quiz_asks_three_questions(module: Any) -> None:
    lesson = module.__name__[-2:]
    assert list(module.EXERCISES) == [f"{lesson}.{place}" for place in range(1, len(module.EXERCISES) + 1)]
    assert len(module.EXERCISES) >= 3
    assert len(module.QUIZ) == 3
    assert all(len(question.options) >= 3 for question in module.QUIZ)
    assert module.EXERCISES is exercises_of(lesson)


# What a learner may do ------------------------------------------------------------------------------------------------


def right(student_logits: Tensor, temperature: float) -> Tensor:
    return student_logits.sum(dim=-1) / temperature


EXAMPLE = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
COMPARE = calls({"a warm batch": (EXAMPLE, 1.0), "a hot batch": (EXAMPLE, 2.0)})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda s, t: right(s, t) + 1, "The result at [0], 4.0000, is too large."),
        (lambda s, t: right(s, t) * torch.tensor([1.0, 0.5]), "The result at [1], 4.0000, is too small."),
        (lambda s, t: right(s, t).sum(), "The result has shape (), and (2,) is expected."),
        (lambda s, t: right(s, t) * float("nan"), "The result at [0] is nan, which is not a finite number."),
        (lambda s, t: right(s, t).detach(), "but no gradient reaches the student, student_logits: is there a detach"),
        (
            lambda s, t: 3.0,
            "A tensor is expected, so that a gradient can flow through it, and your function returned 3.0.",
        ),
        (lambda s, t: None, "Your function returned nothing: is there a return?"),
        (lambda s, t: right(s.mul_(1.0).add_(1.0), t) - 2 / t, "Your function changes its argument student_logits: "),
        (lambda s: s, "Your function raised TypeError: "),
        (lambda s, t: s @ s.new_ones(3), "Your function raised RuntimeError: "),
        (EXAMPLE, "A function is asked for, not torch.tensor([[1.0, 2.0], [3.0, 5.0]]): pass its name"),
    ],
)
def test_what_differs_is_said(answer: object, expected: str) -> None:
    difference = COMPARE(answer, right)
    assert difference is not None
    assert expected in difference


def test_a_mask_is_compared_and_shown_as_it_is() -> None:
    def first(mask: torch.Tensor) -> torch.Tensor:
        return mask & (mask.cumsum(dim=-1) <= 1)

    compare = calls({"one row": (torch.tensor([False, True, True]),)})
    assert compare(first, first) is None
    said = compare(lambda mask: mask & True, first)
    assert said is not None
    assert "The result at [2], 1.0000, is too large." in said
    assert "mask = torch.tensor([False, True, True])" in said


def test_the_input_is_shown_by_its_names() -> None:
    difference = COMPARE(lambda s, t: right(s, 1.0), right)
    assert difference is not None
    assert difference.split("\n")[1:] == [
        "That was with a hot batch:",
        "  student_logits = torch.tensor([[1.0, 2.0], [3.0, 5.0]])",
        "  temperature = 2.0",
    ]


def test_the_answer_is_never_given_away() -> None:
    difference = COMPARE(lambda s, t: right(s, t) + 1, right)
    assert difference is not None
    assert "3.0000" not in difference
    assert "8.0000" not in difference


def test_inputs_of_the_exercise_survive_an_answer_that_spoils_them() -> None:
    COMPARE(lambda s, t: s.zero_(), right)
    assert EXAMPLE.sum() == 11
    assert COMPARE(right, right) is None


def test_half_written_function_counts_as_not_attempted() -> None:
    def half(s: Tensor, t: float) -> Tensor:
        if t == 1.0:
            return right(s, t)
        raise NotImplementedError

    with pytest.raises(NotAttempted):
        COMPARE(half, right)


def test_interrupting_a_learners_function_interrupts() -> None:
    def forever(s: Tensor, t: float) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        COMPARE(forever, right)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (4, None),
        (torch.tensor(4.0004), None),
        (4.1, "4.1 is too large."),
        (-4, "-4 is too small."),
        (float("nan"), "nan is not a number to compare with."),
        (torch.tensor([4.0]), None),
        ("four", "A number is asked for, not 'four'."),
        ("4", "A number is asked for, not '4'."),
        (True, "A number is asked for, not True."),
        (float("inf"), "inf is not a number to compare with."),
        (10**400, "That number is too large to compare with."),
        ([4.0, 4.0], "A number is asked for, not a list of 2."),
        (torch.tensor([4.0, 4.0]), "A number is asked for, not torch.tensor([4.0, 4.0])."),
        (stub, "A number is asked for, not the function stub."),
    ],
)
def test_numbers_are_compared(answer: object, expected: str | None) -> None:
    difference = number()(answer, 4.0)
    assert difference == expected if expected is None else expected in str(difference)


# Numbers that aren't there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [("01.9", r"no exercise '01.9' in lesson 01: there are 01.1, "), ("77.1", r"no exercises for lesson '77': .* 01")],
)
def test_unknown_exercise_lists_those_there_are(key: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(key, ...)


def test_unknown_quiz_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no exercises for lesson '77': .* 01"):
        quiz("77")


def test_a_question_that_nobody_can_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="'c' is not among"):
        Question("Which?", {"a": "No.", "b": "No."}, right="c")


def test_a_comparison_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def differs(answer: Any, reference: Any) -> str | None:
        raise SystemExit(answer)

    monkeypatch.setitem(exercises_of("01"), "01.8", Exercise("Count", "Use your fingers.", differs, 3))
    check("01.8", 2)
    assert capsys.readouterr().out == "01.8 Count: not yet.\nYour answer can't be compared: SystemExit: 2\n"


def test_an_exercise_without_mistakes_says_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(exercises_of("01"), "01.8", Exercise("Count", "Use your fingers.", number(), 3))
    check("01.8", 2)
    check("01.8", 3)
    assert capsys.readouterr().out == "01.8 Count: not yet.\n2 is too small.\n01.8 Count: right.\n"


def test_importing_the_checker_imports_nothing_heavy() -> None:
    heavy = {"IPython", "ipywidgets", "matplotlib"}
    code = f"import sys, kdref.lab.course.check, kdref.lab.course.source; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
