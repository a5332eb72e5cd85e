"""What people hand to functions of features, attention and relations, besides tensors that fit: one set of checks.

Like tests/inputs.py, which does so for functions of class logits: a ``Call`` names a function and says what its tensors
are, and each check spoils one of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from tests import checks, inputs

BATCH, CHANNELS, TOKENS, EXAMPLES = 3, 4, 5, 9
KINDS = {  # a letter for each kind of tensor
    "f": (BATCH, CHANNELS, 4, 4),  # features: maps
    "e": (BATCH, CHANNELS),  # embeddings
    "a": (BATCH, 2, TOKENS, TOKENS),  # attention, rows that sum to 1
    "c": (CHANNELS,),  # a margin
    "m": (BATCH, TOKENS),  # a mask of tokens
    "y": (BATCH,),  # which examples
    "n": (7,),  # negatives
}

EMPTY_IS_FINE = {"margin_relu", "ContrastiveMemory", "HintRegressor", "VariationalRegressor", "Paraphraser"}
EMPTY_IS_FINE |= {"Translator", "MaskedGeneration", "ReviewFusion", "ReusedClassifier", "FeatureDiscriminator"}


@dataclass(frozen=True)
class Call(inputs.Call):
    """A function, its tensors, a letter each, and how to call it if not by its tensors alone."""

    how: Callable[..., Tensor] | None = None
    students: int = 1  # how many tensors, from the first, are the student's

    def __call__(self, *tensors: Any, **settings: Any) -> Tensor:
        if self.how is None:
            return super().__call__(*tensors, **settings)
        torch.manual_seed(0)  # for the weights of a module
        return self.how(*tensors, **self.settings, **settings)

    def rows(self) -> list[Tensor]:
        """Right tensors."""
        return [right(kind, seed) for seed, kind in enumerate(self.tensors, 1)]

    def floating(self) -> list[int]:
        return [index for index, kind in enumerate(self.tensors) if kind in "feac"]


def right(kind: str, seed: int) -> Tensor:
    size = KINDS[kind]
    if kind == "m":
        return torch.arange(TOKENS) < torch.tensor([[TOKENS], [TOKENS], [TOKENS - 2]])
    if kind in "yn":
        return checks.labels_for(math.prod(size), EXAMPLES, seed=seed)
    drawn = checks.randn(*size, seed=seed)
    return drawn.softmax(-1) if kind == "a" else -drawn.abs() if kind == "c" else drawn


def check_other_types(call: Call) -> None:
    """What is no tensor is refused by its name; of what a model returns, the error names the fields."""
    for index, tensor in enumerate(call.rows()):
        outputs = BaseModelOutput(last_hidden_state=tensor, hidden_states=(tensor,)), SequenceClassifierOutput(tensor)
        nothing = () if call.tensors[index] == "m" else (None,)  # a mask may be left out
        for value in (*nothing, tensor.tolist(), tensor.numpy(), (tensor,), {"maps": tensor}, *outputs, "features"):
            with pytest.raises(TypeError, match=rf"must be a .*tensor.*, got {type(value).__name__}: ") as caught:
                call(*call.replaced(index, value))
            if call.tensors[index] in "feac":
                fields = ", ".join(f".{key}" for key in value) if isinstance(value, dict) else ""
                of_several = f"take one of its tensors ({fields})" if fields else "take one of its tensors"
                assert (of_several if isinstance(value, dict | tuple) else "use torch.as_tensor") in str(caught.value)


def check_other_dtypes(call: Call) -> None:
    """Whole numbers for features are refused on either side alone, and so is all but int64 for indices."""
    for index, (tensor, kind) in enumerate(zip(call.rows(), call.tensors, strict=True)):
        whole = (tensor.double(), tensor.int(), tensor.bool())
        for value in {"y": whole, "n": whole, "m": (tensor.long(), tensor.double())}.get(
            kind, (tensor.long(), tensor > 0)
        ):
            with pytest.raises(TypeError, match=f"got {value.dtype}"):
                call(*call.replaced(index, value))


def check_nan(call: Call) -> None:
    """A NaN in one element of any tensor comes out as a NaN."""
    for index in call.floating():
        for place in (0, CHANNELS + 1, -1):
            tensor = call.rows()[index].clone()
            if call.tensors == "aam":  # the last tokens of the last example are none
                tensor = tensor[:2].clone() if place == -1 else tensor
            tensor.view(-1)[min(place, tensor.numel() - 1)] = math.nan
            tensors = [t[: len(tensor)] if call.tensors == "aam" else t for t in call.rows()]
            found = call(*[tensor if i == index else t for i, t in enumerate(tensors)])
            assert found.isnan().any(), f"{found} from a NaN in tensor {index} at {place}"


def check_inference_mode(call: Call) -> None:
    """What a teacher computed under ``torch.inference_mode`` can be used, and what learns gets its gradient."""
    with torch.inference_mode():
        tensors = [tensor.clone() for tensor in call.rows()]
    students = [tensor.clone().requires_grad_() for tensor in call.rows()[: call.students]]
    found = call(*students, *tensors[call.students :])
    if found.requires_grad:  # where there is no student, of a module's parameters
        found.sum().backward()
    assert all(student.grad is not None for student in students)


def check_empty(call: Call) -> None:
    """A loss of no example gives an error that says so; no function gives a NaN."""
    empty = [t if kind in "cn" else t[:0] for kind, t in zip(call.tensors, call.rows(), strict=True)]
    if call.name in EMPTY_IS_FINE:
        assert call(*empty).numel() == 0
    else:
        with pytest.raises(ValueError, match="empty"):
            call(*empty)


def check_examples(call: Call) -> None:
    """Sides of different examples are refused, with both shapes: broadcasting would go on silently."""
    for count in (BATCH - 1, 1):
        for index in range(len(call.tensors)):
            if call.tensors[index] not in "cn":
                with pytest.raises(ValueError, match=rf"got .*\b{count}\b"):
                    call(*call.replaced(index, call.rows()[index][:count]))


def check_numbers(call: Call) -> None:
    """Settings that are numbers refuse text, lists, tensors and None by their name."""
    for name, parameter in call.parameters.items():
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool):
            for value in ("1", None, [1.0], *([torch.tensor(2.0)] if name != "temperature" else [])):
                with pytest.raises(TypeError, match=f"{name} must be a number, got"):
                    call(*call.rows(), **{name: value})


def check_autocast(call: Call) -> None:
    """Mixed precision changes nothing: float32 out, whatever autocast would round."""
    for dtype in (torch.float32, torch.bfloat16):
        tensors = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in call.rows()]
        plain = call(*tensors)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(call(*tensors), plain, rtol=0, atol=0)
        assert plain.dtype == torch.float32


def check_scale(call: Call) -> None:
    """Where the scale of a side means nothing, it means nothing from 1e-30 to 1e30, in float32 too."""
    plain = call(*call.rows()).float()
    for scale in (1e-30, 1e-10, 1e10, 1e30):
        for sides in ((0,), (1,), (0, 1)):
            tensors = [t.float() * (scale if i in sides else 1) for i, t in enumerate(call.rows())]
            leaf = tensors[0].clone().requires_grad_()
            found = call(leaf, *tensors[1:])
            assert_close(found, plain, rtol=1e-4, atol=1e-7)
            found.sum().backward()
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()


def check_no_silent_zero(call: Call) -> None:
    """At 1e30 a loss is infinite or NaN, and no plausible number, unless float64 gives the same."""
    for sides in ((0,), (1,), (0, 1)):
        tensors = [
            t.float() * (1e30 if i in sides else 1) if t.is_floating_point() else t for i, t in enumerate(call.rows())
        ]
        found, exact = call(*tensors), call(*[t.double() if t.is_floating_point() else t for t in tensors])
        if found.isfinite().all():
            assert_close(found.double(), exact.double(), rtol=1e-4, atol=1e-7)


ALWAYS = [
    check_other_types,
    check_other_dtypes,
    check_nan,
    check_inference_mode,
    check_empty,
    check_numbers,
    inputs.check_temperature,
]
