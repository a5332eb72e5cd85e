"""Wrong versions of learning together."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.self_distillation import online
from tests.museum import exhibit

MUTUAL, CONSISTENCY, GATED, DEEP = (
    f"kdref.self_distillation.online:{name}"
    for name in (
        "mutual_learning_loss",
        "class_consistency_loss",
        "gated_ensemble_logits",
        "deep_supervision_loss",
    )
)
right_mutual, right_consistency, right_gated, right_deep = (
    online.mutual_learning_loss,
    online.class_consistency_loss,
    online.gated_ensemble_logits,
    online.deep_supervision_loss,
)  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_online.py::test_{test}" for test in tests)


def divergence(own: Tensor, peer: Tensor, temperature: float | Tensor) -> Tensor:
    """KL(peer‖own), with a gradient to both."""
    dtype = torch.promote_types(own.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(z.to(dtype) / temperature, dim=-1) for z in (own, peer))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


@exhibit(
    replaces=MUTUAL,
    seen_in="SforAiDl/KD_Lib DML: the peer's logits keep their graph, and its gradients are zeroed before, not after",
    killed_by=killed_by("gradients_reach_who_learns_only"),
)
def peer_not_detached(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """PITFALLS 21: each peer is pulled by the other's loss too."""
    return divergence(own_logits.expand_as(peer_logits), peer_logits, temperature).mean() * temperature**2


@exhibit(
    replaces=MUTUAL,
    seen_in="SforAiDl/KD_Lib DML: the default loss is MSE between logits",
    killed_by=killed_by("divergences_match_the_definition", "known_values"),
)
def squares_of_logits(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """PITFALLS 11: another quantity, which punishes shifts that softmax ignores."""
    dtype = torch.promote_types(own_logits.dtype, torch.float32)
    return F.mse_loss(own_logits.to(dtype).expand_as(peer_logits), peer_logits.detach().to(dtype))


@exhibit(
    replaces=MUTUAL,
    seen_in="PITFALLS 8: arguments of KL reversed",
    killed_by=killed_by("divergences_match_the_definition", "known_values"),
)
def sides_swapped(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(own‖peer) seeks one mode of the peer."""
    own = own_logits.expand_as(peer_logits)
    return divergence(peer_logits.detach(), own, temperature).mean() * temperature**2


@exhibit(
    replaces=MUTUAL,
    seen_in="a likely slip: the ensemble of peers as the teacher",
    killed_by=killed_by("divergences_match_the_definition", "known_values"),
)
def from_the_average_peer(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The gradient is the same; the value is smaller, by what the peers disagree."""
    if peer_logits.dim() == 2:
        return right_mutual(own_logits, peer_logits, temperature=temperature)
    dtype = torch.promote_types(own_logits.dtype, torch.float32)
    average = F.softmax(peer_logits.detach().to(dtype) / temperature, dim=-1).mean(dim=0)
    return right_mutual(own_logits, average.clamp(min=1e-30).log() * temperature, temperature=temperature)


@exhibit(
    replaces=MUTUAL,
    seen_in="a likely slip: the sum over peers",
    killed_by=killed_by("divergences_match_the_definition", "known_values"),
)
def summed_over_peers(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The labels lose weight with every peer that joins."""
    count = len(peer_logits) if peer_logits.dim() == 3 else 1
    return right_mutual(own_logits, peer_logits, temperature=temperature) * count


@exhibit(
    replaces=MUTUAL,
    seen_in="a likely slip: a cross-entropy called KL",
    killed_by=killed_by(
        "zero_where_they_agree_and_positive_elsewhere", "equal_peers_that_update_together_never_teach_each_other"
    ),
)
def cross_entropy_of_peers(own_logits: Tensor, peer_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """PITFALLS 4: the peer's entropy too, so equal peers seem to differ."""
    dtype = torch.promote_types(own_logits.dtype, torch.float32)
    log_q = F.log_softmax(own_logits.to(dtype) / temperature, dim=-1)
    p = F.softmax(peer_logits.detach().to(dtype) / temperature, dim=-1)
    return -(p * log_q).sum(dim=-1).mean() * temperature**2


@exhibit(
    replaces=CONSISTENCY,
    seen_in="PITFALLS 2: missing τ²",
    killed_by=killed_by("divergences_match_the_definition", "gradients_reach_who_learns_only"),
)
def without_the_square(logits: Tensor, same_class_logits: Tensor, *, temperature: float | Tensor = 4.0) -> Tensor:
    """16 times too small at temperature 4."""
    return right_consistency(logits, same_class_logits, temperature=temperature) / temperature**2


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: both halves of the batch through the network with a gradient",
    killed_by=killed_by("gradients_reach_who_learns_only"),
)
def gradient_to_the_second(logits: Tensor, same_class_logits: Tensor, *, temperature: float | Tensor = 4.0) -> Tensor:
    """The second example, too, moves: towards the first."""
    return divergence(logits, same_class_logits, temperature).mean() * temperature**2


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: symmetric, as a distance would be",
    killed_by=killed_by("divergences_match_the_definition", "known_values"),
)
def symmetric(logits: Tensor, same_class_logits: Tensor, *, temperature: float | Tensor = 4.0) -> Tensor:
    """Another divergence."""
    other = same_class_logits.detach()
    both = divergence(logits, other, temperature) + divergence(other, logits, temperature)
    return both.mean() / 2 * temperature**2


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
