"""Wrong versions of relational distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.museum import exhibit

DISTANCE, ANGLE = "kdref.relation.rkd:rkd_distance_loss", "kdref.relation.rkd:rkd_angle_loss"


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/relation/test_rkd.py::test_{test}" for test in tests)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lengths(rows: Tensor) -> Tensor:
    """Right distances of rows that all differ, with a finite gradient."""
    squared = (at_least_float32(rows)[None] - at_least_float32(rows)[:, None]).square().sum(dim=2)
    return squared.masked_fill(squared == 0, 1.0).sqrt().masked_fill(squared == 0, 0.0)


def relative(rows: Tensor) -> Tensor:
    distances = lengths(rows)
    return distances / (distances.sum() / max(1, len(rows) * (len(rows) - 1))).clamp(min=1e-30)


def cosines(rows: Tensor) -> Tensor:
    unit = F.normalize(at_least_float32(rows)[None] - at_least_float32(rows)[:, None], dim=2)
    return torch.bmm(unit, unit.mT)


@exhibit(
    replaces=DISTANCE,
    seen_in="PaddleSlim RKD; PITFALLS 14: torch.cdist(x, x).mean()",
    killed_by=killed_by("known_values_of_a_line_and_a_triangle", "both_match_the_definition"),
)
def diagonal_in_the_mean(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The mean counts each example's distance of 0 to itself, so it depends on the batch size."""
    s, t = lengths(student_embeddings), lengths(teacher_embeddings.detach())
    return F.smooth_l1_loss(s / s.mean(), t / t.mean())


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: the root of the Gram identity, unguarded",
    killed_by=killed_by(
        "extreme_embeddings_stay_finite", "a_collapsed_student_has_the_loss_of_zeros_and_no_gradient[dtype0]"
    ),
)
def root_at_zero(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 16: the root's derivative is infinite on the diagonal and for equal rows, so gradients are NaN."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        distances = (rows[None] - rows[:, None]).square().sum(dim=2).sqrt()
        sides.append(distances / (distances.sum() / max(1, len(rows) * (len(rows) - 1))).clamp(min=1e-30))
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=DISTANCE,
    seen_in="lenscloth/RKD, HobbitLong/RepDistiller RKD, torchdistill: the Gram identity of features as they come",
    killed_by=killed_by("features_far_from_zero_keep_their_precision"),
)
def not_centred(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 19: at mean 1000 the squared distances are lost in the squared norms."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        norms = rows.square().sum(dim=1)
        squared = (norms[:, None] + norms - 2 * rows @ rows.mT).clamp(min=1e-12)
        distances = squared.sqrt() * (1 - torch.eye(len(rows), dtype=rows.dtype))
        sides.append(distances / distances[distances > 0].mean())
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=DISTANCE,
    seen_in="lenscloth/RKD, HobbitLong/RepDistiller RKD: the mean of what is positive",
    killed_by=killed_by("one_example_has_no_pair_and_two_have_no_triple", "extreme_embeddings_stay_finite"),
)
def mean_of_nothing(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 16: a batch of one has no positive distance, and the mean of nothing is NaN."""
    s, t = lengths(student_embeddings), lengths(teacher_embeddings.detach())
    return F.smooth_l1_loss(s / s[s > 0].mean(), t / t[t > 0].mean())


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: distances as they are",
    killed_by=killed_by("rotation_translation_and_scale_of_either_side_change_nothing", "both_match_the_definition"),
)
def no_relative_distances(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Without the mean, the student must also learn the teacher's scale."""
    return F.smooth_l1_loss(lengths(student_embeddings), lengths(teacher_embeddings.detach()))


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: one scale for both",
    killed_by=killed_by("rotation_translation_and_scale_of_either_side_change_nothing", "both_match_the_definition"),
)
def both_by_the_teachers_mean(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The student's distances are divided by the teacher's mean."""
    t = lengths(teacher_embeddings.detach())
    mean = (t.sum() / max(1, len(t) * (len(t) - 1))).clamp(min=1e-30)
    return F.smooth_l1_loss(lengths(student_embeddings) / mean, t / mean)


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: the mean taken for a constant",
    killed_by=killed_by("gradients_reach_the_student_only", "the_gradient_cannot_move_or_scale_the_student"),
)
def mean_without_a_gradient(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The value is right, but the student is told to shrink or grow, which changes nothing."""
    s = lengths(student_embeddings)
    mean = (s.detach().sum() / max(1, len(s) * (len(s) - 1))).clamp(min=1e-30)
    return F.smooth_l1_loss(s / mean, relative(teacher_embeddings.detach()))


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: the squares that the Gram identity gives, without the root",
    killed_by=killed_by("known_values_of_a_line_and_a_triangle", "both_match_the_definition"),
)
def squared_distances(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Relative squared distances: far pairs count more."""
    sides = []
    for rows in (student_embeddings, teacher_embeddings.detach()):
        squared = lengths(rows).square()
        sides.append(squared / (squared.sum() / max(1, len(rows) * (len(rows) - 1))).clamp(min=1e-30))
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: mean squared error for the Huber loss",
    killed_by=killed_by("a_large_gap_counts_linearly", "known_values_of_a_line_and_a_triangle"),
)
def squared_error(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Twice as large where gaps are small, and ruled by outliers."""
    return F.mse_loss(relative(student_embeddings), relative(teacher_embeddings.detach()))


@exhibit(
    replaces=DISTANCE,
    seen_in="a likely slip: distinct pairs in the outer mean too",
    killed_by=killed_by("known_values_of_a_line_and_a_triangle", "both_match_the_definition"),
)
def outer_mean_over_distinct_pairs(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """B/(B - 1) times the authors' loss, so published weights mean something else."""
    count = len(student_embeddings)
    total = F.smooth_l1_loss(relative(student_embeddings), relative(teacher_embeddings.detach()), reduction="sum")
    return total / max(1, count * (count - 1))


@exhibit(
    replaces=DISTANCE,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def distances_train_the_teacher(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The teacher is not detached."""
    return F.smooth_l1_loss(relative(student_embeddings), relative(teacher_embeddings))


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: cosines of the embeddings, whose vertex is the origin",
    killed_by=killed_by(
        "rotation_translation_and_scale_of_either_side_change_nothing", "known_values_of_a_line_and_a_triangle"
    ),
)
def angles_at_the_origin(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """A relation of pairs, not of triples: a translation changes it."""
    units = [F.normalize(at_least_float32(x), dim=1) for x in (student_embeddings, teacher_embeddings.detach())]
    return F.smooth_l1_loss(*(unit @ unit.mT for unit in units))


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: the wrong axis of the B×B×D tensor contracted",
    killed_by=killed_by("known_values_of_a_line_and_a_triangle", "both_match_the_definition"),
)
def edges_of_two_vertices(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The cosine of i-j with j-k: at the vertex j one of the edges points inwards."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        unit = F.normalize(rows[None] - rows[:, None], dim=2)
        sides.append(torch.einsum("ijd,jkd->ijk", unit, unit).abs())
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: products of edges that are not of length 1",
    killed_by=killed_by(
        "rotation_translation_and_scale_of_either_side_change_nothing", "known_values_of_a_line_and_a_triangle"
    ),
)
def products_for_cosines(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Depends on the scale."""
    edges = [x[None] - x[:, None] for x in (student_embeddings, teacher_embeddings.detach())]
    return F.smooth_l1_loss(*(torch.bmm(edge, edge.mT) for edge in edges))


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: an epsilon added under the root",
    killed_by=killed_by("rotation_translation_and_scale_of_either_side_change_nothing"),
)
def epsilon_in_the_length(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Small embeddings have shorter edges than 1, so the loss depends on the scale."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        edges = rows[None] - rows[:, None]
        unit = edges / (edges.square().sum(dim=2, keepdim=True) + 1e-6).sqrt()
        sides.append(torch.bmm(unit, unit.mT))
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: 0/0 for equal rows",
    killed_by=killed_by(
        "extreme_embeddings_stay_finite", "a_collapsed_student_has_the_loss_of_zeros_and_no_gradient[dtype0]"
    ),
)
def divided_by_zero_lengths(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 16: NaN on every diagonal, and for equal rows."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        edges = rows[None] - rows[:, None]
        unit = edges / edges.norm(dim=2, keepdim=True)
        sides.append(torch.bmm(unit, unit.mT))
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=ANGLE,
    seen_in="a likely slip: distinct triples in the outer mean",
    killed_by=killed_by("known_values_of_a_line_and_a_triangle", "both_match_the_definition"),
)
def outer_mean_over_distinct_triples(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """B²/((B - 1)(B - 2)) times the authors' loss."""
    count = len(student_embeddings)
    total = F.smooth_l1_loss(cosines(student_embeddings), cosines(teacher_embeddings.detach()), reduction="sum")
    return total / max(1, count * (count - 1) * (count - 2))


@exhibit(
    replaces=ANGLE,
    seen_in="the Gram identity e_ij·e_ik = G_jk - G_ij - G_ik + G_ii on features as they come, in float32",
    killed_by=killed_by("features_far_from_zero_keep_their_precision"),
)
def gram_of_features_far_from_zero(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """PITFALLS 19: quick, and wrong by more than the cosines differ at mean 1000."""
    sides = []
    for rows in (at_least_float32(student_embeddings), at_least_float32(teacher_embeddings.detach())):
        gram = rows @ rows.mT
        products = gram[None] - gram[:, :, None] - gram[:, None] + gram.diagonal()[:, None, None]
        inverse = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt()
        sides.append(products * inverse[:, :, None] * inverse[:, None])
    return F.smooth_l1_loss(*sides)


@exhibit(
    replaces=ANGLE,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def angles_train_the_teacher(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """The teacher is not detached."""
    return F.smooth_l1_loss(cosines(student_embeddings), cosines(teacher_embeddings))
