"""Wrong versions of learning together."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.self_distillation import online
from tests.museum import exhibit

MUTUAL, CONSISTENCY = (
    f"kdref.self_distillation.online:{name}" for name in ("mutual_learning_loss", "class_consistency_loss")
)
right_mutual, right_consistency = online.mutual_learning_loss, online.class_consistency_loss  # before any swap


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
