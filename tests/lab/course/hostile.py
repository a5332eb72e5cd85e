"""Answers that do what no exercise asked for: functions made of a solution, and values."""

import decimal
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Function = Callable[..., Any]


class Traits(NamedTuple):
    """What an exercise's function is given and gives."""

    arguments: tuple[Any, ...]
    tensor: bool  # it returns one
    gradient: bool  # and a gradient must flow from it


def on_tensors(change: Callable[[Tensor], Any]) -> Callable[[Function], Function]:
    """Change every tensor that a function is given."""
    return lambda f: lambda *a: f(*(change(x) if isinstance(x, Tensor) else x for x in a))


def then(change: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Change what it returns."""
    return lambda f: lambda *a: change(f(*a))


def first(act: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Do something to its first argument before."""

    def wrap(f: Function) -> Function:
        def answer(*a: Any) -> Any:
            value = f(*(x.clone() if isinstance(x, Tensor) else list(x) if isinstance(x, list) else x for x in a))
            act(a[0])
            return value

        return answer

    return wrap


def within(context: Callable[[], Any]) -> Callable[[Function], Function]:
    def wrap(f: Function) -> Function:
        def answer(*a: Any) -> Any:
            with context():
                return f(*a)

        return answer

    return wrap


def raising(error: BaseException) -> Callable[[Function], Function]:
    def wrap(f: Function) -> Function:
        def answer(*a: Any) -> Any:
            raise error

        return answer

    return wrap


def off_for_good(f: Function) -> Function:
    def answer(*a: Any) -> Any:
        torch.set_grad_enabled(False)
        return f(*a)

    return answer


def backward(f: Function) -> Function:
    def answer(*a: Any) -> Any:
        value = f(*a)
        value.sum().backward()
        return value

    return answer


def forever(*a: Any) -> Any:
    return forever(*a)


def refuse(*_: object, **__: object) -> Any:
    raise ZeroDivisionError("no")


class Bad:
    """Nothing can be done with it."""

    __repr__ = __str__ = __eq__ = __bool__ = __float__ = __int__ = __len__ = __iter__ = __hash__ = refuse
    __add__ = __sub__ = __mul__ = __array__ = __index__ = __getitem__ = __lt__ = __gt__ = refuse

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class Leaving(Bad):
    """Its number ends the program."""

    def __float__(self) -> float:
        raise SystemExit(3)


class Liar(Bad):
    """It won't say what it is."""

    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError("no class")


class Wordless(Exception):
    """An exception without words."""

    __str__ = refuse


ANYTHING = r"not yet\.|right\."
GRADIENT = r"(?i)no gradient reaches"
HOSTILE: dict[str, tuple[Callable[[Function], Function], Callable[[Traits], str]]] = {
    "leaves torch": (
        on_tensors(lambda x: torch.from_numpy(x.numpy().copy())),
        lambda t: "leaves torch for NumPy, so no gradient reaches the student" if t.gradient else r"right\.",
    ),
    "returns NumPy": (
        then(lambda v: v.detach().numpy() if isinstance(v, Tensor) else np.float64(v)),
        lambda t: "your function returned a NumPy array" if t.tensor else r"right\.",
    ),
    "changes in place": (first(lambda x: x.append(1.0) if isinstance(x, list) else x.copy_(x.clone())), None),
    "changes in place by data": (first(lambda x: x.reverse() if isinstance(x, list) else x.data.fill_(1)), None),
    "a smaller argument": (first(lambda x: x.clear() if isinstance(x, list) else x.resize_(0)), None),
    "returns nothing": (then(lambda v: None), lambda t: "returned nothing: is there a return?"),
    "returns a tuple": (then(lambda v: (v, 0)), lambda t: "a tuple of 2"),
    "returns a list": (then(lambda v: [v]), lambda t: "a list of 1"),
    "returns a generator": (then(lambda v: (v for _ in "a")), lambda t: "an object of type generator"),
    "returns text": (then(lambda v: "4.0"), lambda t: "'4.0'"),
    "another shape": (
        then(lambda v: torch.stack([v, v]) if isinstance(v, Tensor) else [v, v]),
        lambda t: "shape" if t.tensor else "a list of 2",
    ),
    "whole numbers": (then(lambda v: v.long() if isinstance(v, Tensor) else int(v)), lambda t: ANYTHING),
    "complex": (then(lambda v: v + 0j), lambda t: "complex" if t.tensor else r"A number is asked for, not \("),
    "nan": (then(lambda v: v * float("nan")), lambda t: "nan"),
    "on no device": (
        then(lambda v: v.to("meta") if isinstance(v, Tensor) else v),
        lambda t: "can't be compared: |no gradient|raised" if t.tensor else r"right\.",
    ),
    "sparse": (then(lambda v: v.to_sparse() if isinstance(v, Tensor) else v), lambda t: ANYTHING),
    "an object": (then(lambda v: Bad()), lambda t: "an object of type Bad"),
    "an object that ends the program": (then(lambda v: Leaving()), lambda t: "an object of type Leaving"),
    "an object without a class": (then(lambda v: Liar()), lambda t: "ZeroDivisionError: no class"),
    "raises": (raising(ValueError("a\nb")), lambda t: "Your function raised ValueError: a b"),
    "leaves the program": (raising(SystemExit(1)), lambda t: "Your function raised SystemExit: 1"),
    "ends a generator": (raising(GeneratorExit()), lambda t: "Your function raised GeneratorExit: "),
    "raises without words": (raising(Wordless()), lambda t: "Your function raised Wordless: "),
    "raises what can't be printed": (raising(ValueError("\ud800")), lambda t: r"Your function raised ValueError: \?"),
    "raises pages": (raising(ValueError("ab" * 5000)), lambda t: r"raised ValueError: (ab)+ \.\.\."),
    "raises several": (
        raising(ExceptionGroup("both", [ValueError("a"), ValueError("b")])),
        lambda t: "raised ExceptionGroup: both",
    ),
    "not written, with a message": (
        raising(NotImplementedError("softmax of whole numbers")),
        lambda t: "Your function raised NotImplementedError: softmax of whole numbers",
    ),
    "recursion": (lambda f: forever, lambda t: "Your function raised RecursionError: "),
    "no arguments": (lambda f: lambda: 0, lambda t: r"Your function raised TypeError: .* takes 0 positional"),
    "detached": (
        then(lambda v: v.detach() if isinstance(v, Tensor) else v),
        lambda t: GRADIENT if t.gradient else r"right\.",
    ),
    "no_grad": (within(torch.no_grad), lambda t: GRADIENT if t.gradient else r"right\."),
    "inference_mode": (within(torch.inference_mode), lambda t: GRADIENT if t.gradient else r"right\."),
    "gradients turned off for good": (off_for_good, lambda t: GRADIENT if t.gradient else r"right\."),
    "a tensor made anew": (
        then(lambda v: torch.tensor(v.tolist(), requires_grad=v.is_floating_point()) if isinstance(v, Tensor) else v),
        lambda t: GRADIENT if t.gradient else r"right\.",
    ),
    "calls backward": (backward, lambda t: "Your function calls backward itself" if t.tensor else "raised Attribute"),
}


WRONG: dict[str, object] = {
    "text": "abc",
    "a number as text": "4.0",
    "no text": "",
    "bytes": b"1",
    "yes": True,
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -float("inf"),
    "complex": 1 + 2j,
    "huge": 10**400,
    "far off": -1e300,
    "a list": [1.0],
    "a list of lists": [["SP"]],
    "nothing": [],
    "a tuple": (1.0, 2.0),
    "a dictionary": {"SP": 1},
    "a set": {1, 2},
    "a range": range(3),
    "a tensor": torch.tensor([1.0, 2.0]),
    "an empty tensor": torch.tensor([]),
    "a complex tensor": torch.tensor(1 + 1j),
    "a tensor of yes and no": torch.tensor(True),
    "a tensor on no device": torch.ones((), device="meta"),
    "an array": np.array([1, 2]),
    "an array of text": np.array(["SP"]),
    "an array of objects": np.array([Bad], dtype=object),
    "NumPy's yes": np.bool_(True),
    "no decimal": decimal.Decimal("sNaN"),
    "a function": len,
    "a type": int,
    "an object": Bad(),
    "a list of objects": [Bad(), Bad()],
    "an object that ends the program": Leaving(),
    "an object without a class": Liar(),
    "half a name": ["SP", 3],
    "not implemented": NotImplemented,
}
