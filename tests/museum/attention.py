"""Wrong versions of attention transfer and of self-attention relations."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import attention
from tests.museum import exhibit

MAP, TRANSFER, DIVERGENCE, RELATION, SCORES = (
    f"kdref.attention:{name}"
    for name in (
        "attention_map",
        "attention_transfer_loss",
        "attention_relation_divergence",
        "value_relation",
        "attention_score_loss",
    )
)
right_map, right_transfer = attention.attention_map, attention.attention_transfer_loss  # as they were before any swap
right_divergence, right_relation = attention.attention_relation_divergence, attention.value_relation
right_scores = attention.attention_score_loss


def map_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/test_attention.py::test_{test}" for test in tests)


def relation_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/test_attention_relations.py::test_{test}" for test in tests)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def activity(maps: Tensor, power: float) -> Tensor:
    return at_least_float32(maps).abs().pow(power).sum(dim=1).flatten(1)


@exhibit(
    replaces=MAP,
    seen_in="a likely slip: x.pow(power) with an odd power",
    killed_by=map_tests("attention_map_matches_the_definition[1]", "known_values"),
)
def channels_cancel(features: Tensor, *, power: float = 2) -> Tensor:
    """Without the absolute value, positive and negative channels cancel."""
    return F.normalize(features.pow(power).sum(dim=1).flatten(1), dim=1)


@exhibit(
    replaces=MAP,
    seen_in="PITFALLS 5: the second argument of F.normalize is p",
    killed_by=map_tests("known_values", "attention_map_matches_the_definition[2]"),
)
def second_argument_is_p(features: Tensor, *, power: float = 2) -> Tensor:
    """Maps whose elements, not squares, sum to 1."""
    return F.normalize(activity(features, power), 1)


@exhibit(
    replaces=MAP,
    seen_in="a likely slip: softmax for a norm",
    killed_by=map_tests("attention_map_matches_the_definition[2]", "known_values"),
)
def softmax_over_places(features: Tensor, *, power: float = 2) -> Tensor:
    """Depends on the features' scale."""
    return activity(features, power).softmax(dim=1)


@exhibit(
    replaces=MAP,
    seen_in="a likely slip: fourth powers summed in float32",
    killed_by=map_tests("a_silent_student_gets_a_gradient_and_small_or_large_features_their_maps"),
)
def powers_of_powers(features: Tensor, *, power: float = 2) -> Tensor:
    """PITFALLS 17: the norm of a power squares it again; features of 1e15 overflow, those of 1e-15 vanish."""
    return F.normalize(activity(features, power), dim=1)


@exhibit(
    replaces=TRANSFER,
    seen_in="PITFALLS 6: the sum over places",
    killed_by=map_tests("known_values", "attention_transfer_matches_code_and_paper"),
)
def summed_over_places(student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True) -> Tensor:
    """H·W times the authors' loss, so that the weight of 1,000 is far too large."""
    places = math.prod(min(sizes) for sizes in zip(student_maps.shape[2:], teacher_maps.shape[2:], strict=True))
    return right_transfer(student_maps, teacher_maps, power=power, squared=squared) * places


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: the root of the squared distance",
    killed_by=map_tests("extreme_features_stay_finite"),
)
def root_at_agreement(student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True) -> Tensor:
    """PITFALLS 16: where the two agree the root's derivative is infinite."""
    if squared:
        return right_transfer(student_maps, teacher_maps, power=power)
    gap = right_map(student_maps, power=power) - right_map(teacher_maps.detach(), power=power)
    return gap.square().sum(dim=1).sqrt().mean()


@exhibit(
    replaces=TRANSFER,
    seen_in="HobbitLong/RepDistiller Attention: adaptive_avg_pool2d of the features",
    killed_by=map_tests("maps_of_other_sizes_are_averaged_after_the_channels_are_summed"),
)
def features_averaged_down(
    student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True
) -> Tensor:
    """Neighbouring activations of opposite sign cancel before they are squared."""
    size = [min(sizes) for sizes in zip(student_maps.shape[2:], teacher_maps.shape[2:], strict=True)]
    pool = F.adaptive_avg_pool2d if len(size) == 2 else F.adaptive_avg_pool1d
    return right_transfer(pool(student_maps, size), pool(teacher_maps, size), power=power, squared=squared)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: maps that are not brought to length 1",
    killed_by=map_tests("scale_sign_and_order_of_channels_are_forgotten", "known_values"),
)
def not_normalised(student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True) -> Tensor:
    """The student must also learn the teacher's scale."""
    return F.mse_loss(activity(student_maps, power), activity(teacher_maps.detach(), power))


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: one norm for the whole batch",
    killed_by=map_tests("attention_transfer_matches_code_and_paper"),
)
def batch_at_length_one(
    student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True
) -> Tensor:
    """Examples with large activations rule, and the paper's distance is not averaged."""
    sides = (activity(maps, power) for maps in (student_maps, teacher_maps.detach()))
    s, t = (side / side.norm() for side in sides)
    return F.mse_loss(s, t) if squared else (s - t).norm()


@exhibit(
    replaces=TRANSFER,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=map_tests("gradients_reach_the_student_only"),
)
def trains_the_teacher(student_maps: Tensor, teacher_maps: Tensor, *, power: float = 2, squared: bool = True) -> Tensor:
    """The teacher's map is not detached."""
    s, t = (F.normalize(activity(maps[..., :3], power), dim=1) for maps in (student_maps, teacher_maps))
    return F.mse_loss(s, t) if squared else (s - t).norm(dim=1).mean()


@exhibit(
    replaces=DIVERGENCE,
    seen_in="PITFALLS 1: reduction='mean'",
    killed_by=relation_tests("relation_divergence_matches_the_definition", "known_values"),
)
def mean_over_keys(student_attention: Tensor, teacher_attention: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Divided by the number of keys too: L times too small."""
    return right_divergence(student_attention, teacher_attention, mask=mask) / student_attention.shape[-1]


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: arguments of KL reversed",
    killed_by=relation_tests("relation_divergence_matches_the_definition", "known_values"),
)
def sides_swapped(student_attention: Tensor, teacher_attention: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 8: KL of the teacher from the student, with the gradient on the student."""
    q, p = (at_least_float32(x).clamp(min=1e-30) for x in (student_attention, teacher_attention.detach()))
    rows = (q * (q / p).log()).sum(dim=-1).flatten(1)
    return rows.mean(dim=1)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: log of attention that is exactly 0",
    killed_by=relation_tests("extreme_scores_and_certain_rows_stay_finite"),
)
def log_of_zero(student_attention: Tensor, teacher_attention: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 15: probabilities underflow to 0; then 0·log(0) is NaN."""
    q, p = at_least_float32(student_attention), at_least_float32(teacher_attention.detach())
    return (p * (p.log() - q.log())).sum(dim=-1).flatten(1).mean(dim=1)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="PITFALLS 25: padded rows in the mean",
    killed_by=relation_tests("relation_divergence_matches_the_definition", "more_padding_changes_nothing"),
)
def padding_counts(student_attention: Tensor, teacher_attention: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """The mask is taken and not used."""
    return right_divergence(student_attention, teacher_attention)


@exhibit(
    replaces=RELATION,
    seen_in="a likely slip: products of unscaled values",
    killed_by=relation_tests("value_relation_matches_the_definition", "known_values"),
)
def without_the_root_of_the_width(values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Wide teachers have sharper relations than narrow students can."""
    return right_relation(values * values.shape[-1] ** 0.25, mask=mask)


@exhibit(
    replaces=RELATION,
    seen_in="a likely slip: softmax along the wrong axis",
    killed_by=relation_tests(
        "value_relation_matches_the_definition", "relations_ignore_width_and_rotation_but_not_scale"
    ),
)
def columns_sum_to_one(values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Queries compete for a key, not keys for a query."""
    return (values @ values.mT / math.sqrt(values.shape[-1])).softmax(dim=-2)


@exhibit(
    replaces=RELATION,
    seen_in="PITFALLS 25: padding gets probability",
    killed_by=relation_tests("value_relation_matches_the_definition", "more_padding_changes_nothing"),
)
def masked_with_zero(values: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """A score of 0 for padding is a weight of exp(0) = 1."""
    scores = values @ values.mT / math.sqrt(values.shape[-1])
    return (scores if mask is None else scores * mask[:, None, None].to(scores.dtype)).softmax(dim=-1)


@exhibit(
    replaces=SCORES,
    seen_in="huawei-noah TinyBERT: scores of padding set to 0, the mean over all pairs",
    killed_by=relation_tests("score_loss_matches_the_definition", "more_padding_changes_nothing"),
)
def mean_over_padding_too(student_scores: Tensor, teacher_scores: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 25: the more padding in a batch, the lower the loss."""
    loss = right_scores(student_scores, teacher_scores, mask=mask)
    return loss if mask is None else loss * (mask[:, None] & mask[:, :, None]).double().mean()


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip: probabilities for scores",
    killed_by=relation_tests("score_loss_matches_the_definition", "known_values"),
)
def rows_after_the_softmax(student_scores: Tensor, teacher_scores: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 11: mean squared error of probabilities."""
    return right_scores(student_scores.softmax(-1), teacher_scores.softmax(-1), mask=mask)


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip: the sum over pairs of tokens",
    killed_by=relation_tests("score_loss_matches_the_definition", "known_values"),
)
def summed_over_pairs(student_scores: Tensor, teacher_scores: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 6: long sentences weigh more."""
    pairs = student_scores.shape[-1] * student_scores.shape[-2]
    return right_scores(student_scores, teacher_scores, mask=mask) * pairs
