"""Wrong versions of the acceptance of drafted tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import sequence
from tests.museum import exhibit

ACCEPTANCE = "kdref.sequence.acceptance:speculative_acceptance"
right_acceptance = sequence.speculative_acceptance  # as it was before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/sequence/test_acceptance.py::test_{test}" for test in tests)


@exhibit(
    replaces=ACCEPTANCE,
    seen_in="a likely slip: total variation without its half",
    killed_by=killed_by("every_acceptance_is_one_minus_the_total_variation", "known_values"),
)
def without_the_half(student_probabilities: Tensor, teacher_probabilities: Tensor) -> Tensor:
    """Negative for distributions that share nothing."""
    return 1 - (student_probabilities - teacher_probabilities.detach()).abs().sum(dim=-1)


@exhibit(
    replaces=ACCEPTANCE,
    seen_in="lablup/mlxcel #992: a draft kept only if the teacher draws the very same token",
    killed_by=killed_by("every_acceptance_is_one_minus_the_total_variation", "known_values"),
)
def chance_of_the_same_draw(student_probabilities: Tensor, teacher_probabilities: Tensor) -> Tensor:
    """Right in law, but even a perfect draft model is refused most of the time."""
    return (student_probabilities * teacher_probabilities.detach()).sum(dim=-1)


@exhibit(
    replaces=ACCEPTANCE,
    seen_in="Liger-Kernel: a smaller vocabulary padded with logit 0",
    killed_by=killed_by("bad_input_is_named"),
)
def smaller_vocabulary_padded_with_logit_zero(student_probabilities: Tensor, teacher_probabilities: Tensor) -> Tensor:
    """PITFALLS 23: tokens that the student hasn't got receive probability, as much as one of logit 0."""
    missing = teacher_probabilities.shape[-1] - student_probabilities.shape[-1]
    if missing > 0:
        student_probabilities = F.pad(student_probabilities.clamp(min=1e-30).log(), (0, missing)).softmax(dim=-1)
    return right_acceptance(student_probabilities, teacher_probabilities)


@exhibit(
    replaces=ACCEPTANCE,
    seen_in="a likely slip: a gradient to both sides",
    killed_by=killed_by("every_acceptance_is_one_minus_the_total_variation"),
)
def gradient_to_the_teacher(student_probabilities: Tensor, teacher_probabilities: Tensor) -> Tensor:
    """PITFALLS 21: the model whose text is wanted moves towards its draft model."""
    return torch.minimum(student_probabilities, teacher_probabilities).sum(dim=-1)
