"""Relations by similarity: which examples are alike to the student as they are to the teacher.

Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1907.09682 (SP);
Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1904.01802 (CC);
Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837 (PKT). Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features; student and teacher may differ in D.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["correlation_congruence_loss", "probabilistic_transfer_loss", "similarity_preserving_loss"]

_LEAST_SIMILARITY = 2.0**-20  # of opposite examples, whose logarithm would be -inf; exact in float32


def similarity_preserving_loss(
    student_features: Tensor,  # (B, ...)
    teacher_features: Tensor,  # (B, ...)
) -> Tensor:  # ()
    r"""Squared difference of the two networks' similarity matrices of a batch, each row brought to length 1 (SP).

    .. math::
        \frac{1}{B^2} \Big\| \frac{G^s}{\|G^s_i\|_2} - \frac{G^t}{\|G^t_i\|_2} \Big\|_F^2, \quad G_{ij} = x_i^\top x_j

    where :math:`\|G_i\|_2` is the norm of row i. A translation of the features changes it: features far from zero, as
    after a ReLU, look alike all of them, and the loss is small whatever the student does.

    Args:
        student_features: :math:`x^s`, vectors or maps, flattened per example. Receives the gradient.
        teacher_features: :math:`x^t`, of the same examples, any size. Treated as a constant.

    Returns:
        Scalar loss, no unit, in [0, 4/B], hence the usual weight of 3,000. Neither side's rotation, reflection or scale
        matters. A row of zeros stays zero.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If they are not of the same examples, or empty.
        RuntimeError: If a second derivative is asked for (``create_graph=True``): the gradient is worked out by hand.

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # rows (1, 1)/√2, and (1, 0), (0, 1)
        >>> similarity_preserving_loss(alike, different)  # 2 ((1 - √½)² + ½) / 4
        tensor(0.2929)

    Source: Tung and Mori 2019, equations 1 to 4; RepDistiller's code agrees, rounding included: in float32, features of
    mean 1000 and sd 1 leave the gradient three right digits. torchdistill divides the rows by their L1
    norm, the second argument of ``normalize`` being p.
    """
    _check_features(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    units = []
    for features in (student_features, teacher_features.detach()):
        gram: Tensor = _Gram.apply(features.flatten(1).to(dtype))
        norm = torch.linalg.vector_norm(gram, dim=1, keepdim=True)
        units.append(gram / norm.masked_fill(norm == 0, 1.0))
    return F.mse_loss(*units)


def correlation_congruence_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D')
    *,
    gamma: float = 0.4,
    order: int = 2,
) -> Tensor:  # ()
    r"""Squared difference of Gaussian correlations between examples, expanded to a few powers (CC).

    .. math::
        \frac{1}{B^2} \sum_{i,j} (K^s_{ij} - K^t_{ij})^2, \quad
        K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} \cos(x_i, x_j)^p
        \;\xrightarrow{P \to \infty}\; e^{-\gamma \|\hat x_i - \hat x_j\|^2}

    with :math:`\hat x` the embedding at length 1. The order of the batch does not matter. It does in the widely copied
    "CC" of RepDistiller, which multiplies differences between student and teacher of neighbouring rows: another
    quantity, for equal widths only, and not 0 for a rotated teacher.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.
        gamma: :math:`\gamma > 0`, the kernel's sharpness. The paper's 0.4.
        order: :math:`P \ge 1`, the highest power. The paper's 2.

    Returns:
        Scalar loss, no unit, at least 0. Neither side's rotation matters, nor the length of any row; a row of zeros has
        cosine 0 with all others and itself.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty, or gamma or the order is out of range.
        RuntimeError: If a second derivative is asked for (``create_graph=True``): the gradient is worked out by hand.

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # cosines 1, and 0 off the diagonal
        >>> correlation_congruence_loss(alike, different)  # 2 (e^-0.8 (0.8 + 0.8²/2))² / 4
        tensor(0.1266)

    Source: Peng et al. 2019, Section 3.3. The paper adds it to distillation by soft targets.
    """
    _check_embeddings(student_embeddings, teacher_embeddings)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be positive and finite, got {gamma}: at 0 all correlations are 1")
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}: the power 0 alone is the same for all pairs")
    student, teacher = (_cosine_gaps(x) for x in (student_embeddings, teacher_embeddings.detach()))
    # aᵖ - bᵖ = (a - b) Q_p with Q_p = a Q_{p-1} + bᵖ⁻¹: cosines near 1 keep what they differ by, a - b, from the gaps
    quotient, power, total = torch.ones_like(student), torch.ones_like(teacher), torch.full_like(student, 2 * gamma)
    for exponent in range(2, order + 1):
        power = power * (1 - teacher)
        quotient = (1 - student) * quotient + power
        total = total + (2 * gamma) ** exponent / math.factorial(exponent) * quotient
    return ((student - teacher) * total * math.exp(-2 * gamma)).square().mean()


def probabilistic_transfer_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D')
) -> Tensor:  # ()
    r"""Divergence of the probabilities with which each example picks its neighbours (PKT).

    .. math::
        \frac1B \sum_i \sum_j p_{ij} \log \frac{p_{ij}}{q_{ij}}, \quad
        p_{ij} = \frac{1 + \cos(x^t_i, x^t_j)}{\sum_k 1 + \cos(x^t_i, x^t_k)}, \quad q \text{ likewise of } x^s

    An example is among its own neighbours. Half of the kernel's range is a cosine below 0, which features after a
    ReLU never have: then p is nearly uniform and the loss small.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.

    Returns:
        Scalar loss in nats, at least 0. Neither side's rotation matters, nor the length of any row; a row of zeros has
        cosine 0 with all others and itself. Opposite examples count as (1 + cos)/2 = 2⁻²⁰, with no gradient there.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty.
        RuntimeError: If a second derivative is asked for (``create_graph=True``): the gradient is worked out by hand.

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # rows ½ ½, and ⅔ ⅓
        >>> probabilistic_transfer_loss(alike, different)  # ⅔ log 4/3 + ⅓ log ⅔
        tensor(0.0566)

    Source: Passalis and Tefas 2018, with the cosine kernel. The authors' code takes the mean over all B²
    entries: this loss divided by B, so that its weight depends on the batch size. It also adds 1e-7 to p and q.
    """
    _check_embeddings(student_embeddings, teacher_embeddings)
    loss: Tensor = _Transfer.apply(*(_cosine_gaps(x) for x in (student_embeddings, teacher_embeddings.detach())))
    return loss.to(torch.promote_types(student_embeddings.dtype, torch.float32))


class _Transfer(torch.autograd.Function):
    """PKT's divergence of gaps g = 1 - cos, from similarities k = 1 - g/2 and probabilities k / Σk.

    Both rows sum to 1, so Σ p log(p/q) = Σ p (e - log(1 + e)) with e = q/p - 1: no term is negative, and small ones
    don't cancel. The gradient is ∂/∂g_ij = -½ p_ij e_ij / (B k_ij).
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        wide = torch.float32 if student.device.type == "mps" else torch.float64  # nearly all alike: e is tiny
        own, picks = ((1 - gaps.to(wide) / 2).clamp_(min=_LEAST_SIMILARITY) for gaps in (student, teacher))
        own_sum, sums = own.sum(dim=1, keepdim=True), picks.sum(dim=1, keepdim=True)
        excess = (own / picks).mul_(sums / own_sum).sub_(1)
        picks /= sums * len(sums)
        if ctx.needs_input_grad[0]:
            slope = (picks * excess).div_(own).mul_(own > _LEAST_SIMILARITY)
            ctx.save_for_backward(slope.to(student.dtype))
        return picks.mul_(excess - excess.log1p()).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        _refuse_second_derivative()
        (slope,) = ctx.saved_tensors
        return slope * (-0.5 * grad).to(slope.dtype), None


def _cosine_gaps(rows: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """One minus the cosines between rows; 1 with a row of zeros."""
    gaps: Tensor = _CosineGaps.apply(rows.to(torch.promote_types(rows.dtype, torch.float32)))
    return gaps


class _CosineGaps(torch.autograd.Function):
    """Gaps 1 - cos_ij as ½ ‖x̂_i - x̂_j‖², x̂ being rows at length 1, with a gradient that is one matrix product.

    Far from zero all cosines are near 1, and what they differ by is lost in a product of float32. In unit rows less
    their mean, r = x̂ - m, it is kept. With W = S + Sᵀ for the gradient S of the gaps:

        ∂loss/∂x_i = -(Σ_j W_ij (r_j - cos_ij r_i) + m Σ_j W_ij gap_ij) / ‖x_i‖
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(rows, dim=1)
        live = (lengths > 0).to(rows.dtype)  # 1, and 0 for a row of zeros
        lengths += 1 - live
        unit = rows / lengths[:, None]
        mean = unit.mean(dim=0)
        unit -= mean
        gram = _full_product(unit, unit)
        half = gram.diagonal() / 2
        gaps = (half[:, None] + half).sub_(gram)
        gaps = torch.lerp(gaps.new_ones(()), gaps, torch.outer(live, live))
        ctx.save_for_backward(unit, mean, live, live / lengths, gaps)
        return gaps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        _refuse_second_derivative()
        unit, mean, live, inverse, gaps = ctx.saved_tensors
        weights = (grad + grad.mT).mul_(live).mul_(-inverse[:, None])
        of_mean = (weights * gaps).sum(dim=1)
        weights.diagonal().sub_(weights.sum(dim=1) - of_mean)
        return _full_product(weights, unit.mT).addr_(of_mean, mean)


class _Gram(torch.autograd.Function):
    """Products of all rows, with a gradient that is one matrix product where autograd takes two."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return _full_product(rows, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        _refuse_second_derivative()
        return _full_product(grad + grad.mT, ctx.saved_tensors[0].mT)


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # only where a graph of the backward pass is asked for
        raise RuntimeError("this loss has no second derivative: call backward or grad without create_graph=True")


def _check_features(student: Tensor, teacher: Tensor) -> None:
    for side, features in (("student", student), ("teacher", teacher)):
        if not features.is_floating_point():
            raise TypeError(f"the {side}'s features must be floating point, got {features.dtype}: take activations")
        if features.dim() < 2 or features.numel() == 0:
            raise ValueError(f"the {side}'s features must be (B, ...), not empty, got {tuple(features.shape)}")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")


def _check_embeddings(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        if not embeddings.is_floating_point():
            raise TypeError(f"the {side}'s embeddings must be floating point, got {embeddings.dtype}: take activations")
        if embeddings.dim() != 2 or embeddings.numel() == 0:
            raise ValueError(
                f"the {side}'s embeddings must be (B, D), not empty, got {tuple(embeddings.shape)}: "
                "use .flatten(1) on maps"
            )
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")
