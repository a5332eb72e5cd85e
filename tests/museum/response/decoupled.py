"""Wrong versions of decoupled and of normalised distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.response import decoupled, normalized
from tests.museum import exhibit

TARGET, NONTARGET, DKD = (
    f"kdref.response.decoupled:{name}" for name in ("target_class_divergence", "nontarget_class_divergence", "dkd_loss")
)
NKD = "kdref.response.normalized:nkd_loss"
right_target, right_nontarget = decoupled.target_class_divergence, decoupled.nontarget_class_divergence
right_dkd, right_nkd = decoupled.dkd_loss, normalized.nkd_loss  # as they were before any swap


def softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    return (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).softmax(dim=-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(dim=-1)


@exhibit(
    replaces=TARGET,
    seen_in="megvii-research/mdistiller, DKD.py, and its copies: torch.log of summed softmax probabilities",
    killed_by=(
        "heart/response/test_decoupled.py::test_extreme_logits_stay_finite[60.0]",
        "heart/response/test_decoupled.py::test_extreme_logits_stay_finite[10000.0]",
    ),
)
def log_of_summed_softmax(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """PITFALLS 15: probabilities are summed, then logged; at logits of 60 the loss is infinite, the gradient NaN."""
    q, p = (softened(z, temperature).gather(1, labels[:, None])[:, 0] for z in (s, t.detach()))
    return p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())


@exhibit(
    replaces=TARGET,
    seen_in="a likely slip: only the label's term of the two-class divergence",
    killed_by=(
        "heart/response/test_decoupled.py::test_both_parts_match_the_definition",
        "heart/response/test_decoupled.py::test_divergences_are_zero_where_they_agree_and_positive_elsewhere",
    ),
)
def one_of_two_terms(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """p log(p/q) alone may be negative."""
    q, p = (softened(z, temperature).gather(1, labels[:, None])[:, 0] for z in (s, t.detach()))
    return p * (p.log() - q.log())


@exhibit(
    replaces=TARGET,
    seen_in="PITFALLS 8 (keras-team/keras-io #257)",
    killed_by=("heart/response/test_decoupled.py::test_known_values_of_three_classes",),
)
def target_sides_swapped(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """KL of the teacher from the student, with the gradient still on the student."""
    q, p = (softened(z, temperature).gather(1, labels[:, None]) for z in (s, t.detach()))
    return kl(torch.cat([q, 1 - q], 1), torch.cat([p, 1 - p], 1))


@exhibit(
    replaces=TARGET,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=("heart/response/test_decoupled.py::test_gradients_reach_the_student_only",),
)
def target_trains_the_teacher(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The teacher is not detached."""
    q, p = (softened(z, temperature).gather(1, labels[:, None]) for z in (s, t))
    return kl(torch.cat([p, 1 - p], 1), torch.cat([q, 1 - q], 1))


@exhibit(
    replaces=NONTARGET,
    seen_in="megvii-research/mdistiller DKD and its copies",
    killed_by=("heart/response/test_decoupled.py::test_extreme_logits_stay_finite[10000.0]",),
)
def masked_with_minus_1000(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """A target of 10,000 is still the largest after 1,000 is taken from it; then log(softmax) of the others is -inf."""
    mask = 1000.0 * F.one_hot(labels, s.shape[1])
    return kl(*(softened(z - mask * temperature, temperature) for z in (t.detach(), s)))


@exhibit(
    replaces=NONTARGET,
    seen_in="a likely slip: a mask of zeros on logits leaves the weight exp(0) = 1",
    killed_by=(
        "heart/response/test_decoupled.py::test_both_parts_match_the_definition",
        "heart/response/test_decoupled.py::test_a_shift_of_the_logits_changes_nothing",
    ),
)
def masked_with_zero(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The target's logit is set to 0 instead of leaving the softmax."""
    keep = 1 - F.one_hot(labels, s.shape[1])
    return kl(*(softened(z * keep, temperature) for z in (t.detach(), s)))


@exhibit(
    replaces=NONTARGET,
    seen_in="a likely slip: the rest of the full softmax",
    killed_by=(
        "heart/response/test_decoupled.py::test_the_parts_add_up_to_the_divergence",
        "heart/response/test_decoupled.py::test_the_nontarget_part_ignores_the_targets_logit",
    ),
)
def not_normalised_again(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The others' probabilities do not sum to 1, so it is no divergence and the target leaks in."""
    q, p = softened(s, temperature), softened(t.detach(), temperature)
    return (p * (p.log() - q.log())).scatter(1, labels[:, None], 0.0).sum(dim=-1)


@exhibit(
    replaces=NONTARGET,
    seen_in="a likely slip: right until the teacher errs",
    killed_by=("heart/response/test_decoupled.py::test_both_parts_match_the_definition",),
)
def without_the_teachers_choice(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The teacher's first class is left out where the label should be."""
    return right_nontarget(s, t, t.argmax(dim=1), temperature=temperature)


@exhibit(
    replaces=NONTARGET,
    seen_in="PITFALLS 1: reduction='mean'",
    killed_by=(
        "heart/response/test_decoupled.py::test_known_values_of_three_classes",
        "heart/response/test_decoupled.py::test_both_parts_match_the_definition",
    ),
)
def nontarget_mean_over_classes(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Divided by the C - 1 other classes."""
    return right_nontarget(s, t, labels, temperature=temperature) / (s.shape[1] - 1)


@exhibit(
    replaces=DKD,
    seen_in="PITFALLS 2: keras-team/keras-io #869",
    killed_by=(
        "heart/response/test_decoupled.py::test_dkd_matches_the_definition",
        "heart/response/test_decoupled.py::test_dkd_with_the_coupled_weight_is_plain_distillation[4.0]",
    ),
)
def dkd_without_the_square(
    s: Tensor, t: Tensor, labels: Tensor, *, temperature: float | Tensor = 4.0, **weights: float
) -> Tensor:
    """τ² is missing."""
    return right_dkd(s, t, labels, temperature=temperature, **weights) / temperature**2


@exhibit(
    replaces=DKD,
    seen_in="a likely slip: alpha and beta in the wrong order",
    killed_by=(
        "heart/response/test_decoupled.py::test_dkd_matches_the_definition",
        "heart/response/test_decoupled.py::test_dkd_has_value_and_gradient_of_the_two_mask_form",
    ),
)
def dkd_weights_swapped(
    s: Tensor,
    t: Tensor,
    labels: Tensor,
    *,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """The target part gets the large weight."""
    return right_dkd(
        s, t, labels, target_weight=nontarget_weight, nontarget_weight=target_weight, temperature=temperature
    )


@exhibit(
    replaces=DKD,
    seen_in="a likely slip: the coupling that DKD is there to undo",
    killed_by=(
        "heart/response/test_decoupled.py::test_weights_may_differ_per_example_and_zero_drops_a_part",
        "heart/response/test_decoupled.py::test_dkd_matches_the_definition",
    ),
)
def still_coupled(
    s: Tensor,
    t: Tensor,
    labels: Tensor,
    *,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """The non-target part keeps its 1 - p_y."""
    coupled = 1 - softened(t, temperature).gather(1, labels[:, None])[:, 0]
    return right_dkd(
        s, t, labels, target_weight=target_weight, nontarget_weight=nontarget_weight * coupled, temperature=temperature
    )


@exhibit(
    replaces=DKD,
    seen_in="a likely slip: the mean of products is not the product of means",
    killed_by=(
        "heart/response/test_decoupled.py::test_weights_may_differ_per_example_and_zero_drops_a_part",
        "heart/response/test_decoupled.py::test_dkd_with_the_coupled_weight_is_plain_distillation[1.0]",
    ),
)
def weights_after_the_mean(
    s: Tensor,
    t: Tensor,
    labels: Tensor,
    *,
    target_weight: float = 1.0,
    nontarget_weight: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Each part is averaged before its per-example weights are."""
    target, nontarget = (f(s, t, labels, temperature=temperature).mean() for f in (right_target, right_nontarget))
    return (target_weight * target + nontarget_weight * nontarget).mean() * temperature**2


@exhibit(
    replaces=NKD,
    seen_in="yzd-v/cls_KD, nkd.py at 1c2c0ff: a mask of ones with ones scattered into it",
    killed_by=("heart/response/test_normalized.py::test_nkd_matches_the_definition",),
)
def target_not_left_out(
    s: Tensor, t: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """The target stays among the non-target classes and counts twice."""
    p = softened(t.detach(), 1.0).gather(1, labels[:, None])[:, 0]
    soft = F.cross_entropy(s / temperature, softened(t.detach(), temperature))
    return (p * F.cross_entropy(s, labels, reduction="none")).mean() + soft_weight * temperature**2 * soft


@exhibit(
    replaces=NKD,
    seen_in="yzd-v/cls_KD #13: log and softmax one after the other",
    killed_by=("heart/response/test_decoupled.py::test_extreme_logits_stay_finite[10000.0]",),
)
def nkd_log_of_softmax(
    s: Tensor, t: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """PITFALLS 15: 0 · log 0 is NaN."""
    others = F.one_hot(labels, s.shape[1]).logical_not()
    q, p = softened(s, 1.0), softened(t.detach(), 1.0)
    target = (p * q.log()).gather(1, labels[:, None])[:, 0]
    q, p = (softened(z[others].reshape(len(z), -1), temperature) for z in (s, t.detach()))
    return -(target + soft_weight * temperature**2 * (p * q.log()).sum(dim=-1)).mean()


@exhibit(
    replaces=NKD,
    seen_in="a likely slip: one temperature for everything, as in DKD",
    killed_by=("heart/response/test_normalized.py::test_nkd_matches_the_definition[3.0]",),
)
def target_softened_too(
    s: Tensor, t: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """The target's term is at τ instead of 1."""
    scaled = right_nkd(s / temperature, t / temperature, labels, soft_weight=soft_weight * temperature**2)
    return scaled + 0 * s.sum()


@exhibit(
    replaces=NKD,
    seen_in="a likely slip: the hard label's cross-entropy, which the authors add outside",
    killed_by=("heart/response/test_normalized.py::test_known_value_of_three_classes",),
)
def target_not_weighted(
    s: Tensor, t: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """The target's term has weight 1 instead of p_y."""
    hard = F.cross_entropy(s, labels, reduction="none")
    p = softened(t.detach(), 1.0).gather(1, labels[:, None])[:, 0]
    return right_nkd(s, t, labels, soft_weight=soft_weight, temperature=temperature) + ((1 - p) * hard).mean()


@exhibit(
    replaces=NKD,
    seen_in="a likely slip: the divergences of DKD under the weights of NKD",
    killed_by=(
        "heart/response/test_normalized.py::test_nkds_minimum_is_not_where_they_agree",
        "heart/response/test_normalized.py::test_nkd_matches_the_definition",
    ),
)
def divergences_instead(
    s: Tensor, t: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """It is zero, and least, where the two agree: another method."""
    nontarget = right_nontarget(s, t, labels, temperature=temperature)
    return (right_target(s, t, labels) + soft_weight * temperature**2 * nontarget).mean()
