"""Wrong versions of the nasty teacher's loss."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdref import provenance
from tests.museum import exhibit

LOSS = "kdref.provenance.nasty:nasty_teacher_loss"
DEFINITION, HAND = "the_loss_matches_the_definition", "a_value_known_by_hand"
GRADIENT = "the_gradient_is_the_closed_form_and_goes_to_the_one_that_learns_only"
DIRECTION = "it_punishes_what_the_honest_network_deems_likely_and_not_what_it_deems_impossible"
LEARNS = "a_teacher_learns_to_be_right_and_unlike_the_honest_one"
LIMIT = "at_a_high_temperature_it_is_the_squared_distance_of_centred_logits"
right = provenance.nasty_teacher_loss


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/provenance/test_nasty.py::test_{test}" for test in tests)


def softened(logits: Tensor, adversary_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return F.log_softmax(logits / temperature, dim=-1), F.log_softmax(adversary_logits.detach() / temperature, dim=-1)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: the target of a divergence detached, as a teacher's is in distillation",
    killed_by=killed_by(GRADIENT, LEARNS),
)
def nothing_to_learn(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """The value is right, and the teacher learns from labels alone."""
    log_p, log_a = softened(logits.detach(), adversary_logits, temperature)
    divergence = F.kl_div(log_a, log_p, log_target=True, reduction="batchmean")
    return F.cross_entropy(logits, labels) - weight * temperature**2 * divergence


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip, asked about in VITA-Group/Nasty-Teacher #2: the fixed network as the target, as in "
    "distillation",
    killed_by=killed_by(DEFINITION, DIRECTION, GRADIENT),
)
def the_other_way_round(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """It may deny what the honest network says, and says nothing that the honest network denies."""
    log_p, log_a = softened(logits, adversary_logits, temperature)
    divergence = F.kl_div(log_p, log_a, log_target=True, reduction="batchmean")
    return F.cross_entropy(logits, labels) - weight * temperature**2 * divergence


@exhibit(
    replaces=LOSS,
    seen_in='a likely slip, and the usual one: reduction="mean"',
    killed_by=killed_by(DEFINITION, HAND),
)
def mean_over_classes(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """A nastiness C times too small."""
    classes = logits.shape[-1]
    return right(logits, adversary_logits, labels, weight=weight / classes, temperature=temperature)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: τ² forgotten",
    killed_by=killed_by(DEFINITION, GRADIENT, LIMIT),
)
def without_the_square(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """At the temperature of 4 it is sixteen times too kind."""
    return right(logits, adversary_logits, labels, weight=weight / temperature**2, temperature=temperature)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: plus for minus",
    killed_by=killed_by(DEFINITION, HAND, LEARNS),
)
def a_kind_teacher(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """It is distilled from the honest network, and teaches as well."""
    honest = F.cross_entropy(logits, labels)
    return 2 * honest - right(logits, adversary_logits, labels, weight=weight, temperature=temperature)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: the honest network not held fixed",
    killed_by=killed_by(GRADIENT),
)
def spoils_the_honest_network(
    logits: Tensor, adversary_logits: Tensor, labels: Tensor, *, weight: float, temperature: float, **more: Any
) -> Tensor:
    """Both flee from each other, and there is no honest network any more."""
    log_p, log_a = F.log_softmax(logits / temperature, dim=-1), F.log_softmax(adversary_logits / temperature, dim=-1)
    divergence = (log_p.exp() * (log_p - log_a)).sum(-1).mean()
    return F.cross_entropy(logits, labels) - weight * temperature**2 * divergence
