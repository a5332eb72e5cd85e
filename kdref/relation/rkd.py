"""Relational knowledge distillation: the student keeps the teacher's distances and angles between examples.

Source: Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068 (RKD).
Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features; student and teacher may differ in D.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["rkd_angle_loss", "rkd_distance_loss"]

_BLOCK = 1 << 18  # angles worked on at once: 1 MB in float32, so that they stay in a processor's cache


def rkd_distance_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D')
) -> Tensor:  # ()
    r"""Huber loss between the two networks' distances of all pairs, each divided by its network's mean distance.

    .. math::
        \frac{1}{B^2} \sum_{i,j} \ell\!\left(\frac{d^s_{ij}}{\mu^s}, \frac{d^t_{ij}}{\mu^t}\right), \quad
        d_{ij} = \|x_i - x_j\|, \quad \mu = \frac{1}{B(B-1)} \sum_{i \ne j} d_{ij}, \quad
        \ell(a, b) = \begin{cases} \frac12 (a - b)^2 & |a - b| \le 1 \\ |a - b| - \frac12 & \text{otherwise} \end{cases}

    The mean leaves out the zeros of an example's distance to itself, else the loss depends on the batch size.

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
    only, where the definition needs B·B·D differences and B³·D products. Time still grows as B³.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.

    Returns:
        Scalar loss, no unit, in [0, 1.5]. Neither side's rotation, shift or scale matters. Batches of one and two
        give 0; at an example that equals the vertex there is no angle, and its cosine counts as 0.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty.
        RuntimeError: If a second derivative is asked for (``create_graph=True``): the gradient is worked out by hand.

    Example:
        >>> line, triangle = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)  # cosines 1, -1, 1; 1/2 each
        >>> rkd_angle_loss(line, triangle)  # 2 (1/8 + (3/2 - 1/2) + 1/8) / 27
        tensor(0.0926)

    Source: Park et al. 2019, equations 7 and 8, averaged over all :math:`B^3` entries as in the authors' code; the
    paper sums over triples of distinct examples. The paper weighs distances to angles 1 : 2.
    """
    _check_embeddings(student_embeddings, teacher_embeddings)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    squared = []
    for embeddings in (student_embeddings, teacher_embeddings.detach()):
        distances = _squared_distances(embeddings)
        size = distances.detach().mean()  # a constant: angles do not depend on it, and it keeps float32 in range
        squared.append((distances / size.masked_fill(size == 0, 1.0)).to(dtype))
    loss: Tensor = _AngleLoss.apply(*squared)
    return loss


class _AngleLoss(torch.autograd.Function):
    """The angle loss of squared distances, a few vertices at a time, its gradient worked out on the way.

    At vertex i, with squared edges a_j = d²_ij, their inverse lengths u_j = 1/√a_j (0 where a_j is 0), the Huber loss's
    slope h_jk and w_jk = h_jk u_j u_k:

        cos_jk = ½ u_j u_k (a_j + a_k - d²_jk)
        ∂loss/∂d²_jk = -½ w_jk,    ∂loss/∂a_j = ½ Σ_k w_jk - ½ u_j² Σ_k w_jk (a_k - d²_jk)
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:  # (B, B), (B, B)
        count = len(student)
        u, v = _inverse_roots(student), _inverse_roots(teacher)
        # factors of ½ (√a_j u_k + u_j √a_k), the student's less the teacher's; of the cosines, ½ u_j u_k d²_jk is left
        left = torch.stack([student * u, u, -teacher * v, -v], dim=2)
        right = torch.stack([u, student * u, v, teacher * v], dim=2) / 2
        rows = torch.stack([torch.ones_like(student), student], dim=1)
        total, slope = student.new_zeros(()), torch.zeros_like(student)
        block = max(1, _BLOCK // count**2)
        gap_buffer, weight_buffer, spare_buffer = student.new_empty(3, min(block, count), count, count)
        for start in range(0, count, block):
            here = slice(start, min(start + block, count))
            gap, weight, spare = (x[: here.stop - start] for x in (gap_buffer, weight_buffer, spare_buffer))
            torch.bmm(left[here], right[here].mT, out=gap)
            torch.mul(v[here, :, None], v[here, None, :], out=weight)
            gap.addcmul_(teacher, weight, value=0.5)
            torch.mul(u[here, :, None], u[here, None, :], out=weight)
            gap.addcmul_(student, weight, value=-0.5)  # now the difference of the cosines
            huber = torch.clamp(gap, -1, 1, out=spare)
            total += torch.dot(huber.view(-1), gap.view(-1)) - torch.dot(huber.view(-1), huber.view(-1)) / 2
            if ctx.needs_input_grad[0]:
                weight.mul_(huber)
                slope.sub_(weight.sum(dim=0), alpha=0.5)
                sums, products = _full_product(weight, rows[here]).unbind(dim=2)
                products = products - torch.mul(weight, student, out=spare).sum(dim=2)
                slope[here] += (sums - u[here] ** 2 * products) / 2
        ctx.save_for_backward(slope / count**3)
        return total / count**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        _refuse_second_derivative()
        return grad * ctx.saved_tensors[0], None


def _inverse_roots(squared: Tensor) -> Tensor:
    """One over the distance, and 0 where the distance is 0."""
    return squared.masked_fill(squared == 0, torch.inf).rsqrt()


def _relative_distances(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Distances divided by their mean over distinct pairs; zeros if all are 0."""
    squared = _squared_distances(embeddings)
    equal = squared == 0
    distances = squared.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0)  # the root has no gradient at 0
    mean = distances.sum() / max(1, len(distances) * (len(distances) - 1))
    return distances / mean.masked_fill(mean == 0, 1.0)


def _squared_distances(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Squared distances by the Gram identity on centred rows: G_ii + G_jj - 2 G_ij.

    The difference loses what the norms have in common, so it is taken in float64 (which Apple's GPUs lack).
    """
    rows = embeddings.to(torch.float32 if embeddings.device.type == "mps" else torch.float64)
    rows = rows - rows[:1].detach()  # equal rows become exact zeros; a shift has no gradient
    rows = rows - rows.mean(dim=0).detach()
    gram = _full_product(rows, rows)
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    squared = sums - 2 * gram
    return squared.masked_fill(squared <= 64 * torch.finfo(gram.dtype).eps * sums, 0.0)  # rounding, not distance


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # only where a graph of the backward pass is asked for
        raise RuntimeError("this loss has no second derivative: call backward or grad without create_graph=True")


def _check_embeddings(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        if not embeddings.is_floating_point():
            raise TypeError(f"the {side}'s embeddings must be floating point, got {embeddings.dtype}: take activations")
        size = tuple(embeddings.shape)
        if len(size) != 2 or 0 in size:
            raise ValueError(f"the {side}'s embeddings must be (B, D), not empty, got {size}: use .flatten(1) on maps")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")
