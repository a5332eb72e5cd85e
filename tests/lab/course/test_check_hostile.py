"""Whatever a learner's answer does, a check says what happened and goes on: nothing comes out but an interrupt."""

import decimal
import fractions
import functools
import importlib
import itertools
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdref.lab import exercises
from kdref.lab.course.check import check
from kdref.lab.course.questions import Exercise
from kdref.lab.exercises import gradient_reaches
from tests.lab.course.hostile import HOSTILE, WRONG, Bad, Traits

MODULES = [importlib.import_module(f"kdref.lab.exercises.{m.name}") for m in pkgutil.iter_modules(exercises.__path__)]
ALL: dict[str, Exercise] = {key: exercise for module in MODULES for key, exercise in module.EXERCISES.items()}
FUNCTIONS = [key for key, exercise in ALL.items() if callable(exercise.solution)]
VALUES = [key for key in ALL if key not in FUNCTIONS]
SHARES = [
    "00.2",
    "06.1",
    "06.3",
    "06.5",
    "12.5",
    "15.4",
    "16.2",
    "16.4",
]  # functions that return probabilities or weights

Said = Callable[[str, object], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def say(key: str, answer: object) -> str:
        check(key, answer)
        return capsys.readouterr().out

    return say


@functools.cache
def traits(key: str) -> Traits:
    seen: list[tuple[Any, ...]] = []

    def spy(*arguments: Any) -> Any:
        seen.append(arguments)
        return ALL[key].solution(*arguments)

    assert ALL[key].differs(spy, ALL[key].solution) is None
    value = ALL[key].solution(*seen[0])
    plain = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in seen[0])
    return Traits(plain, isinstance(value, Tensor), gradient_reaches(ALL[key].solution, plain))


def expected(name: str, key: str) -> str:
    if HOSTILE[name][1] is not None:
        return HOSTILE[name][1](traits(key))
    return "Your function changes its argument" if key != "12.3" else "changes its argument|raised|right"


@pytest.mark.parametrize("key", FUNCTIONS)
def test_a_check_says_what_a_function_did(key: str, said: Said) -> None:
    for name, (make, _) in HOSTILE.items():
        output = said(key, make(ALL[key].solution))
        assert output.startswith(f"{key} {ALL[key].title}: "), name
        assert re.search(expected(name, key), output), f"{name}: {output}"
        assert torch.is_grad_enabled(), name
        assert said(key, ALL[key].solution).startswith(f"{key} {ALL[key].title}: right."), f"{name} spoiled the inputs"


@pytest.mark.parametrize("key", FUNCTIONS)
def test_dividing_an_argument_in_place_is_told_from_a_leaf(key: str, said: Said) -> None:
    floats = [i for i, x in enumerate(traits(key).arguments) if isinstance(x, Tensor) and x.is_floating_point()]
    if not floats:
        return
    place = floats[0]

    def answer(*a: Any) -> Any:
        scaled = a[place]
        scaled /= 2
        return ALL[key].solution(*a[:place], scaled * 2, *a[place + 1 :])

    assert "Your function changes its argument" in said(key, answer)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_a_function_that_fails_later_does_not_stop_the_notebook(key: str, said: Said) -> None:
    for error, good, wrong in itertools.product((NotImplementedError(), KeyError("x")), (1, 2, 3, 4), (False, True)):
        count = 0

        def answer(*a: Any, error: Exception = error, good: int = good, wrong: bool = wrong) -> Any:
            nonlocal count
            count += 1
            if count > good:
                raise error
            value = ALL[key].solution(*a)
            return value * 7 + 3 if wrong else value

        assert said(key, answer).startswith(f"{key} {ALL[key].title}: ")


@pytest.mark.parametrize("key", FUNCTIONS)
def test_what_a_function_prints_is_shown_a_few_times_only(key: str, said: Said) -> None:
    def answer(*a: Any) -> Any:
        print("looking")
        return ALL[key].solution(*a) * 7 + 3

    output = said(key, answer)
    assert 1 <= output.count("looking") <= 2


@pytest.mark.parametrize("key", FUNCTIONS)
def test_a_function_that_takes_gradients_of_its_own_copies_is_right(key: str, said: Said) -> None:
    def answer(*a: Any) -> Any:
        own = [x.detach().clone().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x for x in a]
        value = ALL[key].solution(*own)
        if isinstance(value, Tensor) and value.requires_grad:
            value.sum().backward()
        return ALL[key].solution(*a)

    assert said(key, answer).startswith(f"{key} {ALL[key].title}: right.")


@pytest.mark.parametrize("key", FUNCTIONS)
def test_a_value_where_a_function_is_asked_for(key: str, said: Said) -> None:
    for answer in ("text", 3.0, torch.ones(2), np.ones(2), Bad(), [len], {}):
        assert "A function is asked for, not " in said(key, answer)


# Values ---------------------------------------------------------------------------------------------------------------

SAID = {
    "00.3": "One of four words is asked for|can't be compared",
    "05.3": "names is asked for|no loss named|right about|can't be compared",
    "13.4": "A dictionary from each letter|There is no case 'SP'|can't be compared",
    "15.3": "A dictionary from each letter|There is no loss 'SP'|can't be compared",
    "16.3": "A dictionary from each letter|There is no project 'SP'|can't be compared",
    "17.3": "A dictionary from each letter|There is no setting 'SP'|can't be compared",
    "18.3": "A dictionary from each letter|There is no case 'SP'|can't be compared",
}
NUMBER = "A number is asked for|is not a number|too large|too small|can't be compared"


@pytest.mark.parametrize("key", VALUES)
def test_a_check_says_what_is_wrong_with_a_value(key: str, said: Said) -> None:
    for name, answer in WRONG.items():
        output = said(key, answer)
        assert output.startswith(f"{key} {ALL[key].title}: not yet.\n"), name
        assert re.search(SAID.get(key, NUMBER), output.split("\n")[1]), f"{name}: {output}"


@pytest.mark.parametrize("key", VALUES)
def test_a_number_may_be_of_any_type(key: str, said: Said) -> None:
    solution = ALL[key].solution
    if isinstance(solution, float):
        kinds = (torch.tensor(solution), torch.tensor([solution]), np.array([solution]), np.float32(solution))
        for answer in (*kinds, fractions.Fraction(solution), decimal.Decimal(solution)):
            assert said(key, answer).startswith(f"{key} {ALL[key].title}: right."), answer


@pytest.mark.parametrize("key", [key for key in VALUES if isinstance(ALL[key].solution, float)])
def test_per_cent_for_a_share_is_recognised_in_a_value(key: str, said: Said) -> None:
    output = said(key, 100 * ALL[key].solution)
    named = "typical mistake, per cent for a share: a share is a number from 0 to 1." in output
    assert named == (0 < ALL[key].solution < 1)


def test_per_cent_is_asked_of_shares_only() -> None:
    assert [key for key in VALUES if isinstance(ALL[key].solution, float) and 0 < ALL[key].solution < 1] == [
        "02.3",
        "06.4",
        "07.2",
        "08.2",
        "11.2",
        "12.2",
        "15.1",
        "16.1",
    ]


@pytest.mark.parametrize("key", SHARES)
def test_per_cent_for_a_share_is_recognised_in_a_function(key: str, said: Said) -> None:
    output = said(key, lambda *a: 100 * ALL[key].solution(*a))
    assert output.endswith("It looks like a typical mistake, per cent for a share: a share is a number from 0 to 1.\n")
    assert "per cent for a share" not in said(key, lambda *a: 99 * ALL[key].solution(*a))
