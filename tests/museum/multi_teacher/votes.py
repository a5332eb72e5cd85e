"""Wrong versions of the weights of teachers and of their votes on triplets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.multi_teacher import triplets
from tests.museum import exhibit

CONFIDENCE, ENTROPY = (f"kdref.multi_teacher.weights:{name}" for name in ("confidence_weights", "entropy_weights"))
TRIPLETS = "kdref.multi_teacher.triplets:triplet_dissimilarity_loss"
right_triplets = triplets.triplet_dissimilarity_loss


def weights_killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/multi_teacher/test_weights.py::test_{test}" for test in tests)


def triplets_killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/multi_teacher/test_triplets.py::test_{test}" for test in tests)


def surprise(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    return torch.stack([F.cross_entropy(row, labels, reduction="none") for row in z])


def lengths(rows: Tensor) -> Tensor:
    """Right distances, with a finite gradient."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    squared = (rows[None] - rows[:, None]).square().sum(dim=2)
    return squared.masked_fill(squared == 0, 1.0).sqrt().masked_fill(squared == 0, 0.0)


def nearer_by(teacher_distances: Tensor) -> Tensor:
    """At (i, j, k): j is nearer to i than k is, and all three differ."""
    distinct = ~torch.eye(len(teacher_distances), dtype=torch.bool)
    gap = teacher_distances[:, None, :] - teacher_distances[:, :, None]
    return (gap > 1e-6) & distinct[:, :, None] & distinct[:, None] & distinct[None]


def hinge(student: Tensor, decided: Tensor, margin: float) -> Tensor:
    gaps = (student[:, :, None] - student[:, None, :] + margin).clamp(min=0) * decided
    return gaps.sum() / decided.sum().clamp(min=1)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: softmax over the losses, where it should be over minus the losses",
    killed_by=weights_killed_by(
        "both_match_their_definitions", "known_values", "confidence_rewards_the_teacher_that_is_right"
    ),
)
def rewards_the_wrong_teacher(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The larger a teacher's cross-entropy, the larger its weight."""
    return surprise(teacher_logits, labels).softmax(dim=0)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="Rorozhl/CA-MKD, helper/loops.py and distiller_zoo/CAMKD.py: / (teacher_num - 1)",
    killed_by=weights_killed_by("one_teacher_gets_everything", "weights_sum_to_one_and_stay_in_range"),
)
def one_teacher_gets_nan(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """0/0 for a single teacher."""
    return (1 - surprise(teacher_logits, labels).softmax(dim=0)) / torch.tensor(len(teacher_logits) - 1.0)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: the axis of the teachers taken for that of the examples",
    killed_by=weights_killed_by("weights_sum_to_one_and_stay_in_range", "both_match_their_definitions"),
)
def normalised_over_the_batch(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Weights sum to 1 over examples, and depend on the rest of the batch."""
    return (-surprise(teacher_logits, labels)).softmax(dim=1)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: 'confidence' read as the largest probability",
    killed_by=weights_killed_by(
        "entropy_rewards_the_teacher_that_is_sure_even_if_it_is_wrong", "both_match_their_definitions"
    ),
)
def sure_instead_of_right(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """The label is not looked at, so a teacher that is sure and wrong gets the most."""
    largest = teacher_logits.softmax(dim=-1).amax(dim=-1)
    return largest / largest.sum(dim=0)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="a likely slip: softmax of minus the losses, the same for two teachers only",
    killed_by=weights_killed_by("known_values", "the_worst_of_three_is_shut_out_and_the_other_two_are_not_told_apart"),
)
def softmax_of_the_negative(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Not CA-MKD: it picks the best teacher out, where the paper's only shuts out the worst."""
    return (-surprise(teacher_logits, labels)).softmax(dim=0)


@exhibit(
    replaces=ENTROPY,
    seen_in="a likely slip: the sign of the entropy",
    killed_by=weights_killed_by("known_values", "entropy_rewards_the_teacher_that_is_sure_even_if_it_is_wrong"),
)
def rewards_the_clueless(teacher_logits: Tensor) -> Tensor:
    """The flatter a prediction, the larger its weight."""
    log_p = teacher_logits.detach().log_softmax(dim=-1)
    return (-(log_p.exp() * log_p).sum(dim=-1)).softmax(dim=0)


@exhibit(
    replaces=ENTROPY,
    seen_in="Rorozhl/CA-MKD, helper/loops.py, EBKD: 1 - entropy / entropy_sum",
    killed_by=weights_killed_by("weights_sum_to_one_and_stay_in_range", "one_teacher_gets_everything"),
)
def sum_to_one_less_than_the_teachers(teacher_logits: Tensor) -> Tensor:
    """The weights sum to K - 1, and a single teacher gets 0."""
    log_p = teacher_logits.detach().log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    return 1 - entropy / entropy.sum(dim=0)


@exhibit(
    replaces=ENTROPY,
    seen_in="Rorozhl/CA-MKD, helper/loops.py: softmax * log(softmax)",
    killed_by=weights_killed_by("extreme_logits_stay_finite[dtype0-10000.0]"),
)
def zero_times_minus_infinity(teacher_logits: Tensor) -> Tensor:
    """PITFALLS 15: a sure teacher's entropy is NaN, and all weights with it."""
    p = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32)).softmax(dim=-1)
    return (p * p.log()).sum(dim=-1).softmax(dim=0)


@exhibit(
    replaces=TRIPLETS,
    seen_in="a likely slip: the teachers' distances are averaged instead of their votes",
    killed_by=triplets_killed_by("the_majority_decides_however_loud_the_minority_is", "matches_the_definition[3-1.0]"),
)
def the_loudest_decides(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """A teacher with large features outvotes all others."""
    teachers = torch.stack([lengths(rows) for rows in teacher_embeddings.detach()]).mean(dim=0)
    return hinge(lengths(student_embeddings), nearer_by(teachers), margin)


@exhibit(
    replaces=TRIPLETS,
    seen_in="a likely slip: positive and negative swapped",
    killed_by=triplets_killed_by(
        "known_values_of_three_points_on_a_line",
        "zero_where_the_student_keeps_the_teachers_order_by_the_margin",
    ),
)
def order_reversed(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """What the teachers find near is pushed away."""
    votes = sum(nearer_by(lengths(rows)).int() for rows in teacher_embeddings.detach())
    decided = (votes > votes.transpose(1, 2)).transpose(1, 2)
    return hinge(lengths(student_embeddings), decided, margin)


@exhibit(
    replaces=TRIPLETS,
    seen_in="a likely slip: an example among its own neighbours",
    killed_by=triplets_killed_by("matches_the_definition[1-1.0]", "known_values_of_three_points_on_a_line"),
)
def anchor_is_its_own_neighbour(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """Distances of 0 to itself are the easiest triplets of all, and dilute the mean."""
    teachers = [lengths(rows) for rows in teacher_embeddings.detach()]
    votes = sum((d[:, None, :] > d[:, :, None]).int() - (d[:, None, :] < d[:, :, None]).int() for d in teachers)
    return hinge(lengths(student_embeddings), votes > 0, margin)


@exhibit(
    replaces=TRIPLETS,
    seen_in="a likely slip: .mean() over the masked hinge",
    killed_by=triplets_killed_by("matches_the_definition[3-1.0]", "a_collapsed_student_pays_the_margin"),
)
def divided_by_all_triples(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """Triplets without a decision shrink the loss."""
    votes = sum(nearer_by(lengths(rows)).int() for rows in teacher_embeddings.detach())
    decided = votes > votes.transpose(1, 2)
    return hinge(lengths(student_embeddings), decided, margin) * decided.double().mean()


@exhibit(
    replaces=TRIPLETS,
    seen_in="PITFALLS 24: return torch.tensor(0.) when nothing is left",
    killed_by=triplets_killed_by("where_the_vote_ties_a_triplet_does_not_count"),
)
def constant_without_a_decision(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """No gradient path in a batch on which the teachers are in balance."""
    loss = right_triplets(student_embeddings, teacher_embeddings, margin=margin)
    return loss if loss > 0 else torch.tensor(0.0)


@exhibit(
    replaces=TRIPLETS,
    seen_in="PITFALLS 16: the root of a squared distance of 0",
    killed_by=triplets_killed_by("a_collapsed_student_pays_the_margin", "extreme_embeddings_stay_finite"),
)
def root_at_zero(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """Equal rows send NaN back."""
    rows = student_embeddings.to(torch.promote_types(student_embeddings.dtype, torch.float32))
    votes = sum(nearer_by(lengths(others)).int() for others in teacher_embeddings.detach())
    distances = (rows[None] - rows[:, None]).square().sum(dim=2).sqrt()
    return hinge(distances, votes > votes.transpose(1, 2), margin)


@exhibit(
    replaces=CONFIDENCE,
    seen_in="kdref 0.1: a softmax over cross-entropies, of which one is infinite",
    killed_by=(
        "heart/multi_teacher/test_input.py::test_a_teacher_who_gives_the_label_nothing_has_no_say",
        "heart/multi_teacher/test_input.py::test_every_function_passes[confidence_weights-check_missing_class]",
    ),
)
def infinity_less_infinity(teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """One teacher without the label's class gives all of them a weight of NaN."""
    count = len(teacher_logits)
    return (1 - surprise(teacher_logits, labels).softmax(dim=0)) / (count - 1) if count > 1 else torch.ones(1, 1)


@exhibit(
    replaces=TRIPLETS,
    seen_in="kdref 0.1: a NaN is neither nearer nor farther",
    killed_by=("heart/multi_teacher/test_input.py::test_triplets_hear_no_teacher_that_cannot_be_heard",),
)
def broken_teacher_is_dropped(student_embeddings: Tensor, teacher_embeddings: Tensor, *, margin: float) -> Tensor:
    """One teacher of three is lost, and nobody is told."""
    votes = sum(nearer_by(lengths(rows)).int() for rows in teacher_embeddings.detach())
    return hinge(lengths(student_embeddings), votes > votes.transpose(1, 2), margin)
