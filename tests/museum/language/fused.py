"""Wrong versions of the loss that never holds the logits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import language
from kdref.language import fused
from tests.museum import exhibit

FUSED = "kdref.language.fused:fused_linear_loss"
PROJECT, COMPARE, ROWS = (f"kdref.language.fused:{name}" for name in ("_project", "_compare", "_compare_rows"))
right_loss, right_fused = language.token_loss, language.fused_linear_loss
right_compare, right_rows = fused._compare, fused._compare_rows


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
    replaces=PROJECT,
    seen_in="linkedin/Liger-Kernel #1432: the product is bfloat16, and is converted after it was rounded",
    killed_by=(
        "heart/language/test_fused_precision.py::test_gradients_in_bfloat16_are_right_to_half_a_percent[forward-None-10.0-cpu]",
        "heart/language/test_fused_precision.py::test_the_sum_of_sixteen_chunks_in_bfloat16_is_right_to_a_percent[3.0-cpu]",
    ),
)
def rounded_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, logits: Tensor) -> None:
    """A softmax in float32 comes too late: a student that is nearly there gets the rounding for a gradient."""
    logits.copy_(F.linear(hidden, weight, bias))


@exhibit(
    replaces=ROWS,
    seen_in="a likely slip: the whole block counts, and not the tokens that are in it",
    killed_by=(
        "heart/language/test_fused_compiled.py::test_compiled_once_it_is_the_dense_form_for_any_number_of_tokens[forward-None]",
    ),
)
def what_stands_after_the_last_token_counts(
    kind: str, numbers: Any, students: Tensor, teachers: Tensor, rows: int, made_in: torch.dtype | None
) -> tuple[Tensor, Any]:
    """The last chunk is padded with the one before it, whose tokens count twice in the value."""
    _, gradient = right_rows(kind, numbers, students, teachers, rows, made_in)
    values, _ = right_rows(kind, numbers, students.clone(), teachers.clone(), len(students), None)
    return values, gradient


@exhibit(
    replaces=COMPARE,
    seen_in="a likely slip: the sum over words that makes a gradient of logits is that of the value",
    killed_by=(
        "heart/language/test_fused.py::test_equals_the_dense_form_in_value_and_in_every_gradient[None-True-forward-None]",
        "heart/language/test_fused.py::test_gradcheck[total_variation-None]",
    ),
)
def gradient_of_the_probabilities(*arguments: Any) -> tuple[Tensor, Any]:
    """Probabilities add up to one, so logits have a gradient that adds up to zero: this one does not."""
    values, gradient = right_compare(*arguments)
    return values, None if gradient is None else gradient - values[:, None] / gradient.shape[1]


@exhibit(
    replaces="kdref.language.fused:_compiled",
    seen_in="a likely slip: one compiled function for all kinds, of which torch keeps eight compilations",
    killed_by=("heart/language/test_fused_compiled.py::test_each_kind_has_its_own_compilations",),
)
def one_for_all_kinds(kind: str) -> Any:
    """Whoever compares the kinds gets the last ones uncompiled, and nobody says so."""
    return torch.compile(right_compare)


one_for_all_kinds.cache_clear = lambda: None
