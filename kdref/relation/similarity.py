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
from torch import Tensor

__all__ = ["correlation_congruence_loss", "probabilistic_transfer_loss", "similarity_preserving_loss"]

_MOST_GAP = 2 - 2.0**-19  # of opposite examples, whose similarity's logarithm would be -inf; exact in float32


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

    Source: Tung and Mori 2019, equations 1 to 4; RepDistiller's code agrees. torchdistill divides the rows by their L1
    norm, the second argument of ``normalize`` being p. Where matrices differ too little for float32, as those of
    features with mean 1000 and sd 1, they are worked out once more in float64; compiled or on a GPU, in any case.
    """
    _check_features(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    own, others = student_features.flatten(1).to(dtype), teacher_features.detach().flatten(1).to(dtype)
    value, gradient = _similarity_gap(own, others)
    if _needs_float64(len(own) * value):
        value, gradient = _similarity_gap(own.double(), others.double())
    loss: Tensor = _WithGradient.apply(own, value, gradient)
    return loss


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
    _check_features(student_embeddings, teacher_embeddings, vectors=True)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be positive and finite, got {gamma}: at 0 all correlations are 1")
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}: the power 0 alone is the same for all pairs")
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    own, others = student_embeddings.to(dtype), teacher_embeddings.detach().to(dtype)
    with torch.no_grad():
        (student, parts), teacher = _cosine_gaps(own), _cosine_gaps(others)[0]
        # Horner's scheme for (f(a) - f(b)) / (a - b), f(a) being Σ c_p aᵖ: a - b is exact, from the gaps
        a, b = 1 - student, 1 - teacher
        factors = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(1, order + 1)]
        at_b, quotient = torch.full_like(a, factors[-1]), torch.full_like(a, factors[-1])
        for factor in reversed(factors[:-1]):
            at_b.mul_(b).add_(factor)
            quotient.mul_(a).add_(at_b)
        gap = torch.sub(teacher, student, out=teacher).mul_(quotient)
        value = torch.dot(gap.view(-1), gap.view(-1)) / gap.numel()
        gradient = None
        if own.requires_grad:
            rise = quotient.fill_(order * factors[-1])  # f'(a), by Horner's scheme too
            for power in range(order - 1, 0, -1):
                rise.mul_(a).add_(power * factors[power - 1])
            weights = gap.mul_(rise).mul_(-4 / gap.numel())  # the slope is symmetric: this is twice the slope
            gradient = _rows_gradient(weights, student, *parts)
    loss: Tensor = _WithGradient.apply(own, value, gradient)
    return loss


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
    _check_features(student_embeddings, teacher_embeddings, vectors=True)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    own, others = student_embeddings.to(dtype), teacher_embeddings.detach().to(dtype)
    with torch.no_grad():
        student, parts = _cosine_gaps(own)
        # Both rows sum to 1, so Σ p log(p/q) = Σ q (r log r - r + 1) with r = p/q: no term is negative. The slope of a
        # gap is ½ (r - 1) / (B Σk), with k = 1 - gap/2 and q = k / Σk.
        (short, size), (short_t, _) = _shortfalls(student), _shortfalls(_cosine_gaps(others)[0])
        picks = (2 - student).div_(size).view(-1)
        excess = short.sub_(short_t).view(-1).div_(picks)  # r - 1, well known also near 0
        value = torch.dot(picks, _divergences(excess)) / picks.numel()
        if _needs_float64(value):
            value = torch.dot(picks, _divergences(excess.double()).to(dtype)) / picks.numel()
        gradient = None
        if own.requires_grad:
            uncut = (_MOST_GAP - student).sign_()  # 0 where gaps were cut
            slope = excess.view_as(student).mul_(uncut).div_(size * picks.numel())
            gradient = _rows_gradient(_with_transpose(slope), student, *parts)
    loss: Tensor = _WithGradient.apply(own, value, gradient)
    return loss


def _needs_float64(loss: Tensor) -> bool:
    """Whether float32 leaves it too few right digits. Yes where to look would break a compiled graph or stop a GPU."""
    if loss.dtype != torch.float32 or loss.device.type == "mps":  # Apple's GPUs lack float64
        return False
    return torch.compiler.is_compiling() or loss.device.type != "cpu" or bool(loss < 1e-5)


@torch.no_grad()
def _similarity_gap(own: Tensor, others: Tensor) -> tuple[Tensor, Tensor | None]:
    """SP's value and, where it is asked for, its gradient."""
    (student, inverse), (teacher, _) = _unit_gram(own), _unit_gram(others)
    gap = torch.sub(student, teacher, out=teacher)
    value = torch.dot(gap.view(-1), gap.view(-1)) / gap.numel()
    if not own.requires_grad:
        return value, None  # below, of a row brought to length 1: what is at right angles to it, over its length
    slope = gap.addcmul_(student, torch.linalg.vecdot(student, gap)[:, None], value=-1)
    slope.mul_(inverse * (2 / gap.numel()))
    return value, _full_product(_with_transpose(slope), own.mT)


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is known already: worked out by hand, it takes fewer operations and less memory."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, value: Tensor, gradient: Tensor | None) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.to(rows.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # only where a graph of the backward pass is asked for
            raise RuntimeError("this loss has no second derivative: call backward or grad without create_graph=True")
        return (grad * ctx.saved_tensors[0]).to(grad.dtype), None, None


def _cosine_gaps(rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:  # (B, D) -> (B, B), ...
    """One minus the cosines between rows, 1 with a row of zeros; and what their gradient needs.

    As ½ ‖x̂_i - x̂_j‖² of rows at length 1: a product in float32 loses what cosines near 1 differ by, unit rows less
    their mean, r = x̂ - m, keep it.
    """
    inverse = _inverse_lengths(rows)
    unit = rows * inverse
    mean = unit.mean(dim=0)
    unit -= mean
    gram = _full_product(unit, unit)
    half = (1 - inverse.sign().squeeze(1)).add_(gram.diagonal()).div_(2)  # a row of zeros is short of 1
    return (half[:, None] + half).sub_(gram), (unit, mean, inverse)


def _rows_gradient(weights: Tensor, gaps: Tensor, unit: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:  # (B, D)
    """The gradient of rows in one matrix product, from W = S + Sᵀ for the gradient S of their gaps; overwrites W."""
    # ∂loss/∂x_i = -(Σ_j W_ij (r_j - cos_ij r_i) + m Σ_j W_ij gap_ij) / ‖x_i‖
    weights.mul_(-inverse)
    of_mean = (weights * gaps).sum(dim=1)
    weights.diagonal().sub_(weights.sum(dim=1) - of_mean)
    return _full_product(weights, unit.mT).addr_(of_mean, mean)


def _unit_gram(rows: Tensor) -> tuple[Tensor, Tensor]:  # (B, D) -> (B, B), (B, 1)
    """Rows of the Gram matrix at length 1, zeros staying zeros; and one over what their lengths were."""
    gram = _full_product(rows, rows)
    inverse = _inverse_lengths(gram)
    return gram.mul_(inverse), inverse


def _with_transpose(matrix: Tensor) -> Tensor:
    """A + Aᵀ, copied first: a copy is transposed in blocks, a sum is not."""
    return matrix.mT.contiguous().add_(matrix)


def _inverse_lengths(rows: Tensor) -> Tensor:  # (B, D) -> (B, 1)
    """One over the lengths of rows, and 0 for a row of zeros."""
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return lengths.reciprocal_().nan_to_num_(nan=torch.nan, posinf=0.0)


def _shortfalls(gaps: Tensor) -> tuple[Tensor, Tensor]:  # (B, B) -> (B, B), (B, 1)
    """What PKT's probabilities, times B, are short of 1, and twice the mean similarity. Cuts the gaps in place."""
    mean = gaps.clamp_(max=_MOST_GAP).mean(dim=1, keepdim=True)
    size = 2 - mean
    return (gaps - mean).div_(size), size


def _divergences(excess: Tensor) -> Tensor:
    """r log r - r + 1 from r - 1, which rounding may bring to -1."""
    return torch.log1p(excess.clamp(min=2.0**-24 - 1)).mul_(excess + 1).sub_(excess)


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_features(student: Tensor, teacher: Tensor, *, vectors: bool = False) -> None:
    kind, form = ("embeddings", "(B, D)") if vectors else ("features", "(B, ...)")
    hint = ": use .flatten(1) on maps" if vectors else ""
    for side, tensor in (("student", student), ("teacher", teacher)):
        if not tensor.is_floating_point():
            raise TypeError(f"the {side}'s {kind} must be floating point, got {tensor.dtype}: take activations")
        size = tuple(tensor.shape)
        if len(size) < 2 or 0 in size or (vectors and len(size) > 2):
            raise ValueError(f"the {side}'s {kind} must be {form}, not empty, got {size}{hint}")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")
