"""Ridge regression that learns from its own fitted values: self-distillation that can be solved.

Source: Mobahi, Farajtabar and Bartlett, "Self-Distillation Amplifies Regularization in Hilbert Space", NeurIPS 2020,
https://arxiv.org/abs/2002.05715. Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: N training examples, D outputs.
"""

import math
import numbers

import torch
from torch import Tensor

__all__ = ["ridge_self_distillation"]


def ridge_self_distillation(
    gram: Tensor,  # (N, N)
    targets: Tensor,  # (N, D)
    *,
    penalty: float,
    rounds: int,
    label_weight: float = 0.0,
) -> Tensor:  # (rounds, N, D)
    r"""Kernel ridge regression, fitted again and again to its own fitted values: self-distillation that can be solved.

    .. math::
        Y_1 = S\,Y, \quad Y_t = S\,\big[(1 - a)\,Y_{t-1} + a\,Y\big], \quad S = G\,(G + c I)^{-1}

    Without labels :math:`Y_t = S^t\,Y`: along an eigenvector of G with eigenvalue :math:`\lambda` a round multiplies by
    :math:`\lambda / (\lambda + c)`, so small eigenvalues die first, and in the end all. With labels at weight a it
    converges, to ridge regression with the penalty :math:`c / a`.

    The equations are solved in float64 (but on Apple's GPUs, which lack it): a large G beside a small c leaves float32
    no digit that is right.

    Args:
        gram: :math:`G_{ij} = k(x_i, x_j)`, symmetric, without negative eigenvalues: ``x @ x.T`` is the linear model.
        targets: :math:`Y`, the labels as numbers; subtract their mean if the model has no constant.
        penalty: :math:`c > 0`, of the squared norm beside the *sum* of squared errors; for their mean it is c/N.
        rounds: How many fits, at least 1.
        label_weight: :math:`a` in [0, 1], the labels' share of the targets from the second round on.

    Returns:
        Fitted values of each round, shape ``(rounds, N, D)``, the first one ordinary ridge regression. Elsewhere the
        prediction of round t is :math:`k(x, X)\,(T_t - Y_t)/c`, with :math:`T_t` that round's targets.

    Raises:
        TypeError, ValueError: If the tensors are not floating point, shapes don't fit, the penalty is not positive,
            there is no round or the weight is out of range.

    Example:
        >>> gram, labels = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])  # S is diag(¾, ½)
        >>> ridge_self_distillation(gram, labels, penalty=1.0, rounds=2)[1]
        tensor([[0.5625],
                [0.2500]])

    Source: Mobahi, Farajtabar and Bartlett, "Self-Distillation Amplifies Regularization in Hilbert Space", NeurIPS
    2020, https://arxiv.org/abs/2002.05715 (there c is chosen anew in each round, so that the training error is a given
    one); with labels: Borup and Andersen, "Even your Teacher Needs Guidance", NeurIPS 2021,
    https://arxiv.org/abs/2102.13088.
    """
    _check_ridge(gram, targets, penalty, rounds)
    _check_share("label_weight", label_weight)
    dtype = torch.float32 if gram.device.type == "mps" else torch.float64
    matrix, labels = gram.to(dtype), targets.to(dtype)
    factor, pivots = torch.linalg.lu_factor(matrix + penalty * torch.eye(len(gram), dtype=dtype, device=gram.device))
    fits = [matrix @ torch.linalg.lu_solve(factor, pivots, labels)]
    for _ in range(rounds - 1):
        mixed = (1 - label_weight) * fits[-1] + label_weight * labels
        fits.append(matrix @ torch.linalg.lu_solve(factor, pivots, mixed))
    return torch.stack(fits).to(torch.promote_types(gram.dtype, torch.float32))


def _check_ridge(gram: Tensor, targets: Tensor, penalty: float, rounds: int) -> None:
    for name, tensor in (("gram", gram), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}: use torch.as_tensor")
    if not gram.is_floating_point() or not targets.is_floating_point():
        raise TypeError(f"gram and targets must be floating point, got {gram.dtype} and {targets.dtype}: use .float()")
    if gram.dim() != 2 or targets.dim() != 2 or gram.shape != (len(targets), len(targets)) or not len(targets):
        raise ValueError(f"expected gram (N, N) and targets (N, D), got {tuple(gram.shape)} and {tuple(targets.shape)}")
    _check_numbers(penalty=penalty, rounds=rounds)
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty must be positive and finite, got {penalty}: without it every round is the same")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}: the first is ordinary ridge regression")


def _check_share(name: str, share: float) -> None:
    _check_numbers(**{name: share})
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {share}: it is a share, and the rest has 1 less it")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
