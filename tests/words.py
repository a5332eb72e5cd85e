"""What people hand to functions of words and sequences: the same checks for both topics.

A ``Call`` names a function, its tensors and its settings; each check spoils one of them. Functions are looked up when
they are called, so that the museum can put a wrong version in place.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers.modeling_outputs import CausalLMOutput


@dataclass(frozen=True)
class Call:
    """A function of a topic, its tensors by name and its settings."""

    module: ModuleType
    name: str
    tensors: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    def __str__(self) -> str:
        return self.label or self.name

    def __call__(self, **changed: Any) -> Any:
        given = {**self.tensors, **self.settings, **changed}
        positional = [given.pop(name) for name in self.positional]
        return getattr(self.module, self.name)(*positional, **given)

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(getattr(self.module, self.name)).parameters)

    @property
    def positional(self) -> list[str]:
        return [
            name for name, p in self.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name in self.tensors
        ]

    def floating(self) -> list[str]:
        return [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]


def values(found: Any) -> Tensor:
    """All that a function gives, in one row of numbers."""
    parts = found if isinstance(found, tuple) else (found,)
    return torch.cat([part.flatten().double() for part in parts])


def check_other_types(call: Call) -> None:
    """What is no tensor is refused by its type; a model's whole output with a hint at what to take of it."""
    for name, tensor in call.tensors.items():
        for value in (None, tensor.tolist(), tensor.numpy(), (tensor,), CausalLMOutput(logits=tensor)):
            if value is None and call.parameters[name].default is None:
                continue
            with pytest.raises(TypeError, match=rf"must be .*got .*{type(value).__name__}") as caught:
                call(**{name: value})
            if isinstance(value, tuple | CausalLMOutput) and tensor.is_floating_point():
                assert "logits" in str(caught.value)


def check_other_dtypes(call: Call) -> None:
    """On each side alone: whole numbers for scores are refused, and scores for whole numbers and masks."""
    for name, tensor in call.tensors.items():
        wrong = (tensor.long(), tensor.bool()) if tensor.is_floating_point() else (tensor.double(), tensor.int())
        for value in wrong:
            with pytest.raises(TypeError, match=f"got .*{value.dtype}"):
                call(**{name: value})


def check_nan(call: Call) -> None:
    """A NaN in any tensor of scores comes out as a NaN, or is an error."""
    for name in call.floating():
        spoiled = call.tensors[name].clone()
        spoiled.view(-1)[1] = math.nan
        try:
            found = values(call(**{name: spoiled}))
        except (ValueError, RuntimeError) as error:
            found = torch.tensor(math.nan if "nan" in str(error).lower() else 0.0)
        assert found.isnan().any(), f"{found} from a NaN in {name}"


def check_temperature(call: Call) -> None:
    """A temperature is a positive, finite number; a tensor of another shape would broadcast to another loss."""
    for name in [name for name in call.parameters if name == "temperature"]:
        for value in ("4", None, [4.0]):
            with pytest.raises(TypeError, match="temperature must be a number, got"):
                call(**{name: value})
        for number in (0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {number}"):
                call(**{name: number})
        for shape in ((7,), (2,), (3, 1, 1, 1, 1)):
            with pytest.raises(ValueError, match=r"temperature must be a number.*, got shape"):
                call(**{name: torch.ones(shape)})


def check_numbers(call: Call) -> None:
    """Settings that are numbers refuse text and lists by their name; so does a share of a mixture."""
    for name, parameter in call.parameters.items():
        number = type(parameter.default) in (int, float) or type(call.settings.get(name)) in (int, float)
        if number and name != "temperature":
            for value in ("1", [1.0]):
                with pytest.raises((TypeError, ValueError), match=f"{name} must be a .*number, .*got"):
                    call(**{name: value})


def check_counts(call: Call) -> None:
    """What a sum is divided by is a positive number, or a tensor of one."""
    if "num_tokens" not in call.parameters:
        return
    assert_close(call(num_tokens=torch.tensor(4)), call(num_tokens=4.0))
    for value in ("4", [4.0]):
        with pytest.raises(TypeError, match="num_tokens must be a number, got"):
            call(num_tokens=value)
    for value in (0, -1, math.nan, math.inf, torch.tensor(0), torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="num_tokens must be positive and finite, got"):
            call(num_tokens=value)
    with pytest.raises(ValueError, match=r"num_tokens must be one number, got shape \(2,\)"):
        call(num_tokens=torch.ones(2))


def check_mask(call: Call) -> None:
    """A mask is a bool tensor, one per token."""
    if "mask" not in call.parameters:
        return
    shape = call.settings["mask"].shape
    for value in ([True], (True,), 1, "all"):
        with pytest.raises(TypeError, match=rf"mask must be a bool tensor .*got {type(value).__name__}"):
            call(mask=value)
    for value in (call.settings["mask"].long(), call.settings["mask"].double()):
        with pytest.raises(TypeError, match=rf"mask must be a bool tensor .*got {value.dtype}"):
            call(mask=value)
    with pytest.raises(ValueError, match="mask must be a bool tensor"):
        call(mask=torch.ones(*shape, 1, dtype=torch.bool))


def check_inference_mode(call: Call) -> None:
    """All that was made under ``torch.inference_mode`` can be used, and the student gets its gradient."""
    with torch.inference_mode():
        made = {
            name: tensor.clone()
            for name, tensor in {**call.tensors, "mask": call.settings.get("mask")}.items()
            if tensor is not None
        }
    plain, found = call(), call(**made)
    assert_close(values(found), values(plain))
    learns = [name for name in call.tensors if name.startswith("student") and call.tensors[name].is_floating_point()]
    for name in learns:
        leaf = call.tensors[name].clone().requires_grad_()
        result = call(**{**made, name: leaf})
        if isinstance(result, Tensor) and result.requires_grad:
            result.sum().backward()
            assert leaf.grad is not None


def check_autocast(call: Call) -> None:
    """Mixed precision changes nothing: float32 out, whatever autocast would round."""
    single = {name: tensor.float() for name, tensor in call.tensors.items() if tensor.is_floating_point()}
    plain = call(**single)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(values(call(**single)), values(plain), rtol=0, atol=0)


def check_missing_words(call: Call) -> None:
    """Logits of -inf, in the teacher or on both sides, make no NaN in the value nor in the student's gradient."""
    scores = [name for name in call.tensors if name.endswith("logits")]
    gone = torch.zeros_like(call.tensors[scores[0]], dtype=torch.bool)
    gone[..., -1] = True  # no token below is the last word
    gone.view(-1, gone.shape[-1])[::2, -1] = False
    for sides in (scores[1:], scores):
        tensors = {
            name: call.tensors[name].masked_fill(gone[..., : call.tensors[name].shape[-1]], -math.inf) for name in sides
        }
        leaf = tensors.get(scores[0], call.tensors[scores[0]]).clone().requires_grad_()
        found = call(**{**tensors, scores[0]: leaf})
        assert not found.isnan().any(), f"{found} with {sides} lacking a word"
        found.sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all(), f"{leaf.grad}"


ALWAYS: list[Callable[[Call], None]] = [
    check_other_types,
    check_other_dtypes,
    check_nan,
    check_temperature,
    check_numbers,
    check_counts,
    check_mask,
    check_inference_mode,
    check_autocast,
]
