"""Wrong versions of learning from an earlier self."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import self_distillation
from tests.museum import exhibit

RIDGE = "kdref.self_distillation.ridge:ridge_self_distillation"
CONFIDENCE, PERMUTED, TARGETS, WEIGHT = (
    f"kdref.self_distillation.generations:{name}"
    for name in ("confidence_weighted_loss", "permuted_dark_knowledge", "progressive_targets", "progressive_weight")
)
right_ridge, right_targets, right_permuted = (
    self_distillation.ridge_self_distillation,
    self_distillation.progressive_targets,
    self_distillation.permuted_dark_knowledge,
)  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_generations.py::test_{test}" for test in tests)


def killed_by_ridge(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_ridge.py::test_{test}" for test in tests)


@exhibit(
    replaces=RIDGE,
    seen_in="a likely slip: the penalty added to a matrix that has it already",
    killed_by=killed_by_ridge("known_value_of_two_examples", "each_round_is_the_minimum_of_its_ridge_problem"),
)
def penalty_twice(gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0) -> Tensor:
    """(G + 2cI)⁻¹: over-regularised from the first round on."""
    return right_ridge(gram, targets, penalty=2 * penalty, rounds=rounds, label_weight=label_weight)


@exhibit(
    replaces=RIDGE,
    seen_in="a likely slip: the penalty of a mean of squares used with their sum",
    killed_by=killed_by_ridge(
        "without_labels_round_t_is_the_power_t_of_the_shrinkage",
        "with_labels_it_converges_to_ridge_with_a_larger_penalty",
    ),
)
def penalty_times_examples(
    gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0
) -> Tensor:
    """N times too large: the best penalty depends on how many examples there are."""
    return right_ridge(gram, targets, penalty=len(gram) * penalty, rounds=rounds, label_weight=label_weight)


@exhibit(
    replaces=RIDGE,
    seen_in="PITFALLS 22: the teacher's outputs computed once, and never again",
    killed_by=killed_by_ridge(
        "without_labels_round_t_is_the_power_t_of_the_shrinkage",
        "without_labels_everything_vanishes_small_eigenvalues_first",
    ),
)
def always_from_the_first_round(
    gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0
) -> Tensor:
    """Every generation learns from the first: nothing changes after the second round."""
    first = right_ridge(gram, targets, penalty=penalty, rounds=1)[0]
    mixed = (1 - label_weight) * first + label_weight * targets
    second = right_ridge(gram, mixed, penalty=penalty, rounds=1)[0]
    return torch.stack([first, *[second] * (rounds - 1)])


@exhibit(
    replaces=RIDGE,
    seen_in="a likely slip: libraries weigh the labels, or the teacher, with the same letter",
    killed_by=killed_by_ridge(
        "each_round_is_the_minimum_of_its_ridge_problem", "full_labels_are_ridge_regression_in_every_round"
    ),
)
def weights_swapped(gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0) -> Tensor:
    """The label's weight given to the teacher."""
    return right_ridge(gram, targets, penalty=penalty, rounds=rounds, label_weight=1 - label_weight)


@exhibit(
    replaces=RIDGE,
    seen_in="a likely slip: the count of rounds starts at the labels",
    killed_by=killed_by_ridge("known_value_of_two_examples", "without_labels_round_t_is_the_power_t_of_the_shrinkage"),
)
def labels_as_round_one(
    gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0
) -> Tensor:
    """Off by one: round 1 is no fit."""
    fits = right_ridge(gram, targets, penalty=penalty, rounds=rounds, label_weight=label_weight)
    return torch.cat([targets.to(fits.dtype)[None], fits[:-1]])


def weighted(student: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    return (F.cross_entropy(student.to(dtype), labels, reduction="none") * weights.to(dtype)).sum()


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: weights that don't sum to 1",
    killed_by=killed_by("confidence_weighting_matches_the_definition", "equal_confidence_is_plain_cross_entropy"),
)
def mean_of_weighted_terms(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """An unsure teacher lowers the learning rate of the whole batch."""
    sure = teacher_logits.detach().softmax(dim=-1).amax(dim=-1)
    return weighted(student_logits, labels, sure / len(sure))


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: the probability of the label for that of the first choice",
    killed_by=killed_by(
        "confidence_weighting_matches_the_definition",
        "which_wrong_class_the_teacher_finds_likely_does_not_matter_to_confidence",
    ),
)
def probability_of_the_label(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Another ablation: examples that the teacher gets wrong lose their weight."""
    right = teacher_logits.detach().softmax(dim=-1).gather(1, labels[:, None])[:, 0]
    return weighted(student_logits, labels, right / right.sum())


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: the largest logit for the largest probability",
    killed_by=killed_by(
        "known_value_of_a_sure_and_an_unsure_teacher", "confidence_ignores_shifts_and_the_order_of_the_batch"
    ),
)
def largest_logit(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """A constant added to the teacher's logits changes the weights, even their sign."""
    top = teacher_logits.detach().amax(dim=-1)
    return weighted(student_logits, labels, top / top.sum())


@exhibit(
    replaces=CONFIDENCE,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("confidence_gradient_reaches_the_student_only"),
)
def teacher_not_detached(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The teacher learns to be sure where the student is right."""
    sure = teacher_logits.softmax(dim=-1).amax(dim=-1)
    return weighted(student_logits, labels, sure / sure.sum())


@exhibit(
    replaces=PERMUTED,
    seen_in="a likely slip: all classes shuffled",
    killed_by=killed_by("the_permutation_keeps_the_first_choice_and_the_values"),
)
def first_choice_shuffled_too(teacher_logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """The teacher is wrong C - 1 times of C."""
    keys = torch.rand(teacher_logits.shape, generator=generator)
    return teacher_logits.detach().gather(-1, keys.argsort(dim=-1))


@exhibit(
    replaces=PERMUTED,
    seen_in="a likely slip: one permutation for the batch",
    killed_by=killed_by("every_permutation_of_the_others_is_equally_likely_and_examples_differ"),
)
def one_permutation_for_all(teacher_logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Classes get other names, and stay as alike as they were."""
    logits = teacher_logits.detach()
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    keys = torch.rand(logits.shape[-1], generator=generator).expand(logits.shape)
    places = torch.arange(logits.shape[-1]).expand(logits.shape)
    sources, slots = (x.masked_fill(first, -1).argsort(dim=-1) for x in (keys, places))
    return torch.empty_like(logits).scatter_(-1, slots, logits.gather(-1, sources))


@exhibit(
    replaces=PERMUTED,
    seen_in="a likely slip: neighbours exchanged instead of shuffled",
    killed_by=killed_by("every_permutation_of_the_others_is_equally_likely_and_examples_differ"),
)
def rolled(teacher_logits: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Always the same cycle: a fixed relabelling can be learned."""
    logits = teacher_logits.detach()
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    slots = torch.arange(logits.shape[-1]).expand(logits.shape).masked_fill(first, -1).argsort(dim=-1)
    sources = torch.cat([slots[..., :1], slots[..., 1:].roll(1, dims=-1)], dim=-1)
    return torch.empty_like(logits).scatter_(-1, slots, logits.gather(-1, sources))


@exhibit(
    replaces=TARGETS,
    seen_in="a likely slip: alpha weighs the labels in half of the libraries",
    killed_by=killed_by("known_value_of_progressive_targets", "limits_of_progressive_targets"),
)
def progressive_weights_swapped(previous_logits: Tensor, labels: Tensor, *, weight: float) -> Tensor:
    """Labels count for nothing at the start, when the network knows nothing."""
    return right_targets(previous_logits, labels, weight=1 - weight)


@exhibit(
    replaces=TARGETS,
    seen_in="a likely slip: logits mixed with a one-hot label",
    killed_by=killed_by("known_value_of_progressive_targets", "limits_of_progressive_targets"),
)
def logits_for_probabilities(previous_logits: Tensor, labels: Tensor, *, weight: float) -> Tensor:
    """Targets that don't sum to 1, and may be negative."""
    dtype = torch.promote_types(previous_logits.dtype, torch.float32)
    return weight * previous_logits.detach().to(dtype) + (1 - weight) * F.one_hot(labels, previous_logits.shape[-1])


@exhibit(
    replaces=TARGETS,
    seen_in="PITFALLS 21: the earlier self is part of the graph",
    killed_by=killed_by("progressive_targets_are_constants_in_every_precision"),
)
def targets_with_a_gradient(previous_logits: Tensor, labels: Tensor, *, weight: float) -> Tensor:
    """The targets move towards the prediction."""
    previous = previous_logits.to(torch.promote_types(previous_logits.dtype, torch.float32)).softmax(dim=-1)
    return weight * previous + (1 - weight) * F.one_hot(labels, previous.shape[-1]).to(previous.dtype)


@exhibit(
    replaces=WEIGHT,
    seen_in="a likely slip: epochs counted from 0, as in the loop",
    killed_by=killed_by("the_schedule_grows_in_proportion_to_the_epoch"),
)
def counted_from_zero(*, epoch: int, epochs: int, final_weight: float = 0.8) -> float:
    """The last epoch never reaches the final weight."""
    return final_weight * (epoch - 1) / epochs


@exhibit(
    replaces=WEIGHT,
    seen_in="a likely slip: the schedule forgotten",
    killed_by=killed_by("the_schedule_grows_in_proportion_to_the_epoch"),
)
def constant_weight(*, epoch: int, epochs: int, final_weight: float = 0.8) -> float:
    """Full trust in a network that has seen one epoch."""
    return final_weight


@exhibit(
    replaces=CONFIDENCE,
    seen_in="kdref 0.1: a matrix product of losses and weights, which autocast rounds",
    killed_by=("heart/self_distillation/test_input.py::test_confidence_stays_in_float32_under_autocast",),
)
def product_under_autocast(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The loss comes out in bfloat16, with three digits."""
    sure = teacher_logits.detach().softmax(dim=-1).amax(dim=-1)
    return F.cross_entropy(student_logits, labels, reduction="none") @ (sure / sure.sum())


@exhibit(
    replaces=RIDGE,
    seen_in="kdref 0.1: the equations solved in the precision of the Gram matrix",
    killed_by=(
        "heart/self_distillation/test_input.py::"
        "test_a_huge_gram_matrix_beside_a_small_penalty_is_solved_in_float32_too",
    ),
)
def solved_in_float32(
    gram: Tensor, targets: Tensor, *, penalty: float, rounds: int, label_weight: float = 0.0
) -> Tensor:
    """-32,768 for -3,443: eigenvalues ten million apart leave float32 no digit."""
    factor, pivots = torch.linalg.lu_factor(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
    fits = [gram @ torch.linalg.lu_solve(factor, pivots, targets)]
    for _ in range(rounds - 1):
        mixed = (1 - label_weight) * fits[-1] + label_weight * targets
        fits.append(gram @ torch.linalg.lu_solve(factor, pivots, mixed))
    return torch.stack(fits)
