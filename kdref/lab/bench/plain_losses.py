"""Each loss as a textbook or its authors' code writes it, by us: the benchmark's plain forms, and oracles in tests.

They are right where numbers are moderate, and only there: none checks its input, and some are not finite at large
logits. Copy from the heart, not from here.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "decoupled",
    "distillation",
    "hard_label",
    "label_smoothing",
    "learnable_temperature",
    "logit_matching",
    "normalized",
    "soft_targets",
    "standardized",
    "stronger_teacher",
    "virtual_teacher",
]


def soft_targets(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Soft targets as most tutorials and libraries have them: log-probabilities against probabilities."""
    log_q = F.log_softmax(student / temperature, dim=1)
    p = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * temperature**2


def distillation(
    student: Tensor, teacher: Tensor, labels: Tensor, *, soft_weight: float = 0.9, temperature: float = 4.0
) -> Tensor:
    """Cross-entropy and soft targets, weighted."""
    soft = soft_targets(student, teacher, temperature=temperature)
    return (1 - soft_weight) * F.cross_entropy(student, labels) + soft_weight * soft


def logit_matching(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared error of logits, each side centred."""
    student, teacher = (logits - logits.mean(dim=1, keepdim=True) for logits in (student, teacher))
    return F.mse_loss(student, teacher) / 2


def hard_label(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy with the teacher's choice."""
    return F.cross_entropy(student, teacher.argmax(dim=1))


def label_smoothing(student: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with a table of smoothed one-hot labels."""
    classes = student.shape[1]
    targets = torch.full_like(student, smoothing / classes)
    targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)
    return -(targets * F.log_softmax(student, dim=1)).sum(dim=1).mean()


def virtual_teacher(student: Tensor, labels: Tensor, *, confidence: float = 0.99, temperature: float = 4.0) -> Tensor:
    """Soft targets of a table of logits made from labels."""
    teacher = torch.full_like(student, math.log((1 - confidence) / (student.shape[1] - 1)))
    teacher.scatter_(1, labels[:, None], math.log(confidence))
    return soft_targets(student, teacher, temperature=temperature)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def learnable_temperature(student: Tensor, teacher: Tensor) -> Tensor:
    """Soft targets at a temperature of 4 that is learned, between 1 and 20, by a layer that turns its gradient."""
    raw = torch.tensor(math.log(3 / 16), requires_grad=True)
    temperature = 1 + 19 * torch.sigmoid(_Reverse.apply(raw))
    log_q = F.log_softmax(student / temperature, dim=1)
    p = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * temperature**2


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 4.0) -> Tensor:
    """DKD in the form with two masks that published codes share: probabilities summed, logits lowered by 1000."""
    target = torch.zeros_like(student).scatter_(1, labels[:, None], 1).bool()
    rest = torch.ones_like(student).scatter_(1, labels[:, None], 0).bool()
    q, p = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    pair_q, pair_p = (
        torch.cat([(x * target).sum(dim=1, keepdim=True), (x * rest).sum(dim=1, keepdim=True)], dim=1) for x in (q, p)
    )
    target_part = F.kl_div(pair_q.log(), pair_p, reduction="batchmean")
    log_q = F.log_softmax(student / temperature - 1000.0 * target, dim=1)
    others_p = F.softmax(teacher / temperature - 1000.0 * target, dim=1)
    others_part = F.kl_div(log_q, others_p, reduction="batchmean")
    return (target_part + 8.0 * others_part) * temperature**2


def normalized(
    student: Tensor, teacher: Tensor, labels: Tensor, *, soft_weight: float = 1.5, temperature: float = 1.0
) -> Tensor:
    """NKD with the other classes picked by a mask."""
    index = labels[:, None]
    target = F.softmax(teacher, dim=1).gather(1, index) * F.log_softmax(student, dim=1).gather(1, index)
    mask = torch.ones_like(student, dtype=torch.bool).scatter_(1, index, False)
    student, teacher = (logits[mask].reshape(len(labels), -1) / temperature for logits in (student, teacher))
    others = (F.softmax(teacher, dim=1) * F.log_softmax(student, dim=1)).sum(dim=1)
    return -target.mean() - soft_weight * temperature**2 * others.mean()


def stronger_teacher(student: Tensor, teacher: Tensor) -> Tensor:
    """DIST: cosine similarities of centred probabilities, along the rows and then along the columns."""
    q, p = F.softmax(student, dim=1), F.softmax(teacher, dim=1)
    loss = student.new_zeros(())
    for u, v in ((q, p), (q.T, p.T)):
        u, v = (x - x.mean(dim=1, keepdim=True) for x in (u, v))
        loss = loss + 1 - F.cosine_similarity(u, v, dim=1).mean()
    return loss


def standardized(student: Tensor, teacher: Tensor, *, temperature: float = 2.0, eps: float = 1e-7) -> Tensor:
    """Soft targets of z-scores."""
    student, teacher = (
        (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + eps)
        for logits in (student, teacher)
    )
    return soft_targets(student, teacher, temperature=temperature)
