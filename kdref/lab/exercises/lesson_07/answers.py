"""Right and wrong answers to the exercises of lesson 07, cross-modal distillation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Forms
from kdref.soft_targets import soft_target_loss

__all__ = ["INTERVAL_MISTAKES", "LOSS_MISTAKES", "PAIRED_MISTAKES", "lower_end", "my_loss", "paired"]


def my_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """07.1."""
    return _with_soft(student_logits, teacher_logits, labels, temperature, labels == -100)


def _with_soft(s: Tensor, t: Tensor, labels: Tensor, temperature: float, rows: Tensor) -> Tensor:
    loss = 0 * s.sum()
    if (labels != -100).any():
        loss = loss + F.cross_entropy(s, labels, ignore_index=-100)
    return loss + soft_target_loss(s[rows], t[rows], temperature=temperature) if rows.any() else loss


def _mean_over_batch(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    hard = F.cross_entropy(s, labels, ignore_index=-100, reduction="sum") / len(s)
    rows = labels == -100
    soft = soft_target_loss(s[rows], t[rows], temperature=temperature) if rows.any() else 0 * s.sum()
    return hard + soft * rows.float().mean()


def _no_check_for_none(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    rows = labels == -100
    log_q, log_p = (F.log_softmax(z[rows] / temperature, dim=-1) for z in (s, t))
    soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return F.cross_entropy(s, labels, ignore_index=-100) + soft


def _other_soft(soft: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """The loss with another term for the unlabelled rows."""

    def wrong(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
        rows = labels == -100
        hard = _with_soft(s, t, labels, temperature, torch.zeros_like(rows))
        return hard + soft(s[rows], t[rows], temperature) if rows.any() else hard

    return wrong


def _reverse(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return soft_target_loss(t, s, temperature=temperature)


def _of_probabilities(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    q, p = (F.softmax(z / temperature, dim=-1) for z in (s, t))
    return temperature**2 * F.kl_div(q, p, reduction="batchmean")


def _softened_labels(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    rows = labels == -100
    hard = F.cross_entropy(s[~rows] / temperature, labels[~rows]) if not rows.all() else 0 * s.sum()
    return hard + soft_target_loss(s[rows], t[rows], temperature=temperature) if rows.any() else hard


def _unsoftened_teacher(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_q, log_p = F.log_softmax(s / temperature, dim=-1), F.log_softmax(t, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()


def _square_on_everything(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return temperature**2 * _without_square(s, t, labels, temperature)


LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
    "reverse KL": (
        lambda s, t, labels, tau: _other_soft(_reverse)(s, t, labels, tau).detach(),  # arguments swapped: none is left
        "KL(teacher ‖ student) is asked for: the expectation is over the teacher.",
    ),
    "kl_div of probabilities": (
        _other_soft(_of_probabilities),
        "kl_div wants log-probabilities of the student, and probabilities of the teacher.",
    ),
    "the temperature on the labels too": (
        _softened_labels,
        "labels are met at τ = 1, as the student will be used.",
    ),
    "the teacher without the temperature": (
        _other_soft(_unsoftened_teacher),
        "both sides are divided by τ, or the student learns to be τ times too sure.",
    ),
    "a mean over the classes": (
        _other_soft(lambda s, t, tau: soft_target_loss(s, t, temperature=tau) / s.shape[-1]),
        "the divergence is a sum over classes: the mean is over windows.",
    ),
    "τ² on everything": (
        _square_on_everything,
        "τ² belongs to the teacher's term alone: the labels are met at τ = 1.",
    ),
    "the teacher on all rows": (
        Forms(
            lambda s, t, labels, tau: _with_soft(s, t, labels, tau, torch.ones_like(labels, dtype=torch.bool)),
            lambda s, t, labels, tau: (
                F.cross_entropy(s, labels, ignore_index=-100) + soft_target_loss(s, t, temperature=tau)
            ),
        ),
        "the teacher was trained on the labelled windows and is too sure there: ask it about the others only.",
    ),
    "means over the whole batch": (
        _mean_over_batch,
        "each term is a mean over its own rows, or a batch with few labels forgets them.",
    ),
    "the mean of nothing": (
        _no_check_for_none,
        "a batch may hold no labelled or no unlabelled window: the mean of nothing is nan.",
    ),
    "no τ²": (
        lambda s, t, labels, tau: my_loss(s, t, labels, 1.0) if tau == 1 else _without_square(s, t, labels, tau),
        "without τ² the soft term fades as the temperature rises: lesson 01, section 3.",
    ),
    "labels only": (
        lambda s, t, labels, tau: _with_soft(s, t, labels, tau, torch.zeros_like(labels, dtype=torch.bool)),
        "the unlabelled windows are missing: they are what the teacher is for.",
    ),
}


def _without_square(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    hard = _with_soft(s, t, labels, temperature, torch.zeros_like(labels, dtype=torch.bool))
    return hard + (my_loss(s, t, labels, temperature) - hard) / temperature**2


def paired(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    """07.3."""
    length = accelerometer.shape[-1] - abs(lag)
    first, second = max(0, -lag), max(0, lag)
    return torch.cat([accelerometer[:, first : first + length], gyroscope[:, second : second + length]])


def _rolled(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    return torch.cat([accelerometer, gyroscope.roll(-lag, dims=-1)])


def _shifted_back(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    return paired(accelerometer, gyroscope, -lag)


def _ends_cut(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    length = accelerometer.shape[-1] - abs(lag)
    return torch.cat([accelerometer[:, :length], gyroscope[:, :length]])


PAIRED_MISTAKES: dict[str, tuple[Any, str]] = {
    "rolled round": (_rolled, "roll puts the end at the beginning: moments that have no partner must be dropped."),
    "the wrong way": (
        _shifted_back,
        "a late clock writes a moment at a higher index: skip the gyroscope's first samples when the lag is positive.",
    ),
    "only the ends cut": (_ends_cut, "equal lengths are not equal moments: the lag is still there."),
    "positive lags only": (
        lambda a, g, lag: torch.cat([a[:, : a.shape[-1] - lag], g[:, lag:]]) if lag >= 0 else _rolled(a, g, 0),
        "a negative lag means that the gyroscope's clock is early: then the accelerometer's first samples go.",
    ),
}


def lower_end(before: list[float], after: list[float]) -> float:
    """07.4."""
    return _lower(_gains(before, after), _QUANTILES[len(before) - 1])


def _gains(before: list[float], after: list[float]) -> Tensor:
    return torch.tensor(after) - torch.tensor(before)


_QUANTILES = {3: 3.1824, 9: 2.2622}  # of Student's t, 0.975, by degrees of freedom
_ONE_SIDED = {3: 2.3534, 9: 1.8331}  # 0.95


def _lower(difference: Tensor, quantile: float, *, unbiased: bool = True, roots: bool = True) -> float:
    count = len(difference)
    deviation = difference.std(unbiased=unbiased)
    return float(difference.mean() - quantile * deviation / (count**0.5 if roots else 1))


def _unpaired(before: list[float], after: list[float]) -> float:
    count, first, second = len(before), torch.tensor(before), torch.tensor(after)
    deviation = ((first.var() + second.var()) / count).sqrt()
    return float(second.mean() - first.mean() - _QUANTILES[count - 1] * deviation)


INTERVAL_MISTAKES: dict[str, tuple[Any, str]] = {
    "not paired": (
        _unpaired,
        "take the difference person by person first: people differ far more than methods do.",
    ),
    "1.96 for a few people": (
        lambda before, after: _lower(_gains(before, after), 1.96),
        "1.96 belongs to many observations. For n people use Student's t with n - 1 degrees of freedom.",
    ),
    "a quantile of 0.95": (
        lambda before, after: _lower(_gains(before, after), _ONE_SIDED[len(before) - 1]),
        "an interval of 95 % leaves 2.5 % on either side: the quantile is that of 0.975.",
    ),
    "spread, not error of the mean": (
        lambda before, after: _lower(_gains(before, after), _QUANTILES[len(before) - 1], roots=False),
        "that is how far single people lie. The mean's standard error is smaller, by √n.",
    ),
    "the population deviation": (
        lambda before, after: _lower(_gains(before, after), _QUANTILES[len(before) - 1], unbiased=False),
        "divide the squares by n - 1: the mean was taken from the same people.",
    ),
    "before minus after": (
        lambda before, after: lower_end(after, before),
        "a gain must come out positive: after minus before.",
    ),
}
