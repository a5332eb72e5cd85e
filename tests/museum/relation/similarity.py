"""Wrong versions of similarity, correlation and probability of neighbours."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import relation
from tests.museum import exhibit

SIMILARITY, CORRELATION, TRANSFER = (
    f"kdref.relation.similarity:{name}"
    for name in ("similarity_preserving_loss", "correlation_congruence_loss", "probabilistic_transfer_loss")
)
right_similarity, right_correlation, right_transfer = (
    relation.similarity_preserving_loss,
    relation.correlation_congruence_loss,
    relation.probabilistic_transfer_loss,
)  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/relation/test_similarity.py::test_{test}" for test in tests)


def at_least_float32(x: Tensor) -> Tensor:
    return x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))


def gram(x: Tensor) -> Tensor:
    return at_least_float32(x) @ at_least_float32(x).mT


def cosines(x: Tensor) -> Tensor:
    unit = F.normalize(at_least_float32(x), dim=1)
    return unit @ unit.mT


@exhibit(
    replaces=SIMILARITY,
    seen_in="torchdistill SPKDLoss: F.normalize(x, 1)",
    killed_by=killed_by("known_values_of_two_examples", "all_match_the_definition_zeros_and_equal_rows_included"),
)
def second_argument_is_p(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 5: rows are divided by their L1 norm."""
    s, t = (F.normalize(gram(x), 1) for x in (student_features, teacher_features.detach()))
    return F.mse_loss(s, t)


@exhibit(
    replaces=SIMILARITY,
    seen_in="HobbitLong/RepDistiller SP, a line commented out there: the norm of the whole matrix",
    killed_by=killed_by("known_values_of_two_examples"),
)
def whole_matrix_at_length_one(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """One number for all rows: examples with large features rule."""
    s, t = (g / g.norm().clamp(min=1e-30) for g in (gram(x) for x in (student_features, teacher_features.detach())))
    return F.mse_loss(s, t)


@exhibit(
    replaces=SIMILARITY,
    seen_in="a likely slip: cosine similarities, which SP is often said to be",
    killed_by=killed_by("known_values_of_two_examples", "the_length_of_a_row_matters_to_similarities_only"),
)
def cosines_for_unit_rows(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Features at length 1, not rows of the Gram matrix."""
    return F.mse_loss(cosines(student_features), cosines(teacher_features.detach()))


@exhibit(
    replaces=SIMILARITY,
    seen_in="a likely slip: the sum over B² kept with 1/B",
    killed_by=killed_by("known_values_of_two_examples", "zero_where_they_agree_and_positive_elsewhere"),
)
def divided_by_the_batch_once(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """B times too large."""
    return right_similarity(student_features, teacher_features) * len(student_features)


@exhibit(
    replaces=SIMILARITY,
    seen_in="a likely slip: features centred, as relational losses do",
    killed_by=killed_by("rotation_and_scale_of_either_side_change_nothing_but_translation_does"),
)
def centred(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Invariant to translations, which SP is not."""
    s, t = (x - x.mean(dim=0) for x in (student_features, teacher_features.detach()))
    return right_similarity(s, t)


@exhibit(
    replaces=SIMILARITY,
    seen_in="a likely slip: rows without a guard",
    killed_by=killed_by("extreme_embeddings_stay_finite"),
)
def zero_over_zero(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 16: a row of zeros is 0/0."""
    s, t = (g / g.norm(dim=1, keepdim=True) for g in (gram(x) for x in (student_features, teacher_features.detach())))
    return F.mse_loss(s, t)


@exhibit(
    replaces=CORRELATION,
    seen_in="HobbitLong/RepDistiller Correlation and its copies",
    killed_by=killed_by("batch_permutation", "known_values_of_two_examples"),
)
def neighbours_in_the_batch(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """PITFALLS 9: differences of neighbouring rows are multiplied, so the order of the batch matters.

    (Widths are cut to the smaller so that it runs; the published one needs equal widths.)
    """
    width = min(student_embeddings.shape[1], teacher_embeddings.shape[1])
    delta = (student_embeddings[:, :width] - teacher_embeddings.detach()[:, :width]).abs()
    return (delta[:-1] * delta[1:]).sum(dim=1).mean()


@exhibit(
    replaces=CORRELATION,
    seen_in="a likely slip: powers 1 to P",
    killed_by=killed_by("many_powers_give_the_gaussian_kernel", "known_values_of_two_examples"),
)
def one_power_short(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """range(P) for range(P + 1): the highest power is lost, and each gets its neighbour's weight."""
    sides = []
    for x in (student_embeddings, teacher_embeddings.detach()):
        terms = [(2 * gamma) ** (p + 1) / math.factorial(p + 1) * cosines(x) ** p for p in range(order)]
        sides.append(math.exp(-2 * gamma) * sum(terms))
    return F.mse_loss(*sides)


@exhibit(
    replaces=CORRELATION,
    seen_in="a likely slip: the kernel without its factor",
    killed_by=killed_by("known_values_of_two_examples", "many_powers_give_the_gaussian_kernel"),
)
def without_the_factor(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """e^(4γ) times too large: the factor e^(-2γ) of the expansion is left out."""
    return right_correlation(student_embeddings, teacher_embeddings, gamma=gamma, order=order) * math.exp(4 * gamma)


@exhibit(
    replaces=CORRELATION,
    seen_in="a likely slip: γ where the expansion of -γ‖x - y‖² has 2γ",
    killed_by=killed_by("known_values_of_two_examples", "many_powers_give_the_gaussian_kernel"),
)
def half_the_gamma(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """Another sharpness."""
    return right_correlation(student_embeddings, teacher_embeddings, gamma=gamma / 2, order=order)


@exhibit(
    replaces=CORRELATION,
    seen_in="a likely slip: embeddings not at length 1",
    killed_by=killed_by(
        "rotation_and_scale_of_either_side_change_nothing_but_translation_does", "known_values_of_two_examples"
    ),
)
def products_for_cosines(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """The expansion holds for unit vectors only."""
    sides = []
    for x in (student_embeddings, teacher_embeddings.detach()):
        terms = [(2 * gamma) ** p / math.factorial(p) * gram(x) ** p for p in range(order + 1)]
        sides.append(math.exp(-2 * gamma) * sum(terms))
    return F.mse_loss(*sides)


def transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT as its formula says, with a floor."""
    q, p = (((1 + cosines(x)) / 2).clamp(min=1e-6) for x in (student, teacher))
    q, p = (x / x.sum(dim=1, keepdim=True) for x in (q, p))
    return (p * (p / q).log()).sum(dim=1).mean()


@exhibit(
    replaces=TRANSFER,
    seen_in="passalis/probabilistic_kt, HobbitLong/RepDistiller PKT",
    killed_by=killed_by("known_values_of_two_examples", "all_match_the_definition_zeros_and_equal_rows_included"),
)
def mean_over_all_entries(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 1: B times too small, so that the weight depends on the batch size."""
    return right_transfer(student_embeddings, teacher_embeddings) / len(student_embeddings)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: arguments of KL reversed",
    killed_by=killed_by("known_values_of_two_examples", "all_match_the_definition_zeros_and_equal_rows_included"),
)
def sides_swapped(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 8: KL(student‖teacher)."""
    return transfer(teacher_embeddings.detach(), student_embeddings)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: softmax of cosines",
    killed_by=killed_by("known_values_of_two_examples", "all_match_the_definition_zeros_and_equal_rows_included"),
)
def softmax_of_cosines(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Another kernel: exp(cos) for (1 + cos)/2."""
    q, p = (F.log_softmax(cosines(x), dim=1) for x in (student_embeddings, teacher_embeddings.detach()))
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


@exhibit(
    replaces=TRANSFER,
    seen_in="passalis/probabilistic_kt: the root of a row's squares, without a guard",
    killed_by=killed_by("extreme_embeddings_stay_finite"),
)
def root_of_zero(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 16: the gradient of a zero row is NaN, though its value is repaired."""
    sides = []
    for x in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-7)
        kernel = (1 + unit @ unit.mT).clamp(min=1e-6) / 2
        sides.append(kernel / kernel.sum(dim=1, keepdim=True))
    return (sides[1] * (sides[1] / sides[0]).log()).sum(dim=1).mean()


@exhibit(
    replaces=TRANSFER,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def teacher_not_detached(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The loss trains the teacher."""
    return transfer(student_embeddings, teacher_embeddings)


@exhibit(
    replaces=CORRELATION,
    seen_in="torchdistill CCKDLoss: products for cosines, and torch.dist, whose square is missing",
    killed_by=killed_by(
        "known_values_of_two_examples", "rotation_and_scale_of_either_side_change_nothing_but_translation_does"
    ),
)
def distance_of_kernels_of_products(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """PITFALLS 28: rows (1, 0) and (1, 1) against their double give 3.04, right 0."""
    weights = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    student, teacher = (
        sum(weight * gram(x) ** p for p, weight in enumerate(weights))
        for x in (student_embeddings, teacher_embeddings.detach())
    )
    return torch.dist(student, teacher) / len(student_embeddings) ** 2
