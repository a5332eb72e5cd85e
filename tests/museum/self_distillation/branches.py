"""Wrong versions of learning from one's own branches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.self_distillation import branches
from tests.museum import exhibit

GATED, DEEP = (
    f"kdref.self_distillation.branches:{name}" for name in ("gated_ensemble_logits", "deep_supervision_loss")
)
right_gated, right_deep = branches.gated_ensemble_logits, branches.deep_supervision_loss  # before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_branches.py::test_{test}" for test in tests)


def divergence(own: Tensor, peer: Tensor, temperature: float | Tensor) -> Tensor:
    """KL(peer‖own), with a gradient to both."""
    dtype = torch.promote_types(own.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(z.to(dtype) / temperature, dim=-1) for z in (own, peer))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


@exhibit(
    replaces=GATED,
    seen_in="a likely slip: gate scores used as weights",
    killed_by=killed_by("the_gated_ensemble_matches_the_definition", "limits_of_the_gate_and_of_one_branch"),
)
def gate_without_softmax(branch_logits: Tensor, gate_logits: Tensor) -> Tensor:
    """Weights that may be negative and don't sum to 1."""
    dtype = torch.promote_types(branch_logits.dtype, torch.float32)
    return (gate_logits.to(dtype).mT[..., None] * branch_logits.to(dtype)).sum(dim=0)


@exhibit(
    replaces=GATED,
    seen_in="a likely slip: softmax over the batch",
    killed_by=killed_by("the_gated_ensemble_matches_the_definition", "limits_of_the_gate_and_of_one_branch"),
)
def softmax_over_examples(branch_logits: Tensor, gate_logits: Tensor) -> Tensor:
    """Examples compete for a branch, instead of branches for an example."""
    dtype = torch.promote_types(branch_logits.dtype, torch.float32)
    gate = F.softmax(gate_logits.to(dtype), dim=0)
    return (gate.mT[..., None] * branch_logits.to(dtype)).sum(dim=0)


@exhibit(
    replaces=GATED,
    seen_in="a likely slip: probabilities for logits",
    killed_by=killed_by("the_gated_ensemble_matches_the_definition", "known_values"),
)
def probabilities_averaged(branch_logits: Tensor, gate_logits: Tensor) -> Tensor:
    """Softened twice when the loss takes its softmax."""
    return right_gated(branch_logits.softmax(dim=-1), gate_logits)


@exhibit(
    replaces=DEEP,
    seen_in="luanyunteng/pytorch-be-your-own-teacher: the last classifier's labels weighed by 1 - alpha too",
    killed_by=killed_by("deep_supervision_matches_the_definition", "gradients_reach_who_learns_only"),
)
def less_labels_for_the_last(
    branch_logits: Tensor,
    final_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.3,
    temperature: float | Tensor = 3.0,
) -> Tensor:
    """It has no teacher, so its share goes nowhere."""
    dtype = torch.promote_types(final_logits.dtype, torch.float32)
    right = right_deep(branch_logits, final_logits, labels, soft_weight=soft_weight, temperature=temperature)
    return right - soft_weight * F.cross_entropy(final_logits.to(dtype), labels)


@exhibit(
    replaces=DEEP,
    seen_in="a likely slip: the last classifier not detached",
    killed_by=killed_by("gradients_reach_who_learns_only"),
)
def last_learns_from_its_branches(
    branch_logits: Tensor,
    final_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.3,
    temperature: float | Tensor = 3.0,
) -> Tensor:
    """The teacher is drawn down to its pupils."""
    right = right_deep(branch_logits, final_logits, labels, soft_weight=soft_weight, temperature=temperature)
    drawn = divergence(branch_logits, final_logits.expand_as(branch_logits), temperature).mean()
    return right + soft_weight * temperature**2 * len(branch_logits) * (drawn - drawn.detach())


@exhibit(
    replaces=DEEP,
    seen_in="a likely slip: the mean over branches",
    killed_by=killed_by("deep_supervision_matches_the_definition", "limits_of_the_gate_and_of_one_branch"),
)
def mean_over_branches(
    branch_logits: Tensor,
    final_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.3,
    temperature: float | Tensor = 3.0,
) -> Tensor:
    """K times too little for the branches."""
    dtype = torch.promote_types(final_logits.dtype, torch.float32)
    last = F.cross_entropy(final_logits.to(dtype), labels)
    right = right_deep(branch_logits, final_logits, labels, soft_weight=soft_weight, temperature=temperature)
    return last + (right - last) / len(branch_logits)
