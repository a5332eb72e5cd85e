"""Wrong versions of distillation across senses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import cross_modal
from tests.museum import exhibit

PAIRED, RANK, SELECT, SELECTED = (
    f"kdref.cross_modal:{name}"
    for name in ("paired_feature_loss", "rank_agreement", "select_agreeing", "selected_soft_target_loss")
)
right_paired, right_rank = cross_modal.paired_feature_loss, cross_modal.rank_agreement
right_selected = cross_modal.selected_soft_target_loss


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/test_cross_modal.py::test_{test}" for test in tests)


def divergence(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    log_q, log_p = ((x.to(dtype) / temperature).log_softmax(dim=-1) for x in (student, teacher.detach()))
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


@exhibit(
    replaces=PAIRED,
    seen_in="PITFALLS 6 (mmrazor): batchmean on maps",
    killed_by=killed_by("paired_features_match_the_definition", "known_values_of_the_other_losses"),
)
def divided_by_the_batch_alone(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """As many times too large as an example has features."""
    return right_paired(student_features, teacher_features) * student_features[0].numel()


@exhibit(
    replaces=PAIRED,
    seen_in="PITFALLS 21; huofushuo/C2KD trains teacher and student together, and detaches side by side",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def teacher_not_detached(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """The stronger sensor is dragged to the weaker one's level."""
    return F.mse_loss(student_features, teacher_features)


@exhibit(
    replaces=PAIRED,
    seen_in="PITFALLS 22 (haitongli #16): cached features in another order than the batch",
    killed_by=killed_by("zero_where_they_agree_and_positive_elsewhere", "paired_features_match_the_definition"),
)
def pairs_out_of_step(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Each moment is paired with its neighbour's."""
    return right_paired(student_features, teacher_features.roll(1, dims=0))


@exhibit(
    replaces=RANK,
    seen_in="a likely slip: tau-a, which divides by all pairs",
    killed_by=killed_by("rank_agreement_is_kendalls_tau_b", "known_values_of_rank_agreement"),
)
def tau_a(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Ties count as pairs that could have agreed, so two equal rows with a tie don't reach 1."""
    own, other = (x[:, :, None].sub(x[:, None, :]).sign().double() for x in (student_logits, teacher_logits))
    classes = student_logits.shape[1]
    return (own * other).sum(dim=(1, 2)) / max(1, classes * (classes - 1))


@exhibit(
    replaces=RANK,
    seen_in="huofushuo/C2KD: SciPy's value for a constant row is NaN, which no threshold selects",
    killed_by=killed_by("rank_agreement_is_kendalls_tau_b", "known_values_of_rank_agreement"),
)
def nan_for_a_constant_row(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """0/0, and a mean over the batch is NaN with it."""
    own, other = (x[:, :, None].sub(x[:, None, :]).sign().double() for x in (student_logits, teacher_logits))
    pairs = own.abs().sum(dim=(1, 2)) * other.abs().sum(dim=(1, 2))
    return (own * other).sum(dim=(1, 2)) / pairs.sqrt()


@exhibit(
    replaces=RANK,
    seen_in="a likely slip: Spearman's correlation of the ranks",
    killed_by=killed_by("rank_agreement_is_kendalls_tau_b", "known_values_of_rank_agreement"),
)
def spearman(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Another rank correlation: ½ where Kendall's is ⅓, so a threshold selects others."""
    own, other = (x.argsort(dim=1).argsort(dim=1).double() for x in (student_logits, teacher_logits))
    own, other = (F.normalize(x - x.mean(dim=1, keepdim=True), dim=1) for x in (own, other))
    return (own * other).sum(dim=1)


@exhibit(
    replaces=RANK,
    seen_in="a likely slip: Pearson's correlation of the logits",
    killed_by=killed_by("rank_agreement_is_kendalls_tau_b", "rank_agreement_sees_nothing_but_order"),
)
def correlation_of_the_logits(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """One large logit decides."""
    own, other = (F.normalize(x - x.mean(dim=1, keepdim=True), dim=1) for x in (student_logits, teacher_logits))
    return (own * other).sum(dim=1)


@exhibit(
    replaces=SELECT,
    seen_in="a likely slip: at least the threshold",
    killed_by=killed_by("selection_is_strictly_above_the_threshold"),
)
def at_least_the_threshold(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float = 0.0) -> Tensor:
    """A teacher that says nothing (a constant row, correlation 0) is selected."""
    return right_rank(student_logits, teacher_logits) >= threshold


@exhibit(
    replaces=SELECT,
    seen_in="a likely slip: the condition reversed, 'filter out' read as 'filter'",
    killed_by=killed_by("selection_is_strictly_above_the_threshold"),
)
def selects_the_others(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Distils where the two sensors contradict each other."""
    return right_rank(student_logits, teacher_logits) < threshold


@exhibit(
    replaces=SELECT,
    seen_in="a likely slip: agreement of the first choice alone",
    killed_by=killed_by("selection_is_strictly_above_the_threshold"),
)
def same_first_choice(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Selects only what the student knows already, whatever the threshold."""
    return student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)


@exhibit(
    replaces=SELECTED,
    seen_in="huofushuo/C2KD, utils/helper.py: (mask * divergence).mean()",
    killed_by=killed_by(
        "the_selected_loss_matches_the_definition",
        "the_mean_is_over_the_selected_so_that_adding_unselected_examples_changes_nothing",
    ),
)
def divided_by_the_batch(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """The fewer examples agree, the less the teacher counts."""
    loss = right_selected(student_logits, teacher_logits, selected, temperature=temperature)
    return loss * selected.to(loss.dtype).mean()


@exhibit(
    replaces=SELECTED,
    seen_in="huofushuo/C2KD, utils/helper.py: torch.tensor(0) where mask.sum() == 0",
    killed_by=killed_by("nothing_selected_gives_zero_with_a_gradient_path"),
)
def constant_when_nothing_is_selected(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """PITFALLS 24: backward fails in the first batch without agreement."""
    if not selected.any():
        return torch.tensor(0.0)
    return right_selected(student_logits, teacher_logits, selected, temperature=temperature)


@exhibit(
    replaces=SELECTED,
    seen_in="a likely slip: the mean of an empty selection",
    killed_by=killed_by("nothing_selected_gives_zero_with_a_gradient_path", "extreme_input_stays_finite"),
)
def mean_of_nothing(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """NaN when no example agrees."""
    return divergence(student_logits, teacher_logits, temperature)[selected].mean() * temperature**2


@exhibit(
    replaces=SELECTED,
    seen_in="PITFALLS 25 (trl #7024): what is masked leaks, here as 0 · NaN",
    killed_by=killed_by("what_stands_in_rows_that_are_not_selected_does_not_matter[nan]"),
)
def multiplied_by_the_mask(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """A moment that one sensor missed, filled with NaN, spoils the batch though it is not selected."""
    kept = divergence(student_logits, teacher_logits, temperature) * selected
    return kept.sum() / selected.sum().clamp(min=1) * temperature**2


@exhibit(
    replaces=SELECTED,
    seen_in="PITFALLS 2 (keras-io #869)",
    killed_by=killed_by("selecting_all_is_plain_distillation_and_the_default_temperature_is_1"),
)
def without_the_square_of_the_temperature(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """The gradient falls as 1/τ²."""
    return right_selected(student_logits, teacher_logits, selected, temperature=temperature) / temperature**2


@exhibit(
    replaces=SELECTED,
    seen_in="PITFALLS 8 (keras-io #257): student and teacher swapped",
    killed_by=killed_by("the_selected_loss_matches_the_definition", "gradients_reach_the_student_only"),
)
def sides_swapped(
    student_logits: Tensor, teacher_logits: Tensor, selected: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """The weaker sensor teaches the stronger one."""
    both = divergence(teacher_logits, student_logits, temperature) + 0 * student_logits.sum(dim=1)
    return (both * selected).sum() / selected.sum().clamp(min=1) * temperature**2


@exhibit(
    replaces=RANK,
    seen_in="kdref 0.1, and any rank correlation by comparisons: a NaN is neither above nor below",
    killed_by=(
        "heart/test_cross_modal_input.py::test_a_nan_has_no_rank_and_stops_at_its_example",
        "heart/test_cross_modal_input.py::test_every_function_passes[rank_agreement-check_nan]",
    ),
)
def nan_counted_as_a_tie(student_logits: Tensor, teacher_logits: Tensor, *, class_dim: int = -1) -> Tensor:
    """A broken sensor gets a plausible correlation."""
    own, other = (
        (z[..., :, None] > z[..., None, :]).double() - (z[..., :, None] < z[..., None, :]).double()
        for z in (student_logits.movedim(class_dim, -1), teacher_logits.movedim(class_dim, -1))
    )
    pairs = own.abs().sum(dim=(-2, -1)) * other.abs().sum(dim=(-2, -1))
    return (own * other).sum(dim=(-2, -1)) / pairs.clamp(min=1).sqrt()


@exhibit(
    replaces=SELECT,
    seen_in="kdref 0.1: NaN > 0 is False",
    killed_by=("heart/test_cross_modal_input.py::test_a_nan_is_selected_so_that_the_loss_says_so",),
)
def nan_left_out(
    student_logits: Tensor, teacher_logits: Tensor, *, threshold: float = 0.0, class_dim: int = -1
) -> Tensor:
    """A network that has diverged selects nothing, and the loss of nothing is 0."""
    return right_rank(student_logits, teacher_logits, class_dim=class_dim) > threshold
