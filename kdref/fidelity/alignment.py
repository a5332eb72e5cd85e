"""How alike two layers see the relations between the same examples, whatever their width, rotation and scale.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019,
https://arxiv.org/abs/1905.00414; Song et al., "Feature Selection via Dependence Maximization", JMLR 13, 2012.
Lesson: notebooks/15_fidelity.ipynb; lesson 03 meets it first.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features; ``...`` is any number of axes.
"""

import math

import torch
from torch import Tensor

__all__ = ["centered_kernel_alignment"]


def centered_kernel_alignment(
    student_features: Tensor,  # (B, ...)
    teacher_features: Tensor,  # (B, ...)
    *,
    unbiased: bool = True,
) -> Tensor:  # ()
    r"""Linear CKA: the cosine of the two tables of inner products between examples, each centred.

    .. math::
        \frac{\langle \tilde K, \tilde L \rangle_F}{\|\tilde K\|_F \, \|\tilde L\|_F}, \quad
        K = X X^\top, \; L = Y Y^\top

    Biased, :math:`\tilde K` is K of features less their mean. With few examples and many features that goes to 1,
    whatever the features: each example is most like itself. Unbiased, the diagonal is left out, and

    .. math::
        \tilde K_{ij} = K_{ij} - \frac{\sum_{l \ne i} K_{il} + \sum_{l \ne j} K_{lj}}{B - 2}
        + \frac{\sum_{l \ne m} K_{lm}}{(B - 1)(B - 2)} \;\; (i \ne j), \quad \tilde K_{ii} = 0

    whose products are the unbiased HSIC of Song et al. times B (B - 3). No gradient reaches either side.

    Args:
        student_features: X, of B examples, any shape behind; flattened.
        teacher_features: Y, of the same examples in the same order; may have another shape.
        unbiased: Leave the diagonal out. Values of the two forms can't be compared.

    Returns:
        Scalar: 1 where one is a rotation, reflection, shift or scale of the other. Biased from 0; unbiased it scatters
        around 0 where the two have nothing in common, to both sides. 0 if either side's examples are all equal.

    Raises:
        TypeError: If features are not floating point.
        ValueError: If they are not ``(B, ...)`` of equally many examples, or of fewer than four (biased: two).

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
        >>> centered_kernel_alignment(x, 3 * x.flip(1) + 5)
        tensor(1.)

    Source: Kornblith et al. 2019, equation 4, with the linear kernel; Song et al. 2012, equation 5.
    """
    _check_both_features(student_features, teacher_features, 4 if unbiased else 2)
    student, teacher = (_relations(features, unbiased) for features in (student_features, teacher_features))
    return (student * teacher).sum().to(torch.promote_types(student_features.dtype, torch.float32))


def _relations(features: Tensor, unbiased: bool) -> Tensor:  # (B, ...) -> (B, B)
    """Centred inner products of the examples, as a matrix of length 1; zeros where there is nothing but rounding."""
    dtype = torch.float32 if features.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    rows = features.detach().flatten(1).to(dtype)
    rows = rows - rows[:1]  # examples that are all equal are now exactly 0, as a mean would not make them
    largest = rows.abs().amax()
    rows = rows / largest.masked_fill(largest == 0, 1.0)  # so that no product overflows
    rows = rows - rows.mean(dim=0)
    gram = _full_product(rows, rows)
    n, centred = len(gram), gram
    if unbiased:
        others = gram - gram.diag().diag()  # an example's likeness to itself is left out
        sums = others.sum(dim=0)
        centred = others - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        centred = centred - centred.diag().diag()
    length = centred.norm()
    relations: Tensor = centred / length.masked_fill(length <= 1e-12 * gram.norm(), math.inf)
    return relations


def _check_both_features(student: Tensor, teacher: Tensor, least: int) -> None:
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        if not isinstance(features, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(features).__name__}: use torch.as_tensor")
        if not features.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {features.dtype}")
        if features.dim() < 2 or features.numel() == 0:
            raise ValueError(f"{name} must be (B, ...), not empty, got {tuple(features.shape)}")
    if len(student) != len(teacher) or len(student) < least:
        raise ValueError(f"needs features of the same examples, {least} or more, got {len(student)} and {len(teacher)}")


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT
