"""Votes on triplets: of two examples, the student finds that one nearer to a third which most teachers find nearer.

Source: You et al., "Learning from Multiple Teacher Networks", KDD 2017, https://doi.org/10.1145/3097983.3098135.
Lesson: notebooks/06_multi_teacher.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K teachers, B examples, D features; student and teachers may differ in D, the teachers share theirs.
"""

import math
import numbers

import torch
from torch import Tensor

__all__ = ["triplet_dissimilarity_loss"]

_TIE = 5e-6  # distances closer than this share of their sum count as equal: rounding does not vote


def triplet_dissimilarity_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (K, B, D')
    *,
    margin: float,
) -> Tensor:  # ()
    r"""Hinge on the student's distances, for every triplet on which the majority of the teachers decides.

    .. math::
        \frac{1}{|T|} \sum_{(i,j,k) \in T} \max\big(0,\; d^s_{ij} - d^s_{ik} + m\big), \quad d_{ij} = \|x_i - x_j\|,
        \quad T = \big\{\text{distinct } i, j, k : \textstyle\sum_t \mathrm{sign}(d^t_{ik} - d^t_{ij}) > 0\big\}

    Only the *order* of a teacher's distances counts, so teachers of any scale and kind can vote. The student's scale
    does count: the margin is in units of its distances, and a student that collapses to a point pays the margin.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(K, B, D')``. Treated as a constant.
        margin: :math:`m > 0`, in units of the student's distances.

    Returns:
        Scalar loss, in units of the student's distances, at least 0. Where the vote ties the triplet does not count; if
        none is left (fewer than three examples, or teachers in balance) the loss is 0. NaN where any teacher's distance
        is: a vote that cannot be counted decides nothing. Memory grows as B³.

    Raises:
        TypeError, ValueError: If the embeddings are not floating-point tensors, the shapes don't fit, a tensor is empty
            or the margin is not positive.

    Example:
        >>> teacher = torch.tensor([[[0.0], [1.0], [3.0]]])  # 0 and 1 are near each other
        >>> right, wrong = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [3.0], [1.0]])
        >>> triplet_dissimilarity_loss(right, teacher, margin=1.0)  # (1-3+1, 1-2+1, 2-3+1): none is positive
        tensor(0.)
        >>> triplet_dissimilarity_loss(wrong, teacher, margin=1.0)  # (3-1+1, 3-2+1, 2-1+1) / 3
        tensor(2.3333)

    Source: You et al. 2017: relative dissimilarities as triplets, unified by voting. The Euclidean distance and the
    mean over all triplets of a batch are our choice; we found no code of the authors.
    """
    _check_embeddings_of_many(student_embeddings, teacher_embeddings)
    _check_numbers(margin=margin)
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}: at 0 a collapsed student would be perfect")
    opinions = [_distances(rows) for rows in teacher_embeddings.detach()]
    votes, unheard = sum(map(_farther, opinions)), torch.stack(opinions).isnan().any()
    count = len(student_embeddings)
    distinct = ~torch.eye(count, dtype=torch.bool, device=student_embeddings.device)
    decided = (votes > 0) & distinct[:, :, None] & distinct[:, None, :]  # (i, j, k): j is the nearer, by majority
    distances = _distances(student_embeddings)
    hinge = (distances[:, :, None] - distances[:, None, :] + margin).clamp(min=0)
    loss: Tensor = (hinge * decided).sum() / decided.sum().clamp(min=1)
    return loss.masked_fill(unheard, math.nan).to(torch.promote_types(student_embeddings.dtype, torch.float32))


def _farther(distances: Tensor) -> Tensor:  # (B, B) -> (B, B, B)
    """At (i, j, k): 1 where k is farther from i than j is, -1 where it is nearer, 0 where they are equally far."""
    near, far = distances[:, :, None], distances[:, None, :]
    clear = (far - near).abs() > _TIE * (far + near)
    return ((far > near) & clear).to(torch.int16) - ((far < near) & clear).to(torch.int16)


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


def _check_embeddings_of_many(student: Tensor, teachers: Tensor) -> None:
    sides: tuple[tuple[str, object, str], ...] = (("student", student, "(B, D)"), ("teacher", teachers, "(K, B, D)"))
    for side, embeddings, shape in sides:
        if not isinstance(embeddings, Tensor):
            kind, hint = type(embeddings).__name__, "torch.stack makes one of several"
            raise TypeError(f"the {side}'s embeddings must be a tensor {shape}, got {kind}: {hint}")
        if not embeddings.is_floating_point():
            raise TypeError(f"the {side}'s embeddings must be floating point, got {embeddings.dtype}: take activations")
        if embeddings.dim() != shape.count(",") + 1 or embeddings.numel() == 0:
            raise ValueError(f"the {side}'s embeddings must be {shape}, not empty, got {tuple(embeddings.shape)}")
    if len(student) != teachers.shape[1]:
        raise ValueError(
            f"student and teachers need the same examples, got {len(student)} and {teachers.shape[1]} of them"
        )


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
