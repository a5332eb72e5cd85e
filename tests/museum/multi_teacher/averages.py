"""Wrong versions of the averages of teachers, the loss against them and their disagreement."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import multi_teacher
from tests.museum import exhibit

PROBABILITIES, LOGITS, LOSS, DISAGREEMENT = (
    f"kdref.multi_teacher.averages:{name}"
    for name in ("average_probabilities", "average_logits", "multi_teacher_loss", "disagreement")
)
right_probabilities, right_logits = multi_teacher.average_probabilities, multi_teacher.average_logits
right_loss, right_disagreement = multi_teacher.multi_teacher_loss, multi_teacher.disagreement


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/multi_teacher/test_averages.py::test_{test}" for test in tests)


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def shares(weights: Tensor | None, like: Tensor) -> Tensor:
    equal = like.new_full((len(like), 1), 1 / len(like))
    return (equal if weights is None else weights.to(like.dtype)).reshape(len(like), -1, 1)


@exhibit(
    replaces=PROBABILITIES,
    seen_in="a likely slip: average the logits, soften afterwards",
    killed_by=killed_by(
        "all_match_their_definitions",
        "one_teacher_that_knows_no_better_dilutes_the_arithmetic_mean_and_not_the_geometric",
        "one_teacher_vetoes_a_class_in_the_geometric_mean_and_not_in_the_arithmetic",
        "the_gradient_is_that_of_the_average_and_the_gap_is_the_jensen_shannon_divergence",
    ),
)
def logits_averaged(
    teacher_logits: Tensor, *, weights: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    """The geometric mean, where the ensemble's prediction was meant."""
    return (right_logits(teacher_logits, weights=weights) / temperature).softmax(dim=-1)


@exhibit(
    replaces=PROBABILITIES,
    seen_in="a likely slip: the average goes through softmax again",
    killed_by=killed_by("all_match_their_definitions", "known_values_of_a_sure_teacher_and_a_clueless_one"),
)
def softened_twice(
    teacher_logits: Tensor, *, weights: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    """Probabilities taken for logits: at temperature 4 nearly uniform, whatever the teachers say."""
    average = right_probabilities(teacher_logits, weights=weights, temperature=temperature)
    return (average / temperature).softmax(dim=-1)


@exhibit(
    replaces=PROBABILITIES,
    seen_in="a likely slip: the temperature divides the mean, not the logits",
    killed_by=killed_by("all_match_their_definitions[equal-4.0]"),
)
def softened_after_averaging(
    teacher_logits: Tensor, *, weights: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    """Powers of the averaged probabilities: right at temperature 1 only."""
    average = right_probabilities(teacher_logits, weights=weights) ** (1 / temperature)
    return average / average.sum(dim=-1, keepdim=True)


@exhibit(
    replaces=LOGITS,
    seen_in="a likely slip: sum(teacher(x) for teacher in teachers)",
    killed_by=killed_by("all_match_their_definitions", "average_logits_are_the_normalised_geometric_mean"),
)
def summed(teacher_logits: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """K times the mean: the more teachers, the surer."""
    return len(teacher_logits) * right_logits(teacher_logits, weights=weights)


@exhibit(
    replaces=LOGITS,
    seen_in="a likely slip: an ensemble that returns probabilities, used as one that returns logits",
    killed_by=killed_by("all_match_their_definitions", "one_teacher_is_plain_distillation"),
)
def probabilities_for_logits(teacher_logits: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Whoever takes the result for logits softens it a second time."""
    return right_probabilities(teacher_logits, weights=weights)


@exhibit(
    replaces=LOGITS,
    seen_in="a likely slip: .mean(dim=0) stays when weights come",
    killed_by=killed_by("a_teacher_of_weight_zero_is_not_heard"),
)
def weights_forgotten(teacher_logits: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Equal weights, whatever was asked for."""
    return right_logits(teacher_logits)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: an ensemble as one teacher, by the mean of its logits",
    killed_by=killed_by(
        "all_match_their_definitions",
        "the_gradient_is_that_of_the_average_and_the_gap_is_the_jensen_shannon_divergence",
        "a_tiny_student_learns_the_average_of_tiny_teachers",
    ),
)
def against_averaged_logits(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Another target: the geometric mean, in which one teacher can veto a class."""
    one = right_logits(teacher_logits, weights=weights)
    return right_loss(student_logits, one[None], temperature=temperature)


@exhibit(
    replaces=LOSS,
    seen_in="PITFALLS 21: the teachers' forward pass outside no_grad, and no detach",
    killed_by=killed_by("the_gradient_reaches_the_student_only"),
)
def teachers_not_detached(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """The teachers are trained to agree with their student."""
    log_q, log_p = ((wide(x) / temperature).log_softmax(dim=-1) for x in (student_logits, teacher_logits))
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1, keepdim=True)
    return (shares(weights, log_p) * divergence).sum(dim=0).mean() * temperature**2


@exhibit(
    replaces=LOSS,
    seen_in="Rorozhl/CA-MKD, helper/loops.py: weights that sum to 1, and a division by teacher_num",
    killed_by=killed_by("all_match_their_definitions", "a_teacher_of_weight_zero_is_not_heard"),
)
def divided_by_the_number_of_teachers_again(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """K times too small: the more teachers, the less they count beside the labels."""
    return right_loss(student_logits, teacher_logits, weights=weights, temperature=temperature) / len(teacher_logits)


@exhibit(
    replaces=LOSS,
    seen_in="PITFALLS 1: nn.KLDivLoss() with its default reduction",
    killed_by=killed_by("one_teacher_is_plain_distillation", "known_values_of_a_sure_teacher_and_a_clueless_one"),
)
def mean_over_classes(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """C times too small."""
    loss = right_loss(student_logits, teacher_logits, weights=weights, temperature=temperature)
    return loss / student_logits.shape[-1]


@exhibit(
    replaces=LOSS,
    seen_in="PITFALLS 2 (keras-io #869)",
    killed_by=killed_by("the_gradient_of_one_example_is_that_of_soft_targets[4.0]"),
)
def without_the_square_of_the_temperature(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """The gradient falls as 1/τ²."""
    return right_loss(student_logits, teacher_logits, weights=weights, temperature=temperature) / temperature**2


@exhibit(
    replaces=LOSS,
    seen_in="PITFALLS 8 (keras-io #257): student and teacher swapped",
    killed_by=killed_by("all_match_their_definitions", "known_values_of_a_sure_teacher_and_a_clueless_one"),
)
def reversed_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """KL(q ‖ p_k): its minimum is the geometric mean, not the arithmetic."""
    log_q, log_p = ((wide(x) / temperature).log_softmax(dim=-1) for x in (student_logits, teacher_logits.detach()))
    divergence = (log_q.exp() * (log_q - log_p)).sum(dim=-1, keepdim=True)
    return (shares(weights, log_p) * divergence).sum(dim=0).mean() * temperature**2


@exhibit(
    replaces=LOSS,
    seen_in="PITFALLS 15, and Rorozhl/CA-MKD's entropy",
    killed_by=killed_by("extreme_logits_stay_finite[10000.0]"),
)
def log_of_softmax(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    weights: Tensor | None = None,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """The log of a probability that underflowed is -inf, and 0 times it NaN."""
    q, p = ((wide(x) / temperature).softmax(dim=-1) for x in (student_logits, teacher_logits.detach()))
    divergence = (p * (p.log() - q.log())).sum(dim=-1, keepdim=True)
    return (shares(weights, p) * divergence).sum(dim=0).mean() * temperature**2


@exhibit(
    replaces=DISAGREEMENT,
    seen_in="a likely slip: the mean divergence of all pairs of teachers",
    killed_by=killed_by(
        "disagreement_is_the_entropy_that_averaging_adds",
        "disagreement_is_at_most_log_of_the_number_of_teachers",
    ),
)
def divergence_of_pairs(teacher_logits: Tensor) -> Tensor:
    """Unbounded: two sure teachers outweigh the rest of the batch."""
    log_p = wide(teacher_logits.detach()).log_softmax(dim=-1)
    return (log_p.exp()[:, None] * (log_p[:, None] - log_p)).sum(dim=-1).mean(dim=(0, 1))


@exhibit(
    replaces=DISAGREEMENT,
    seen_in="a likely slip: the mean of log-probabilities for the log of their mean",
    killed_by=killed_by("disagreement_is_the_entropy_that_averaging_adds"),
)
def from_the_geometric_mean(teacher_logits: Tensor) -> Tensor:
    """No Jensen-Shannon divergence, and not the gap of the losses."""
    log_p = wide(teacher_logits.detach()).log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_p.mean(dim=0).log_softmax(dim=-1))).sum(dim=-1).mean(dim=0)


@exhibit(
    replaces=DISAGREEMENT,
    seen_in="a likely slip: scaled to [0, 1], and no longer in nats",
    killed_by=killed_by(
        "known_values_of_a_sure_teacher_and_a_clueless_one", "disagreement_is_the_entropy_that_averaging_adds"
    ),
)
def share_of_the_maximum(teacher_logits: Tensor) -> Tensor:
    """Divided by log K, so it is not the gap of the losses, and one teacher gives 0/0."""
    return right_disagreement(teacher_logits) / math.log(len(teacher_logits))


@exhibit(
    replaces=DISAGREEMENT,
    seen_in="Rorozhl/CA-MKD, helper/loops.py: p * log(p)",
    killed_by=killed_by("extreme_logits_stay_finite[10000.0]"),
)
def zero_times_minus_infinity(teacher_logits: Tensor) -> Tensor:
    """The entropy of a sure teacher is NaN."""
    p = F.softmax(wide(teacher_logits.detach()), dim=-1)
    average = p.mean(dim=0)
    return (p * p.log()).sum(dim=-1).mean(dim=0) - (average * average.log()).sum(dim=-1)


@exhibit(
    replaces=LOGITS,
    seen_in="kdref 0.1, and any weighted sum: 0 · -∞",
    killed_by=("heart/multi_teacher/test_input.py::test_a_teacher_of_weight_zero_vetoes_nothing",),
)
def silenced_and_still_heard(teacher_logits: Tensor, *, weights: Tensor | None = None, class_dim: int = -1) -> Tensor:
    """A teacher of weight 0 that lacks a class makes it NaN for all."""
    return (shares(weights, wide(teacher_logits.detach())) * wide(teacher_logits.detach())).sum(dim=0)
