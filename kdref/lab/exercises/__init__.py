"""The exercises of the lessons, and the ways to compare an answer with the right one.

``lesson_NN`` holds ``EXERCISES``, number to ``Exercise``, and ``QUIZ``, three questions. A comparison tells two answers
apart or not, so the same one recognises the solution and the typical mistakes.
"""

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import NotAttempted

__all__ = ["at_temperatures", "calls", "number"]

Differs = Callable[[Any, Any], str | None]


def at_temperatures(what: str, *arguments: Any, temperatures: tuple[float, ...] = (1.0, 4.0)) -> dict[str, Any]:
    """Cases for ``calls``: the same arguments with several temperatures, which come last.

    Args:
        what: The arguments in words, as in "two examples".
        arguments: What stands before the temperature.
        temperatures: One case each.
    """
    first = temperatures[0]
    return {f"{what if tau == first else 'the same'} at temperature {tau:g}": (*arguments, tau) for tau in temperatures}


def calls(cases: Mapping[str, tuple[Any, ...]], *, tolerance: float = 1e-4) -> Differs:
    """Compare two functions, call by call.

    Args:
        cases: What is special about the call, in words, to its arguments. Small, so that a learner can look at them.
            Where a tensor is returned, a gradient must be able to flow from it to the first argument.
        tolerance: Relative and absolute.
    """

    def differs(answer: Any, reference: Any) -> str | None:
        if not callable(answer):
            return f"A function is asked for, not {_brief(answer)}: pass its name, without calling it."
        for name, arguments in cases.items():
            difference = _call_differs(answer, reference, arguments, tolerance)
            if difference is not None:
                names = inspect.signature(reference).parameters
                listed = [f"  {key} = {_brief(value)}" for key, value in zip(names, arguments, strict=False)]
                return "\n".join([difference, f"That was with {name}:", *listed])
        return None

    return differs


def number(*, tolerance: float = 1e-3) -> Differs:
    """Compare two numbers.

    Args:
        tolerance: Relative.
    """

    def differs(answer: Any, reference: Any) -> str | None:
        try:
            value = float(answer)
        except (TypeError, ValueError):
            return f"A number is asked for, not {_brief(answer)}."
        if math.isnan(value):
            return "nan is not a number to compare with."
        if math.isclose(value, reference, rel_tol=tolerance):
            return None
        return f"{value:g} is too {'large' if value > reference else 'small'}."

    return differs


def _call_differs(
    answer: Callable[..., Any], reference: Callable[..., Any], arguments: tuple[Any, ...], tolerance: float
) -> str | None:
    expected = reference(*copy.deepcopy(arguments))
    given = copy.deepcopy(arguments)
    try:
        value = answer(*given)
    except NotImplementedError as error:
        raise NotAttempted from error
    except Exception as error:  # a learner's code may raise anything
        return f"Your function raised {type(error).__name__}: {error}"
    if value is None:
        return "Your function returned nothing: is there a return?"
    if any(isinstance(old, Tensor) and not torch.equal(new, old) for new, old in zip(given, arguments, strict=True)):
        return "Your function changed a tensor that it was given: work on a copy, the caller still needs it."
    if difference := _values_differ(value, expected, tolerance):
        return difference
    if _passes_gradient(reference, arguments) and not _passes_gradient(answer, arguments):
        return "The value is right, but no gradient reaches the first argument: is there a detach, or a no_grad?"
    return None


def _passes_gradient(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    first, *rest = copy.deepcopy(arguments)
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return False  # numbers of classes and masks have no gradient
    return bool(getattr(function(first.requires_grad_(), *rest), "requires_grad", False))


def _values_differ(value: Any, expected: Any, tolerance: float) -> str | None:
    if not isinstance(expected, Tensor):
        return number(tolerance=tolerance)(value, expected)
    if not isinstance(value, Tensor):
        return f"A tensor is expected, so that a gradient can flow through it, and the result is {_brief(value)}."
    if value.shape != expected.shape:
        return f"The result has shape {tuple(value.shape)}, and {tuple(expected.shape)} is expected."
    value, expected = value.detach().double(), expected.detach().double()
    same = value.isclose(expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if same.all():
        return None
    place = tuple((~same).nonzero()[0].tolist())
    where = "The result" + (f" at {list(place)}" if place else "")
    found = value[place].item()
    if not math.isfinite(found):
        return f"{where} is {found}, which is not a finite number."
    return f"{where}, {found:.4f}, is too {'large' if found > expected[place] else 'small'}."


def _brief(value: Any) -> str:
    """A value on one line, the same on every run."""
    if callable(value):
        return f"the function {getattr(value, '__name__', '')}".strip()
    text = f"torch.tensor({value.tolist()})" if isinstance(value, Tensor) else " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]} ..."
