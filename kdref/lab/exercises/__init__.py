"""The exercises of the lessons, and the ways to compare an answer with the right one.

``lesson_NN`` holds ``EXERCISES``, number to ``Exercise``, and ``QUIZ``, three questions. A comparison tells two answers
apart or not, so the same one recognises the solution and the typical mistakes. Whatever an answer does is said, never
raised; only ``NotAttempted`` and an interrupt come out.
"""

import contextlib
import copy
import inspect
import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Complaint, Differs, Forms, NotAttempted, cut, named, speaking

__all__ = [
    "at_temperatures",
    "attempt",
    "brief",
    "calls",
    "gradient_reaches",
    "kept_finite",
    "kind",
    "number",
    "quiet",
    "raw_divergence",
]


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
            Where the reference lets a gradient flow to the first argument, the answer must too.
        tolerance: Relative and absolute.
    """

    @speaking
    def differs(answer: Any, reference: Any) -> str | None:
        if not callable(answer):
            return f"A function is asked for, not {brief(answer)}: pass its name, without calling it."
        for name, arguments in cases.items():
            names = list(inspect.signature(reference).parameters)
            try:
                difference = _call_differs(answer, reference, arguments, names, tolerance)
            except Complaint as complaint:
                difference = str(complaint)
            if difference is not None:
                listed = [f"  {key} = {brief(value)}" for key, value in zip(names, arguments, strict=False)]
                return "\n".join([difference, f"That was with {name}:", *listed])
        return None

    return differs


def number(*, tolerance: float = 1e-3) -> Differs:
    """Compare two numbers.

    Args:
        tolerance: Relative.
    """

    @speaking
    def differs(answer: Any, reference: Any) -> str | None:
        value = _as_number(answer)
        if not math.isfinite(value):
            return f"{value} is not a number to compare with."
        if math.isclose(value, reference, rel_tol=tolerance):
            return None
        return f"{value:g} is too {'large' if value > reference else 'small'}."

    return differs


def kept_finite(answer: Callable[[Callable[[Tensor], Tensor]], Callable[..., Tensor]]) -> Forms:
    """Wrong answers that keep the logarithm of 0 finite by a clamp, or by something added, of any usual size.

    Args:
        answer: From a logarithm to the answer that uses it.
    """
    sizes = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16, 1e-20, 1e-30, torch.finfo(torch.float32).eps)
    return Forms(
        *(answer(lambda p, size=size: p.clamp(min=size).log()) for size in sizes),  # type: ignore[misc]
        *(answer(lambda p, size=size: (p + size).log()) for size in sizes),  # type: ignore[misc]
    )


def raw_divergence(q: Tensor, p: Tensor) -> Tensor:
    """``F.kl_div`` given probabilities where it expects their logarithms, summed over classes: a common mistake."""
    return F.kl_div(q, p, reduction="none").sum(dim=-1)


def attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a learner's function.

    Raises:
        NotAttempted: If it is still the stub, or a part of it is.
        Complaint: If it raises, calls backward itself or returns nothing, saying so.
    """
    try:
        with torch.enable_grad():  # and afterwards as it was, if the function turns gradients off for good
            value = function(*arguments)
    except (Complaint, NotAttempted, KeyboardInterrupt):
        raise
    except NotImplementedError as error:
        if not error.args:  # torch has one too, with a message: softmax of whole numbers, say
            raise NotAttempted from error
        raise Complaint(_raised(error)) from None
    except BaseException as error:  # a learner's code may raise anything
        raise Complaint(_raised(error)) from None
    if value is None:
        raise Complaint("Your function returned nothing: is there a return?")
    if any(isinstance(argument, Tensor) and argument.grad is not None for argument in arguments):
        raise Complaint(_BACKWARD)
    return value


def gradient_reaches(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bool:
    """Whether a gradient flows from what a learner's function returns to its first argument."""
    first, *rest = copy.deepcopy(arguments)
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return False  # numbers of classes and masks have no gradient
    first.requires_grad_()
    with quiet():
        value = attempt(function, (first, *rest))
        if not isinstance(value, Tensor) or not value.requires_grad:
            return False
        try:
            (found,) = torch.autograd.grad(value.sum(), first, allow_unused=True)
        except Exception as error:  # the graph may be used up
            raise Complaint(_raised(error)) from None
    return found is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what a function prints and warns of: it has been called before, and said it then."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def kind(value: Any) -> str:
    """What an answer returned, in a few words."""
    if isinstance(value, np.ndarray):
        return "a NumPy array"
    if isinstance(value, tuple | list | dict | set | frozenset):
        return f"a {type(value).__name__} of {len(value)}"
    return brief(value)


def brief(value: Any) -> str:
    """A value on one line, the same on every run."""
    try:
        if isinstance(value, Tensor):
            text = f"torch.tensor({value.tolist()})"
        elif callable(value):
            text = f"the function {getattr(value, '__name__', '')}".strip()
        else:
            text = "a NumPy array" if isinstance(value, np.ndarray) else " ".join(repr(value).split())
    except Exception:  # a value may not even be shown
        text = ""
    if not text or " at 0x" in text:
        return f"an object of type {type(value).__name__}"
    return cut(text)


_BACKWARD = "Your function calls backward itself: return the value, and leave that to the caller."
_IN_PLACE = "work on a copy (x / 2, not x /= 2), the caller still needs it."


def _call_differs(
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    arguments: tuple[Any, ...],
    names: list[str],
    tolerance: float,
) -> str | None:
    expected = reference(*copy.deepcopy(arguments))
    given = copy.deepcopy(arguments)
    versions = [_version(value) for value in given]
    value = attempt(answer, given)
    for name, new, old, version in zip(names, given, arguments, versions, strict=False):
        if _version(new) != version or _differ(new, old):
            return f"Your function changes its argument {name}: {_IN_PLACE}"
    if difference := _values_differ(value, expected, tolerance):
        return difference
    if gradient_reaches(reference, arguments) and not gradient_reaches(answer, arguments):
        whom = f"the student, {names[0]}" if names[0].startswith("student") else names[0]
        return (
            f"The value is right, but no gradient reaches {whom}: is there a detach, a no_grad, an item(), or a tensor "
            "made anew?"
        )
    return None


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) else 0  # counts changes in place, those by 1.0 too


def _differ(new: Any, old: Any) -> bool:
    if isinstance(old, Tensor):
        return new.shape != old.shape or new.dtype != old.dtype or not torch.equal(new.detach(), old)
    return bool(new != old)


def _values_differ(value: Any, expected: Any, tolerance: float) -> str | None:
    if not isinstance(expected, Tensor):
        return number(tolerance=tolerance)(value, expected)
    if not isinstance(value, Tensor):
        what = "A tensor is expected, so that a gradient can flow through it"
        return f"{what}, and your function returned {kind(value)}."
    if value.shape != expected.shape:
        return f"The result has shape {tuple(value.shape)}, and {tuple(expected.shape)} is expected."
    if value.is_complex():
        return "The result is complex, and real numbers are expected."
    value, expected = value.detach().cpu().double(), expected.detach().double()
    same = value.isclose(expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if same.all():
        return None
    place = tuple((~same).nonzero()[0].tolist())
    where = "The result" + (f" at {list(place)}" if place else "")
    found = value[place].item()
    if not math.isfinite(found):
        return f"{where} is {found}, which is not a finite number."
    return f"{where}, {found:.4f}, is too {'large' if found > expected[place] else 'small'}."


def _as_number(answer: Any) -> float:
    if isinstance(answer, Tensor | np.ndarray) and math.prod(answer.shape) == 1:
        answer = answer.item()
    if isinstance(answer, str | bytes | bool | np.bool_) or callable(answer):  # "4.0" and True would pass for numbers
        raise Complaint(f"A number is asked for, not {brief(answer)}.")
    try:
        return float(answer)
    except KeyboardInterrupt:
        raise
    except OverflowError:
        raise Complaint("That number is too large to compare with.") from None
    except BaseException:
        raise Complaint(f"A number is asked for, not {kind(answer)}.") from None


def _raised(error: BaseException) -> str:
    """What a learner's exception means, where torch's words don't say it."""
    said = named(error)
    if "leaf Variable" in said:
        return f"Your function changes its argument: {_IN_PLACE}"
    if "numpy()" in said:
        return "Your function leaves torch for NumPy, so no gradient reaches the student: stay in torch."
    if "does not require grad" in said or "backward through the graph a second time" in said:
        return _BACKWARD
    return f"Your function raised {said}"
