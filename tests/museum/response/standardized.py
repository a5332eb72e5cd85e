"""Wrong versions of logit standardisation and of DIST."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.response import standardized
from tests.museum import exhibit

SCORES, STANDARDIZED, DIST = (
    f"kdref.response.standardized:{name}" for name in ("standardize_logits", "standardized_kd_loss", "dist_loss")
)
right_scores, right_loss, right_dist = (  # as they were before any swap
    standardized.standardize_logits,
    standardized.standardized_kd_loss,
    standardized.dist_loss,
)


def widened(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def soft_loss(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    log_q, log_p = (F.log_softmax(z / temperature, dim=-1) for z in (student, teacher))
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


def relations(student_logits: Tensor, teacher_logits: Tensor, correlation, *, temperature: float = 1.0) -> list[Tensor]:
    """One minus the correlation's mean, over rows and over columns, for the inter and the intra term."""
    q, p = ((widened(z) / temperature).softmax(dim=1) for z in (student_logits, teacher_logits.detach()))
    return [(1 - correlation(u, v).mean()) * temperature**2 for u, v in ((q, p), (q.T, p.T))]


def pearson(u: Tensor, v: Tensor) -> Tensor:
    return F.cosine_similarity(u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True), dim=1, eps=1e-30)


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip: the population deviation, as in numpy.std and layer normalisation",
    killed_by=(
        "heart/response/test_standardized.py::test_z_scores_match_the_definition",
        "heart/response/test_standardized.py::test_standardized_kd_matches_the_definition",
        "heart/response/test_standardized.py::test_z_scores_have_mean_zero_and_unbiased_deviation_one",
    ),
)
def population_deviation(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """Divided by C instead of C - 1: another temperature, by 15 % with four classes."""
    return right_scores(logits, eps=eps) * (logits.shape[-1] / (logits.shape[-1] - 1)) ** 0.5


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip: batch normalisation's axis",
    killed_by=(
        "heart/response/test_standardized.py::test_z_scores_match_the_definition",
        "heart/response/test_standardized.py::test_leading_axes_are_examples",
    ),
)
def over_the_batch(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """Each class is standardised over the examples, so an example depends on its neighbours."""
    return right_scores(logits.transpose(0, -1), eps=eps).transpose(0, -1)


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip that softmax hides",
    killed_by=(
        "heart/response/test_standardized.py::test_standardising_ignores_shift_and_scale_of_either_side",
        "heart/response/test_standardized.py::test_known_values",
    ),
)
def divided_by_the_norm(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """The length of the raw logits for their deviation: a shift changes it."""
    logits = widened(logits)
    return logits / (torch.linalg.vector_norm(logits, dim=-1, keepdim=True) / (logits.shape[-1] - 1) ** 0.5 + eps)


@exhibit(
    replaces=SCORES,
    seen_in="a likely slip: the scale is taken for a constant",
    killed_by=(
        "heart/response/test_standardized.py::test_the_gradient_cannot_move_or_scale_the_logits",
        "heart/response/test_standardized.py::test_gradients_reach_the_student_only",
    ),
)
def deviation_detached(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """Right value, wrong gradient: the logits' scale is pushed."""
    logits = widened(logits)
    return (logits - logits.mean(-1, keepdim=True)) / (logits.detach().std(-1, keepdim=True) + eps)


@exhibit(
    replaces=SCORES,
    seen_in="PITFALLS 16: a square root at zero",
    killed_by=("heart/response/test_standardized.py::test_zero_and_equal_rows_and_a_batch_of_one_stay_finite",),
)
def root_of_the_variance(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """The gradient of equal logits is NaN, though eps keeps the value finite."""
    logits = widened(logits)
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / ((centred.square().sum(-1, keepdim=True) / (logits.shape[-1] - 1)).sqrt() + eps)


@exhibit(
    replaces=SCORES,
    seen_in="sunshangquan/logit-standardization-KD, KD.py: (z - mean) / (1e-7 + std)",
    killed_by=("heart/response/test_standardized.py::test_zero_and_equal_rows_and_a_batch_of_one_stay_finite",),
)
def only_eps_beneath_equal_logits(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """Equal logits get a gradient of 1/eps: ten million, infinite in float16."""
    logits = widened(logits)
    return (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True) + eps)


@exhibit(
    replaces=STANDARDIZED,
    seen_in="torchdistill LogitStdKDLoss without labels returns before the factor",
    killed_by=(
        "heart/response/test_standardized.py::test_standardized_kd_matches_the_definition[2.0]",
        "heart/response/test_standardized.py::test_standardized_kd_is_soft_targets_of_z_scores",
    ),
)
def loss_without_the_square(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """PITFALLS 2: τ² is missing."""
    return right_loss(student_logits, teacher_logits, temperature=temperature) / temperature**2


@exhibit(
    replaces=STANDARDIZED,
    seen_in="a likely slip: a pre-processing step that reached one side",
    killed_by=("heart/response/test_standardized.py::test_losses_are_zero_where_they_agree_and_positive_elsewhere",),
)
def only_the_teacher(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """The student has to match the z-scores with its raw logits, scale and all."""
    return soft_loss(widened(student_logits), right_scores(teacher_logits.detach()), temperature)


@exhibit(
    replaces=STANDARDIZED,
    seen_in="a likely slip: one scale for both sides, as the shared temperature that the paper replaces",
    killed_by=("heart/response/test_standardized.py::test_standardising_ignores_shift_and_scale_of_either_side",),
)
def the_teachers_scale_for_both(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """The student's logits are divided by the teacher's deviation."""
    scale = widened(teacher_logits.detach()).std(-1, keepdim=True) + 1e-7
    return soft_loss(widened(student_logits) / scale, right_scores(teacher_logits.detach()), temperature)


@exhibit(
    replaces=STANDARDIZED,
    seen_in="PITFALLS 8 (keras-team/keras-io #257)",
    killed_by=("heart/response/test_standardized.py::test_standardized_kd_is_soft_targets_of_z_scores",),
)
def loss_sides_swapped(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 2.0) -> Tensor:
    """KL of the teacher from the student."""
    return soft_loss(right_scores(teacher_logits.detach()), right_scores(student_logits), temperature)


@exhibit(
    replaces=DIST,
    seen_in="torchdistill DIST+: the channel term adds the correlation",
    killed_by=(
        "heart/response/test_standardized.py::test_dist_is_one_minus_pearsons_correlation",
        "heart/response/test_standardized.py::test_losses_are_zero_where_they_agree_and_positive_elsewhere",
    ),
)
def sign_of_the_correlation(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """PITFALLS 10: ρ for 1 - ρ trains the student away from its teacher."""
    inter, intra = relations(student_logits, teacher_logits, lambda u, v: 1 - pearson(u, v), temperature=temperature)
    return inter_weight * inter + intra_weight * intra


@exhibit(
    replaces=DIST,
    seen_in="hunto/DIST_KD: 1e-8 beneath the product of the norms",
    killed_by=(
        "heart/response/test_standardized.py::test_a_constant_counts_half_and_two_constants_nothing",
        "heart/response/test_standardized.py::test_small_probabilities_correlate_like_large_ones",
    ),
)
def epsilon_beneath_the_norms(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """A constant counts 1, also at a batch of one, and rare classes count 1 whatever the student does."""

    def published(u: Tensor, v: Tensor) -> Tensor:
        u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        return (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1) + 1e-8)

    inter, intra = relations(student_logits, teacher_logits, published, temperature=temperature)
    return inter_weight * inter + intra_weight * intra


@exhibit(
    replaces=DIST,
    seen_in="PITFALLS 16: a square root at zero",
    killed_by=(
        "heart/response/test_standardized.py::test_zero_and_equal_rows_and_a_batch_of_one_stay_finite",
        "heart/response/test_standardized.py::test_extreme_logits_stay_finite",
    ),
)
def root_of_zero(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """Constant rows or columns give a NaN gradient, every column of a batch of one among them."""

    def by_roots(u: Tensor, v: Tensor) -> Tensor:
        u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        return (u * v).sum(1) / ((u * u).sum(1) * (v * v).sum(1)).sqrt().add(1e-12)

    inter, intra = relations(student_logits, teacher_logits, by_roots, temperature=temperature)
    return inter_weight * inter + intra_weight * intra


@exhibit(
    replaces=DIST,
    seen_in="a likely slip: the cosine is no correlation",
    killed_by=("heart/response/test_standardized.py::test_dist_ignores_affine_maps_of_the_probabilities",),
)
def not_centred(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """All probabilities are positive, so every cosine is large."""
    inter, intra = relations(student_logits, teacher_logits, F.cosine_similarity, temperature=temperature)
    return inter_weight * inter + intra_weight * intra


@exhibit(
    replaces=DIST,
    seen_in="a likely slip: correlating what the network gives",
    killed_by=("heart/response/test_standardized.py::test_dist_sees_affine_maps_of_the_logits",),
)
def of_logits(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """Logits for probabilities: blind to the student's scale."""
    s, t = widened(student_logits), widened(teacher_logits.detach())
    return inter_weight * (1 - pearson(s, t).mean()) + intra_weight * (1 - pearson(s.T, t.T).mean())


@exhibit(
    replaces=DIST,
    seen_in="a likely slip: the transposition is forgotten",
    killed_by=("heart/response/test_standardized.py::test_dist_is_one_minus_pearsons_correlation",),
)
def rows_twice(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """The intra-class term is the inter-class term."""
    return right_dist(
        student_logits,
        teacher_logits,
        inter_weight=inter_weight + intra_weight,
        intra_weight=0.0,
        temperature=temperature,
    )


@exhibit(
    replaces=DIST,
    seen_in="hunto/image_classification_sota has no temperature; a port that adds one without its square",
    killed_by=("heart/response/test_standardized.py::test_dist_matches_the_definition[4.0]",),
)
def dist_without_the_square(
    student_logits: Tensor, teacher_logits: Tensor, *, inter_weight=1.0, intra_weight=1.0, temperature=1.0
) -> Tensor:
    """PITFALLS 2: τ² is missing."""
    weights = {"inter_weight": inter_weight, "intra_weight": intra_weight}
    return right_dist(student_logits, teacher_logits, **weights, temperature=temperature) / temperature**2


@exhibit(
    replaces=SCORES,
    seen_in="kdref 0.1, and torch.std: the square of 1e20 is infinite in float32",
    killed_by=("heart/response/test_input.py::test_z_scores_have_their_value_at_any_scale",),
)
def squares_overflow(logits: Tensor, *, eps: float = 1e-7, class_dim: int = -1) -> Tensor:
    """Everything divided by infinity is 0: a student that explodes agrees with any teacher."""
    logits = widened(logits)
    centred = logits - logits.mean(class_dim, keepdim=True)
    variance = centred.square().sum(class_dim, keepdim=True) / (logits.shape[class_dim] - 1)
    return centred / (variance.sqrt() + eps)
