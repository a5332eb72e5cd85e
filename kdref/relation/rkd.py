"""Relational knowledge distillation: the student keeps the teacher's distances and angles between examples.

Source: Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068 (RKD).
Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features; student and teacher may differ in D.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["rkd_angle_loss", "rkd_distance_loss"]


def rkd_distance_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D')
) -> Tensor:  # ()
    r"""Huber loss between the two networks' distances of all pairs, each divided by its network's mean distance.

    .. math::
        \frac{1}{B^2} \sum_{i,j} \ell\!\left(\frac{d^s_{ij}}{\mu^s}, \frac{d^t_{ij}}{\mu^t}\right), \quad
        d_{ij} = \|x_i - x_j\|, \quad \mu = \frac{1}{B(B-1)} \sum_{i \ne j} d_{ij}, \quad
        \ell(a, b) = \begin{cases} \frac12 (a - b)^2 & |a - b| \le 1 \\ |a - b| - \frac12 & \text{otherwise} \end{cases}

    The mean leaves out the zeros of an example's distance to itself, else the loss depends on the batch size, as in
    PaddleSlim's, whose mean is over all :math:`B^2`.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.

    Returns:
        Scalar loss, no unit, at least 0. Neither side's rotation, shift or scale matters. A batch of one gives 0;
        examples closer than 1e-7 of the batch's size count as equal, and send each other no gradient.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty.

    Example:
        >>> line, triangle = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)  # relative distances 3/4, 3/4, 3/2; 1
        >>> rkd_distance_loss(line, triangle)  # 2 (1/16 + 1/16 + 1/4) / 2 / 9
        tensor(0.0417)

    Source: Park et al. 2019, equations 4 to 6, averaged over all :math:`B^2` entries as in the authors' code; the
    paper sums over distinct pairs. The code's mean leaves out what is not positive: the diagonal, as here.
    """
    _check_embeddings(student_embeddings, teacher_embeddings)
    student, teacher = (_relative_distances(x) for x in (student_embeddings, teacher_embeddings.detach()))
    return F.smooth_l1_loss(student, teacher).to(torch.promote_types(student_embeddings.dtype, torch.float32))


def rkd_angle_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D')
) -> Tensor:  # ()
    r"""Huber loss between the two networks' angles of all triples, as cosines.

    .. math::
        \frac{1}{B^3} \sum_{i,j,k} \ell(c^s_{ijk}, c^t_{ijk}), \quad
        c_{ijk} = \left\langle \frac{x_j - x_i}{\|x_j - x_i\|}, \frac{x_k - x_i}{\|x_k - x_i\|} \right\rangle
        = \frac{d^2_{ij} + d^2_{ik} - d^2_{jk}}{2\, d_{ij}\, d_{ik}}

    with :math:`\ell` of :func:`rkd_distance_loss`. The right-hand side is the law of cosines: it needs the B² distances
    only, where the definition needs B·B·D differences and B³·D products. Time and memory still grow as B³.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.

    Returns:
        Scalar loss, no unit, in [0, 1.5]. Neither side's rotation, shift or scale matters. Batches of one and two
        give 0; at an example that equals the vertex there is no angle, and its cosine counts as 0.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty.

    Example:
        >>> line, triangle = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)  # cosines 1, -1, 1; 1/2 each
        >>> rkd_angle_loss(line, triangle)  # 2 (1/8 + (3/2 - 1/2) + 1/8) / 27
        tensor(0.0926)

    Source: Park et al. 2019, equations 7 and 8, averaged over all :math:`B^3` entries as in the authors' code; the
    paper sums over triples of distinct examples. The paper weighs distances to angles 1 : 2.
    """
    _check_embeddings(student_embeddings, teacher_embeddings)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    student, teacher = (_angle_cosines(x, dtype) for x in (student_embeddings, teacher_embeddings.detach()))
    return F.smooth_l1_loss(student, teacher)


def _angle_cosines(embeddings: Tensor, dtype: torch.dtype) -> Tensor:  # (B, D) -> (B, B, B)
    """Cosines of the angles at i between j and k, by the law of cosines; 0 where an edge has length 0."""
    distances = _relative_distances(embeddings)  # angles do not depend on the scale, and this one suits float32
    squared = distances.square().to(dtype)
    inverse = distances.masked_fill(distances == 0, torch.inf).reciprocal().to(dtype)
    edges = squared[:, :, None] + squared[:, None, :] + (-squared)  # a "-" would negate B³ numbers on the way back
    return edges * _full_product(inverse[:, :, None], inverse[:, :, None] / 2)


def _relative_distances(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Distances divided by their mean over distinct pairs; zeros if all are 0."""
    distances = _distances(embeddings)
    mean = distances.sum() / max(1, len(distances) * (len(distances) - 1))
    return distances / mean.masked_fill(mean == 0, 1.0)


def _distances(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Distances by the Gram identity, d²_ij = G_ii + G_jj - 2 G_ij.

    The difference loses what the norms have in common: so rows are centred, in float64 (which Apple's GPUs lack).
    """
    rows = embeddings.to(torch.float32 if embeddings.device.type == "mps" else torch.float64)
    rows = rows - rows.mean(dim=0)
    gram = _full_product(rows, rows)
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    squared = sums - 2 * gram
    equal = squared <= 64 * torch.finfo(gram.dtype).eps * sums  # rounding, not distance
    return squared.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0)  # the root has no gradient at 0


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_embeddings(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        _check_activations(embeddings, f"the {side}'s embeddings")
        size = tuple(embeddings.shape)
        if len(size) != 2 or 0 in size:
            raise ValueError(f"the {side}'s embeddings must be (B, D), not empty, got {size}: use .flatten(1) on maps")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")
