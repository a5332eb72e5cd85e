"""Losses on relations between examples as textbooks and authors' codes write them, by us, like ``plain_losses``."""

import math

import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.relation import ContrastiveMemory

__all__ = ["congruence", "contrastive", "relational", "similarity", "transfer"]


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD, distances and twice the angles, with all B·B differences: B·B·D numbers."""
    distances, angles = [], []
    for x in (student, teacher):
        squares = x.square().sum(dim=1)
        distance = (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt()
        distance = distance * (1 - torch.eye(len(x), dtype=x.dtype))
        distances.append(distance / distance[distance > 0].mean())
        edges = F.normalize(x - x[:, None], dim=2)
        angles.append(edges @ edges.mT)
    return F.smooth_l1_loss(distances[0], distances[1]) + 2 * F.smooth_l1_loss(angles[0], angles[1])


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """SP: rows of the Gram matrix at length 1."""
    s, t = (F.normalize(x @ x.T, dim=1) for x in (student, teacher))
    return F.mse_loss(s, t)


def congruence(student: Tensor, teacher: Tensor, *, gamma: float = 0.4, order: int = 2) -> Tensor:
    """CC: powers of all cosines, summed."""
    kernels = []
    for x in (student, teacher):
        x = F.normalize(x, dim=1)
        cosines = x @ x.T
        powers = [(2 * gamma) ** p / math.factorial(p) * cosines**p for p in range(order + 1)]
        kernels.append(math.exp(-2 * gamma) * torch.stack(powers).sum(dim=0))
    return F.mse_loss(kernels[0], kernels[1])


def transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT as its formula reads, leaner than the authors' code: no mask, no floor."""
    picks = []
    for x in (student, teacher):
        x = F.normalize(x, dim=1)
        similar = x @ x.T + 1
        picks.append((similar / similar.sum(dim=1, keepdim=True)).log())
    return F.kl_div(picks[0], picks[1], reduction="batchmean", log_target=True)


def contrastive(
    student: Tensor,
    teacher: Tensor,
    indices: Tensor,
    negatives: Tensor,
    memory: ContrastiveMemory,
    *,
    temperature: float = 0.07,
) -> Tensor:
    """CRD with a gather of B·K·D numbers, each example's own negatives; here all have the same, so that it is ours."""
    count, width = len(negatives), student.shape[1]
    own = negatives.expand(len(indices), count)
    kept = own != indices[:, None]
    order = width / 2 - 1  # the mean of exp(κ cos) over the sphere, by a Bessel function
    log_mean = scipy.special.gammaln(width / 2) + order * math.log(2 * temperature) + 1 / temperature
    noise = count * math.exp(log_mean + math.log(scipy.special.ive(order, 1 / temperature)))
    loss = student.new_zeros(())
    for anchors, bank in ((student, memory.teacher_bank), (teacher, memory.student_bank)):
        bank = bank.to(anchors.dtype)
        drawn = bank.index_select(0, torch.cat([indices[:, None], own], dim=1).flatten())
        scores = torch.bmm(drawn.view(len(anchors), count + 1, width), anchors[:, :, None]).squeeze(2)
        scores = (scores / temperature).exp()
        positive, negative = scores[:, 0], scores[:, 1:]
        rejected = (noise / (negative + noise)).log() * kept
        found = (positive / (positive + noise)).log()
        loss = loss - (found + rejected.sum(dim=1) * count / kept.sum(dim=1)).mean()
    return loss
