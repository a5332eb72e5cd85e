"""Calling a model as people have it: its mode, what goes in, and what comes out.

Inputs may be a tensor, several, or a tokenizer's dictionary; outputs a tensor or an object that holds logits. Lesson:
notebooks/01_soft_targets.ipynb.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = [
    "Inputs",
    "calls",
    "evaluating",
    "examples_in",
    "first_tensor",
    "forward",
    "logits_of",
]

Inputs = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...] | list[Tensor]
"""One tensor; or a dictionary, passed by keyword; or a tuple or list, passed by position. Examples first in each."""


def forward(model: Any, inputs: Inputs) -> Any:
    """Call a model: a dictionary is passed by keyword, a tuple or list by position."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def calls(inputs: Inputs, batch_size: int) -> Iterator[Inputs]:
    """Cut inputs into batches, in order: dictionaries of a dictionary, else tuples.

    Raises:
        ValueError: If there is no example, the batch size is not positive, or the inputs are not tensors of equally
            many examples.
    """
    several = inputs if isinstance(inputs, tuple | list) else (inputs,)
    named: Mapping[Any, Any] = inputs if isinstance(inputs, Mapping) else dict(enumerate(several))
    other = {name: type(value).__name__ for name, value in named.items() if not isinstance(value, Tensor)}
    if other:
        raise ValueError(f'inputs must be tensors, got {other}: ask a tokenizer for return_tensors="pt"')
    lengths = {name: len(value) if value.ndim else 0 for name, value in named.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"inputs must be equally many, got {lengths}")
    count = next(iter(lengths.values()), 0)
    if batch_size < 1 or not count:
        raise ValueError(f"need at least one input and a positive batch_size, got {count} and {batch_size}")
    for parts in zip(*(value.split(batch_size) for value in named.values()), strict=True):
        yield dict(zip(named, parts, strict=True)) if isinstance(inputs, Mapping) else parts


def logits_of(output: Any, of: str = "the model") -> Tensor:
    """The tensor that a model gave: its output, or the ``logits`` in it (Hugging Face's outputs, named tuples, dicts).

    Raises:
        ValueError: If there is neither.
    """
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        fields = getattr(output, "_fields", list(output) if isinstance(output, Mapping) else [])
        holding = f" of {', '.join(map(str, fields))}" if len(fields) else ""
        raise ValueError(
            f"{of} gave a {type(output).__name__}{holding}, where a tensor or something with .logits is needed: "
            "wrap it in a module that returns the tensor you mean"
        )
    return found


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while, afterwards every sub-module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def examples_in(batch: Any) -> int:
    """How many examples a batch holds: the length of the first axis of the first tensor (or NumPy array) in it.

    Raises:
        ValueError: If no tensor with an axis is in it.
    """
    for array in _arrays(batch):
        return len(array)
    raise ValueError(
        f"the examples of a batch are counted by its first tensor, and this {type(batch).__name__} holds none: let "
        "batches be tensors, examples first, or dictionaries, tuples, lists or dataclasses with a tensor in them"
    )


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in a value, wherever ``examples_in`` looks."""
    return next((array for array in _arrays(value, least_axes=0) if isinstance(array, Tensor)), None)


def _arrays(value: Any, least_axes: int = 1) -> Iterator[Any]:
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim >= least_axes:
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _arrays(part, least_axes)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part, least_axes)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _arrays(getattr(value, field.name), least_axes)
