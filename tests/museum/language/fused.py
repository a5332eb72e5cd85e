"""Wrong versions of the loss that never holds the logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import language
from tests.museum import exhibit

FUSED = "kdref.language.fused:fused_linear_loss"
right_loss, right_fused = language.token_loss, language.fused_linear_loss


@exhibit(
    replaces=FUSED,
    seen_in="a likely slip: the count of the chunk where the batch's is meant",
    killed_by=(
        "heart/language/test_fused.py::test_equals_the_dense_form_in_value_and_in_every_gradient[None-True-forward-None]",
    ),
)
def mean_of_chunk_means(student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor, **how: Any) -> Tensor:
    """PITFALLS 7: the last, shorter chunk weighs as much as a whole one."""
    size, mask = how.pop("chunk_size", None) or 64, how.pop("mask", None)
    masks = [None] * len(student.split(size)) if mask is None else mask.split(size)
    parts = zip(student.split(size), teacher.split(size), masks, strict=True)
    losses = [right_fused(s, weight, t, teacher_weight, mask=m, **how) for s, t, m in parts]
    return torch.stack(losses).mean()


@exhibit(
    replaces=FUSED,
    seen_in="a likely slip: the gradient's 1/τ is forgotten in a backward pass by hand",
    killed_by=(
        "heart/language/test_fused.py::test_equals_the_dense_form_in_value_and_in_every_gradient[None-True-forward-None]",
    ),
)
def gradient_without_the_temperature(*tensors: Tensor, **how: Any) -> Tensor:
    """The value is right, so no loss curve shows it."""
    loss, temperature = right_fused(*tensors, **how), how.get("temperature", 1.0)
    return loss.detach() + temperature * (loss - loss.detach())


@exhibit(
    replaces=FUSED,
    seen_in="a likely slip: only the incoming gradient of 1 was tried",
    killed_by=(
        "heart/language/test_fused.py::test_equals_the_dense_form_in_value_and_in_every_gradient[None-True-forward-None]",
    ),
)
def upstream_ignored(*tensors: Tensor, **how: Any) -> Tensor:
    """Weighted by 3 beside another loss, or scaled for half precision, it still weighs 1."""
    loss = right_fused(*tensors, **how)
    if loss.requires_grad:
        loss.register_hook(torch.ones_like)
    return loss


@exhibit(
    replaces=FUSED,
    seen_in="a likely slip: what a fused loss is meant to avoid, behind its name",
    killed_by=("heart/language/test_fused.py::test_no_tensor_of_all_logits_ever_exists[forward-None]",),
)
def not_fused_at_all(student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor, **how: Any) -> Tensor:
    """Right, and as large as ever."""
    biases, _ = (how.pop("student_bias", None), how.pop("teacher_bias", None)), how.pop("chunk_size", None)
    return right_loss(F.linear(student, weight, biases[0]), F.linear(teacher, teacher_weight, biases[1]), **how)


@exhibit(
    replaces=FUSED,
    seen_in="a likely slip: the gradient is a constant of the hidden states, so twice differentiated it is 0",
    killed_by=("heart/language/test_fused.py::test_the_second_derivative_is_refused_with_advice",),
)
def second_derivative_is_silent(*tensors: Tensor, **how: Any) -> Tensor:
    """Penalties on the gradient train nothing, and nobody is told."""
    wanting = [x for x in (*tensors, how.get("student_bias")) if x is not None and x.requires_grad]
    with torch.enable_grad():
        loss = right_fused(*tensors, **how)
        made = torch.autograd.grad(loss, wanting, retain_graph=True)
    linear = sum((x * g).sum() for x, g in zip(wanting, made, strict=True))
    return loss.detach() + linear - linear.detach()


@exhibit(
    replaces=FUSED,
    seen_in="linkedin/Liger-Kernel #1432, and ours until it was measured",
    killed_by=(
        "heart/language/test_fused_precision.py::test_gradients_in_bfloat16_are_right_to_half_a_percent[10.0-forward-None]",
        "heart/language/test_fused_precision.py::test_the_sum_of_sixteen_chunks_in_bfloat16_is_right_to_a_percent",
    ),
)
def logits_rounded_to_bfloat16(
    student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor, **how: Any
) -> Tensor:
    """The product is rounded before the softmax: where two sides nearly agree, their difference is rounding."""
    how.pop("chunk_size", None)
    return right_loss(student @ weight.T, teacher @ teacher_weight.T, **how)
