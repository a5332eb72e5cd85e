"""Relations by similarity: which examples are alike to the student as they are to the teacher.

Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1907.09682 (SP);
Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1904.01802 (CC);
Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837 (PKT). Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features; student and teacher may differ in D.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["correlation_congruence_loss", "probabilistic_transfer_loss", "similarity_preserving_loss"]

_LEAST = 2.0**-19  # of 1 + cos, so that the logarithm of opposite examples is finite


def similarity_preserving_loss(
    student_features: Tensor,  # (B, ...)
    teacher_features: Tensor,  # (B, ...)
) -> Tensor:  # ()
    r"""Squared difference of the two networks' similarity matrices of a batch, each row brought to length 1 (SP).

    .. math::
        \frac{1}{B^2} \Big\| \frac{G^s}{\|G^s_i\|_2} - \frac{G^t}{\|G^t_i\|_2} \Big\|_F^2, \quad G_{ij} = x_i^\top x_j

    where :math:`\|G_i\|_2` is the norm of row i. A translation of the features changes it: features far from zero, as
    after a ReLU, look alike all of them, and the loss is small whatever the student does.

    In float32 features with mean 1000 and sd 1 (B 64, D 128) cost three digits: value and gradient are off by 0.03 % at
    most. Handed in as float64 they are right to 1e-12.

    Args:
        student_features: :math:`x^s`, vectors or maps, flattened per example. Receives the gradient.
        teacher_features: :math:`x^t`, of the same examples, any size. Treated as a constant.

    Returns:
        Scalar loss, no unit, in [0, 4/B], hence the usual weight of 3,000. Neither side's rotation, reflection or scale
        matters. A row of zeros stays zero.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If they are not of the same examples, or empty.

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # rows (1, 1)/√2, and (1, 0), (0, 1)
        >>> similarity_preserving_loss(alike, different)  # 2 ((1 - √½)² + ½) / 4
        tensor(0.2929)

    Source: Tung and Mori 2019, equations 1 to 4; RepDistiller's code agrees. torchdistill divides the rows by their L1
    norm, the second argument of ``normalize`` being p.
    """
    _check_features(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    rows = (_largest_one(x.flatten(1).to(dtype)) for x in (student_features, teacher_features.detach()))
    student, teacher = (_unit_rows(_full_product(x, x)) for x in rows)
    return F.mse_loss(student, teacher)


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
    quantity, for equal widths only, and not 0 for a rotated teacher. torchdistill's neither brings the rows to length 1
    nor squares the differences: rows (1, 0) and (1, 1) against their double give 3.04 there, 0 here.

    Features far from zero have cosines near 1, which float32 cannot tell apart: with sd 1 (B 64, D 128) the gradient is
    off by 0.03 % at mean 10 and by 2 % at mean 100, and at mean 1000 value and gradient are rounding, off by more
    than their size. Hand in float64 there: then both are right to 1e-8.

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

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # cosines 1, and 0 off the diagonal
        >>> correlation_congruence_loss(alike, different)  # 2 (e^-0.8 (0.8 + 0.8²/2))² / 4
        tensor(0.1266)

    Source: Peng et al. 2019, Section 3.3. The paper adds it to distillation by soft targets.
    """
    _check_features(student_embeddings, teacher_embeddings, vectors=True)
    _check_numbers(gamma=gamma, order=order)
    _check_counts(order=order)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be positive and finite, got {gamma}: at 0 all correlations are 1")
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    weights = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    sides = []
    for embeddings in (student_embeddings, teacher_embeddings.detach()):
        cosines = _cosines(embeddings.to(dtype))
        powers = (weight * cosines**p for p, weight in enumerate(weights))
        sides.append(sum(powers, start=cosines.new_zeros(())))
    return F.mse_loss(sides[0], sides[1])


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

    Features far from zero have cosines near 1, which float32 cannot tell apart: with sd 1 (B 64, D 128) the gradient is
    off by 0.03 % at mean 10 and by 3 % at mean 100, and at mean 1000 it is rounding, off by more than its size. The
    value, 3e-15 there, is rounded by 3e-8 in any case. Hand in float64: then the gradient is right to 1e-8.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, shape ``(B, D')``. Treated as a constant.

    Returns:
        Scalar loss in nats, at least 0 but for rounding. Neither side's rotation matters, nor the length of any row; a
        row of zeros has cosine 0 with all others and itself. Opposite examples count as (1 + cos)/2 = 2⁻²⁰, with no
        gradient there.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not ``(B, D)`` with the same examples, or empty.

    Example:
        >>> alike, different = torch.tensor([[1.0], [1.0]]), torch.eye(2)  # rows ½ ½, and ⅔ ⅓
        >>> probabilistic_transfer_loss(alike, different)  # ⅔ log 4/3 + ⅓ log ⅔
        tensor(0.0566)

    Source: Passalis and Tefas 2018, with the cosine kernel. The authors' code takes the mean over all B²
    entries: this loss divided by B, so that its weight depends on the batch size. It also adds 1e-7 to p and q.
    """
    _check_features(student_embeddings, teacher_embeddings, vectors=True)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    sides = []
    for embeddings in (student_embeddings, teacher_embeddings.detach()):
        similar = (1 + _cosines(embeddings.to(dtype))).clamp(min=_LEAST)
        sides.append(similar / similar.sum(dim=1, keepdim=True))
    q, p = sides
    return (p * (p / q).log()).sum() / len(p)


def _largest_one(rows: Tensor) -> Tensor:  # (B, D)
    """Divided by the largest of all, a constant: the loss does not depend on the scale, and no product overflows."""
    largest = rows.detach().abs().amax()
    return rows / largest.masked_fill(largest == 0, 1.0)


def _unit_rows(gram: Tensor) -> Tensor:  # (B, B)
    """Rows of length 1; zeros stay zeros."""
    return gram * _inverse_roots(gram.square().sum(dim=1, keepdim=True))


def _cosines(rows: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Cosines of all pairs; 0 with a row of zeros, also of itself."""
    largest = rows.detach().abs().amax(dim=1, keepdim=True)  # constants: the result does not depend on lengths
    rows = rows / largest.clamp(min=torch.finfo(rows.dtype).tiny)  # so that no square overflows
    gram = _full_product(rows, rows)
    inverse = _inverse_roots(gram.diagonal())
    return gram * inverse[:, None] * inverse


def _inverse_roots(squares: Tensor) -> Tensor:
    """One over the roots, and 0 for a root of 0."""
    return squares.masked_fill(squares == 0, torch.inf).rsqrt()


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_features(student: Tensor, teacher: Tensor, *, vectors: bool = False) -> None:
    kind, form = ("embeddings", "(B, D)") if vectors else ("features", "(B, ...)")
    hint = ": use .flatten(1) on maps" if vectors else ""
    for side, tensor in (("student", student), ("teacher", teacher)):
        _check_activations(tensor, f"the {side}'s {kind}")
        size = tuple(tensor.shape)
        if len(size) < 2 or 0 in size or (vectors and len(size) > 2):
            raise ValueError(f"the {side}'s {kind} must be {form}, not empty, got {size}{hint}")
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher need the same examples, got {len(student)} and {len(teacher)} of them")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if int(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
