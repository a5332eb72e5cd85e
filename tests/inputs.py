"""What people hand to functions of logits, and what must come of it: the same checks for every topic with class logits.

A ``Call`` names a function and says what its tensors are; from that come tensors that are right, for a flat batch and
for images, and each check spoils one of them. Functions are looked up when they are called, so that the museum can put
a wrong version in place.
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers.modeling_outputs import SequenceClassifierOutput

from tests import checks

CLASSES, NETWORKS, IMAGES = 4, 3, (2, 2, 3)  # three networks, two images of 2 × 3 places: a flat batch of 12
EXAMPLES = math.prod(IMAGES)


@dataclass(frozen=True)
class Call:
    """A function and its tensors, a letter each.

    z: logits of one network, (B, C); k: of several, (K, B, C); p: probabilities of one, (B, C); g: a gate, (B, K);
    y: labels, m: a selection, (B,).
    """

    module: ModuleType
    name: str
    tensors: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def __call__(self, *tensors: Any, **settings: Any) -> Tensor:
        result: Tensor = getattr(self.module, self.name)(*tensors, **{**self.settings, **settings})
        return result

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(getattr(self.module, self.name)).parameters)

    def maps(self) -> list[Tensor]:
        """Right tensors for images, with the classes on axis 1 of each network."""
        return [_images(kind, seed) for seed, kind in enumerate(self.tensors, 1)]

    def rows(self) -> list[Tensor]:
        """The same as a flat batch, (12, 4) for logits."""
        return [_flat(kind, tensor) for kind, tensor in zip(self.tensors, self.maps(), strict=True)]

    def replaced(self, index: int, value: Any) -> list[Any]:
        return [value if i == index else tensor for i, tensor in enumerate(self.rows())]

    def floating(self) -> list[int]:
        return [index for index, kind in enumerate(self.tensors) if kind in "zkgp"]


def _images(kind: str, seed: int) -> Tensor:
    count, height, width = IMAGES
    if kind == "z":
        return checks.randn(count, CLASSES, height, width, seed=seed, scale=2.0)
    if kind == "p":
        return checks.randn(count, CLASSES, height, width, seed=seed, scale=2.0).softmax(dim=1)
    if kind == "k":
        return checks.randn(NETWORKS, count, CLASSES, height, width, seed=seed, scale=2.0)
    if kind == "y":
        return checks.labels_for(EXAMPLES, CLASSES, seed=seed).reshape(IMAGES)
    if kind == "m":
        spoiled = torch.arange(EXAMPLES) == 1  # by check_nan: what is not selected may be NaN
        return (checks.labels_for(EXAMPLES, 2, seed=seed).bool() | spoiled).reshape(IMAGES)
    return checks.randn(count, NETWORKS, seed=seed)  # a gate opens for an image, not for a place


def _flat(kind: str, tensor: Tensor) -> Tensor:
    if kind in "zp":
        return tensor.movedim(1, -1).reshape(EXAMPLES, CLASSES)
    if kind == "k":
        return tensor.movedim(2, -1).reshape(NETWORKS, EXAMPLES, CLASSES)
    if kind == "g":
        return tensor.repeat_interleave(EXAMPLES // len(tensor), dim=0)
    return tensor.reshape(EXAMPLES)


def check_class_dim(call: Call) -> None:
    """Images with their classes on axis 1, or -3, give what a flat batch of their places gives."""
    expected = call(*call.rows())
    for class_dim in (1, -3):
        found = call(*call.maps(), class_dim=class_dim)
        if expected.shape == (EXAMPLES, CLASSES):  # it has a class axis, on the same place
            found = found.movedim(-3, -1)
        assert_close(found.reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


def check_nan(call: Call) -> None:
    """A NaN in any of the tensors comes out as a NaN; where there is only True and False, as True."""
    for index in call.floating():
        tensor = call.rows()[index].clone()
        tensor.view(-1)[CLASSES + 1] = math.nan  # of the second example; in a stack, of the first network
        found = call(*call.replaced(index, tensor))
        assert found.view(-1)[1] if found.dtype == torch.bool else found.isnan().any(), f"{found} from a NaN in {index}"


def check_other_types(call: Call) -> None:
    """What is no tensor is refused by its name, with what to do about it."""
    for index, (tensor, name) in enumerate(zip(call.rows(), call.parameters, strict=False)):
        model_output = SequenceClassifierOutput(logits=tensor)
        for value in (None, tensor.tolist(), tensor.numpy(), (tensor,), model_output):
            with pytest.raises(TypeError, match=rf"must be a .*tensor.*, got {type(value).__name__}: ") as caught:
                call(*call.replaced(index, value))
            if name.endswith("logits") and call.tensors[index] == "z" and not isinstance(value, list | Tensor):
                hint = (
                    "take its .logits" if isinstance(value, tuple | SequenceClassifierOutput) else "use torch.as_tensor"
                )
                assert hint in str(caught.value)


def check_other_dtypes(call: Call) -> None:
    """Whole numbers for logits are refused on either side alone, and so is all but int64 for labels."""
    for index, (tensor, kind) in enumerate(zip(call.rows(), call.tensors, strict=True)):
        wrong = {"y": (tensor.double(), tensor.int(), tensor.bool()), "m": (tensor.long(), tensor.double())}
        for value in wrong.get(kind, (tensor.long(), tensor.bool())):
            with pytest.raises(TypeError, match=f"got {value.dtype}"):
                call(*call.replaced(index, value))


def check_empty(call: Call, *, refused: bool) -> None:
    """No example gives an error that says so, or no value: never a NaN."""
    empty = [
        tensor[:, :0] if kind == "k" else tensor[:0] for kind, tensor in zip(call.tensors, call.rows(), strict=True)
    ]
    if refused:
        with pytest.raises(ValueError, match="empty"):
            call(*empty)
    else:
        assert call(*empty).numel() == 0


def check_one_class(call: Call) -> None:
    """One sigmoid output is refused, and the message says what to do."""
    tensors = [
        tensor[..., :1] if kind in "zk" else tensor for kind, tensor in zip(call.tensors, call.rows(), strict=True)
    ]
    with pytest.raises(
        ValueError, match=r"one class can only be right, got shape .*torch\.cat.*or use multi_label_loss"
    ):
        call(*[tensor * 0 if kind == "y" else tensor for kind, tensor in zip(call.tensors, tensors, strict=True)])


def check_class_axis(call: Call) -> None:
    """An axis that isn't there is named."""
    for class_dim in (7, -9):
        with pytest.raises(ValueError, match=f"logits need a class axis at {class_dim}, got shape"):
            call(*call.rows(), class_dim=class_dim)


def check_labels(call: Call) -> None:
    """Labels out of range are named where looking costs nothing, and where -100 means nothing, it is one of them."""
    index = call.tensors.index("y")
    unlabelled = call.rows()[index].clone()
    for value in (CLASSES, -1, -7):
        unlabelled[3] = value
        with pytest.raises(ValueError, match=rf"labels must be in \[0, {CLASSES}\).*, got {value}"):
            call(*call.replaced(index, unlabelled))


def temperatures(call: Call) -> list[str]:
    return [name for name in call.parameters if name.endswith("temperature")]


def check_temperature(call: Call) -> None:
    """A temperature is a positive number, or a tensor of one number or of one per example."""
    for name in temperatures(call):
        for value in ("4", None, [4.0]):
            with pytest.raises(TypeError, match="temperature must be a number, got"):
                call(*call.rows(), **{name: value})
        for number in (0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {number}"):
                call(*call.rows(), **{name: number})
        for shape in ((EXAMPLES,), (EXAMPLES, CLASSES), (1, EXAMPLES), (EXAMPLES, 1, 1), (2,)):
            with pytest.raises(ValueError, match=r"temperature must be a number.*, got shape"):
                call(*call.rows(), **{name: torch.ones(shape)})


def check_temperature_per_example(call: Call) -> None:
    """One temperature per example gives what the examples give one by one."""
    values = torch.arange(1, EXAMPLES + 1, dtype=torch.float64)[:, None] / 3
    found = call(*call.rows(), temperature=values)
    each = []
    for i in range(EXAMPLES):
        one = [
            t[:, i : i + 1] if kind == "k" else t[i : i + 1] for kind, t in zip(call.tensors, call.rows(), strict=True)
        ]
        each.append(call(*one, temperature=values[i].item()))
    expected = torch.stack(each).mean() if found.dim() == 0 else torch.cat(each)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)


def check_large_temperature(call: Call) -> None:
    """In float32 as in float64 up to a million, and refused beyond: τ² would multiply rounding errors only."""
    single = [tensor.float() if tensor.is_floating_point() else tensor for tensor in call.rows()]
    double = [tensor.double() if tensor.is_floating_point() else tensor for tensor in single]
    for temperature in (33.0, 1e4, 1e6):
        found = call(*single, temperature=temperature)
        assert found.dtype == torch.float32
        assert_close(found.double(), call(*double, temperature=temperature), rtol=1e-4, atol=0)
    with pytest.raises(
        ValueError, match=r"temperature 2000000\.0 leaves rounding errors only: use logit_matching_loss"
    ):
        call(*single, temperature=2e6)


def check_numbers(call: Call) -> None:
    """Settings that are numbers refuse text, lists and None by their name."""
    for name, parameter in call.parameters.items():
        number = parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, int | float)
        if (number or isinstance(call.settings.get(name), int | float)) and not name.endswith("temperature"):
            for value in ("1", None, [1.0]):
                with pytest.raises(TypeError, match=f"{name} must be a number, got"):
                    call(*call.rows(), **{name: value})


def check_inference_mode(call: Call) -> None:
    """All that was computed under ``torch.inference_mode`` can be used, and what learns gets its gradient."""
    with torch.inference_mode():
        tensors = [tensor.clone() for tensor in call.rows()]
    tensors = [plain if kind == "y" else t for kind, t, plain in zip(call.tensors, tensors, call.rows(), strict=True)]
    call(*tensors)
    student = call.rows()[0].clone().requires_grad_(call.tensors[0] != "y")
    found = call(student, *tensors[1:])
    if found.requires_grad:
        found.sum().backward()
        assert student.grad is not None


def check_autocast(call: Call) -> None:
    """Mixed precision changes nothing: float32 out, whatever autocast would round."""
    for dtype in (torch.float32, torch.bfloat16):
        tensors = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in call.rows()]
        plain = call(*tensors)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(call(*tensors), plain, rtol=0, atol=0)
        assert plain.dtype in (torch.float32, torch.bool), f"{plain.dtype} from {dtype}"


def lacking(call: Call) -> Iterator[list[Tensor]]:
    """Teachers without a class, without all but one, and both sides without it; the student is the first logits."""
    student, *teachers = (index for index, kind in enumerate(call.tensors) if kind in "zk")
    gone = torch.zeros(EXAMPLES, CLASSES, dtype=torch.bool)
    gone[::2, 1] = True
    alone = gone.clone()
    alone[1], alone[1, 2] = True, False
    for mask, sides in ((gone, teachers or [student]), (alone, teachers or [student]), (gone, [student, *teachers])):
        tensors = call.rows()
        for index in sides:
            tensors[index] = tensors[index].masked_fill(mask, -math.inf)
        yield tensors


def check_missing_class(call: Call) -> None:
    """A class that a teacher lacks, its logit -inf, makes no NaN, in the value and in the student's gradient."""
    for tensors in lacking(call):
        index = next(index for index, kind in enumerate(call.tensors) if kind in "zk")
        tensors[index] = tensors[index].clone().requires_grad_()
        found = call(*tensors)
        assert not found.isnan().any(), f"{found}"
        if found.requires_grad:
            found.sum().backward()
            assert tensors[index].grad is not None
            assert tensors[index].grad.isfinite().all(), f"{tensors[index].grad}"


ALWAYS = [
    check_class_dim,
    check_nan,
    check_other_types,
    check_other_dtypes,
    check_one_class,
    check_class_axis,
    check_temperature,
    check_numbers,
    check_inference_mode,
    check_autocast,
]
