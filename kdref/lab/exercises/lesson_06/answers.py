"""Right and wrong answers to the exercises of lesson 06, several teachers."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.multi_teacher import average_probabilities, confidence_weights, multi_teacher_loss

__all__ = [
    "AVERAGE_MISTAKES",
    "CONFIDENCE_MISTAKES",
    "LOSS_MISTAKES",
    "TRUST_MISTAKES",
    "my_average",
    "my_confidence_weights",
    "my_loss",
    "my_trust",
]


def my_average(teacher_logits: Tensor, temperature: float) -> Tensor:
    """06.1."""
    z = teacher_logits / temperature
    return z.softmax(dim=-1).mean(dim=0)


AVERAGE_MISTAKES: dict[str, tuple[Any, str]] = {
    "logits averaged": (
        lambda z, tau: (z.mean(dim=0) / tau).softmax(dim=-1),
        "that is the geometric mean. Softmax comes first, then the mean.",
    ),
    "softened twice": (
        lambda z, tau: (z / tau).softmax(dim=-1).mean(dim=0).softmax(dim=-1),
        "the mean of probabilities is a probability already: no second softmax.",
    ),
    "the temperature after the mean": (
        lambda z, tau: F.normalize(z.softmax(dim=-1).mean(dim=0) ** (1 / tau), p=1.0, dim=-1),
        "each teacher is softened by itself, before the mean.",
    ),
    "summed": (
        lambda z, tau: (z / tau).softmax(dim=-1).sum(dim=0),
        "the result must sum to 1 over classes: the mean over teachers is asked for.",
    ),
    "over the examples": (
        lambda z, tau: (z / tau).softmax(dim=-1).mean(dim=1),
        "teachers are the first axis. Each example keeps a row of its own.",
    ),
}


def my_loss(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """06.2."""
    return multi_teacher_loss(student_logits, teacher_logits, weights=weights, temperature=temperature)


def _divergences(s: Tensor, z: Tensor, tau: float) -> Tensor:  # (K, B)
    log_q, log_p = F.log_softmax(s / tau, dim=-1), F.log_softmax(z / tau, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _reverse(s: Tensor, z: Tensor, tau: float) -> Tensor:  # (K, B)
    log_q, log_p = F.log_softmax(s / tau, dim=-1), F.log_softmax(z / tau, dim=-1)
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1)


def _against_average(s: Tensor, z: Tensor, w: Tensor, tau: float) -> Tensor:
    average = average_probabilities(z, weights=w, temperature=tau)
    return tau**2 * F.kl_div(F.log_softmax(s / tau, dim=-1), average, reduction="batchmean")


def _of_probabilities(s: Tensor, z: Tensor, w: Tensor, tau: float) -> Tensor:
    q, p = (s / tau).softmax(dim=-1), (z / tau).softmax(dim=-1)
    each = torch.stack([F.kl_div(q, teacher, reduction="batchmean") for teacher in p])
    return tau**2 * (w * each).sum()


LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
    "equal weights": (
        lambda s, z, w, tau: tau**2 * _divergences(s, z, tau).mean(),
        "the second teacher's weight is 0.3, not a third.",
    ),
    "divided by the number of teachers": (
        lambda s, z, w, tau: tau**2 * (w[:, None] * _divergences(s, z, tau)).mean(),
        "the weights sum to 1, so nothing is left to divide by. CA-MKD's code has this one.",
    ),
    "missing τ²": (
        lambda s, z, w, tau: (w[:, None] * _divergences(s, z, tau)).sum(dim=0).mean(),
        "the soft term carries the temperature squared (lesson 01).",
    ),
    "against the mean of the logits": (
        lambda s, z, w, tau: tau**2 * _divergences(s, (w[:, None, None] * z).sum(dim=0, keepdim=True), tau).mean(),
        "that is another target, the geometric mean. Take each teacher's divergence by itself.",
    ),
    "against the averaged probabilities": (
        _against_average,
        "the gradient is right! The value is too small by the teachers' disagreement, a constant.",
    ),
    "the divergence turned round": (
        lambda s, z, w, tau: tau**2 * (w[:, None] * _reverse(s, z, tau)).sum(dim=0).mean(),
        "the teachers' probabilities stand in front, KL(teacher ‖ student). F.kl_div takes the student first.",
    ),
    "kl_div of probabilities": (
        _of_probabilities,
        "F.kl_div takes the student's log-probabilities, and the teachers' probabilities.",
    ),
    "the teachers not softened": (
        lambda s, z, w, tau: tau**2 * (w[:, None] * _divergences(s, tau * z, tau)).sum(dim=0).mean(),
        "both sides are divided by τ, the teachers' logits too.",
    ),
    "summed over the examples": (
        lambda s, z, w, tau: tau**2 * (w[:, None] * _divergences(s, z, tau)).sum(),
        "sum over teachers, mean over examples.",
    ),
}


def my_confidence_weights(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """06.3."""
    return confidence_weights(teacher_logits, labels)


def _surprise(z: Tensor, y: Tensor) -> Tensor:
    return torch.stack([F.cross_entropy(row, y, reduction="none") for row in z])


CONFIDENCE_MISTAKES: dict[str, tuple[Any, str]] = {
    "the worst gets the most": (
        lambda z, y: _surprise(z, y).softmax(dim=0),
        "a large cross-entropy is a bad teacher: 1 minus the softmax is asked for.",
    ),
    "how sure, not how right": (
        lambda z, y: (1 - torch.special.entr(z.softmax(-1)).sum(-1).softmax(dim=0)) / (len(z) - 1),
        "that looks at the teacher's entropy. The cross-entropy with the label is asked for.",
    ),
    "the sum is K - 1": (
        lambda z, y: 1 - _surprise(z, y).softmax(dim=0),
        "K numbers that sum to 1, each taken from 1, sum to K - 1. Divide.",
    ),
    "softmax of the negative": (
        lambda z, y: (-_surprise(z, y)).softmax(dim=0),
        "that singles out the best teacher. CA-MKD takes 1 minus the softmax of the losses; with two it is the same.",
    ),
    "one weight for the whole batch": (
        lambda z, y: (
            ((1 - _surprise(z, y).mean(dim=1).softmax(dim=0)) / (len(z) - 1))[:, None].expand(-1, len(y)).clone()
        ),
        "each example has its own weights: no mean over the batch.",
    ),
    "normalised over the batch": (
        lambda z, y: (1 - _surprise(z, y).softmax(dim=1)) / (z.shape[1] - 1),
        "the weights of one example sum to 1 over teachers, the first axis.",
    ),
}


def my_trust(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """06.5."""
    return _proportional(_right(teacher_logits, labels) - 1 / teacher_logits.shape[-1])


def _right(z: Tensor, y: Tensor) -> Tensor:
    return (z.argmax(dim=-1) == y).double().mean(dim=1)


def _proportional(scores: Tensor) -> Tensor:
    return scores.clamp(min=0) / scores.clamp(min=0).sum()


TRUST_MISTAKES: dict[str, tuple[Any, str]] = {
    "chance is rewarded": (
        lambda z, y: _proportional(_right(z, y)),
        "a teacher that always says the same class is right 1/C of the time. That is worth nothing: take it off.",
    ),
    "negative weights": (
        lambda z, y: (_right(z, y) - 1 / z.shape[-1]) / (_right(z, y) - 1 / z.shape[-1]).sum(),
        "a teacher below chance gets 0, not a negative weight.",
    ),
    "the best alone": (
        lambda z, y: F.one_hot(_right(z, y).argmax(), len(z)).double(),
        "the second-best knows something too: a share in proportion is asked for.",
    ),
    "a softmax": (
        lambda z, y: _right(z, y).softmax(dim=0),
        "accuracies lie between 0 and 1, so a softmax of them is nearly equal: the bad teacher keeps its say.",
    ),
    "not brought to the sum 1": (
        lambda z, y: (_right(z, y) - 1 / z.shape[-1]).clamp(min=0),
        "the weights must sum to 1.",
    ),
}
