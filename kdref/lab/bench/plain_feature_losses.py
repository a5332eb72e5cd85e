"""Losses on feature maps as textbooks and authors' codes write them, by us, like ``plain_losses``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.feature import VariationalRegressor

__all__ = ["attention", "flow", "overhaul", "selectivity", "variational"]


def selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """NST by the kernel of every two channels: B·C·C·H·W numbers."""
    s, t = (F.normalize(maps.flatten(2), dim=2) for maps in (student, teacher))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, None] * b[:, :, None]).sum(dim=-1).square().mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def flow(student: Tensor, teacher: Tensor) -> Tensor:
    """FSP by broadcasting the two layers, which are stacked: B·C·C·H·W numbers."""
    layers = ([maps.flatten(2) for maps in stacked.unbind()] for stacked in (student, teacher))
    s, t = ((first[:, :, None] * second[:, None]).mean(dim=-1) for first, second in layers)
    return F.mse_loss(s, t)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """AT, the authors' code."""
    s, t = (F.normalize(x.pow(2).mean(dim=1).flatten(1)) for x in (student, teacher))
    return (s - t).pow(2).mean()


def variational(student: Tensor, teacher: Tensor, regressor: VariationalRegressor) -> Tensor:
    """VID element by element, with the same layers; the logarithm of exp overflows where ours does not."""
    variance = ((1 + regressor.raw_variance.exp()).log() + regressor.eps).reshape(1, -1, 1, 1)
    mean: Tensor = regressor(student)
    return 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()


def overhaul(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """OFD with a mask of what counts."""
    teacher = torch.maximum(teacher, margin[:, None, None])
    counts = (student > teacher) | (teacher > 0)
    return ((student - teacher).square() * counts).mean()
