"""The exercises and the quiz of lesson 06, several teachers."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, calls, number
from kdref.multi_teacher import average_probabilities, confidence_weights, multi_teacher_loss

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.5, -0.5], [0.0, 2.0, 1.0]])
_TEACHERS = torch.tensor(
    [[[4.0, 0.0, -1.0], [0.0, 3.0, 0.0]], [[0.0, 2.0, 0.0], [1.0, 2.0, 2.0]], [[1.0, 0.0, 0.0], [-2.0, 1.0, 3.0]]]
)
_LABELS = torch.tensor([0, 1])
_WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
_VOTES = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0], [1, 2, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0]])
_TRUE = torch.tensor([0, 1, 2, 0, 1, 2])


def my_average(teacher_logits: Tensor, temperature: float) -> Tensor:
    """06.1."""
    z = teacher_logits / temperature
    return z.softmax(dim=-1).mean(dim=0)


_AVERAGE_MISTAKES: dict[str, tuple[Any, str]] = {
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


def _against_average(s: Tensor, z: Tensor, w: Tensor, tau: float) -> Tensor:
    average = average_probabilities(z, weights=w, temperature=tau)
    return tau**2 * F.kl_div(F.log_softmax(s / tau, dim=-1), average, reduction="batchmean")


_LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
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


_CONFIDENCE_MISTAKES: dict[str, tuple[Any, str]] = {
    "the worst gets the most": (
        lambda z, y: _surprise(z, y).softmax(dim=0),
        "a large cross-entropy is a bad teacher: 1 minus the softmax is asked for.",
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


_TRUST_MISTAKES: dict[str, tuple[Any, str]] = {
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

EXERCISES: dict[str, Exercise] = {
    "06.1": Exercise(
        title="The arithmetic mean",
        hint="teacher_logits is (K, B, C): softmax over the last axis, mean over the first.",
        differs=calls(at_temperatures("three teachers, two examples", _TEACHERS)),
        solution=my_average,
        mistakes=_AVERAGE_MISTAKES,
        remark="These are probabilities, softened already: whoever softens them again gets nearly nothing.",
    ),
    "06.2": Exercise(
        title="The loss against all of them",
        hint="The divergence of lesson 01 for each teacher, (K, B); then the weights, the mean, and τ².",
        differs=calls(at_temperatures("three teachers, two examples", _STUDENT, _TEACHERS, _WEIGHTS)),
        solution=my_loss,
        mistakes=_LOSS_MISTAKES,
        remark="Its gradient is that of the loss against the weighted mean of the probabilities.",
    ),
    "06.3": Exercise(
        title="Confidence weights",
        hint="F.cross_entropy(row, labels, reduction='none') for each teacher; softmax over teachers; 1 minus; divide.",
        differs=calls(
            {
                "three teachers": (_TEACHERS, _LABELS),
                "two of them": (_TEACHERS[:2], _LABELS),
                "other labels": (_TEACHERS, torch.tensor([2, 2])),
            }
        ),
        solution=my_confidence_weights,
        mistakes=_CONFIDENCE_MISTAKES,
        remark="No weight can exceed 1/(K - 1): the best of many teachers is not singled out.",
    ),
    "06.4": Exercise(
        title="Predict the right one's say",
        hint="The two wrong ones share almost all of the softmax of the cross-entropies. What is left for each?",
        differs=number(),
        solution=0.5,
        mistakes={
            "it gets everything": (1.0, "no weight exceeds 1/(K - 1), and K is 3."),
            "equal weights": (1 / 3, "then the formula would not look at the labels. It does."),
            "it gets nothing": (
                0.0,
                "its cross-entropy is the smallest, so its share of the softmax is near 0. And 1 - 0?",
            ),
            "a quarter": (0.25, "that is what each of the wrong ones gets: (1 - ½)/2."),
        },
        remark="So the two wrong ones keep the other half, and if they agree on a class it is a tie.",
    ),
    "06.5": Exercise(
        title="Design: trust from a few labels",
        hint="Accuracy of each teacher on the labelled examples, minus 1/C; nothing below 0; divide by the sum.",
        differs=calls(
            {
                "one right, one nearly, one never, one that always says 0": (
                    F.one_hot(_VOTES, 3).float(),
                    _TRUE,
                ),
                "the first two": (F.one_hot(_VOTES[:2], 3).float(), _TRUE),
            }
        ),
        solution=my_trust,
        mistakes=_TRUST_MISTAKES,
        remark="A weight per teacher needs few labels, because there are few teachers.",
    ),
}

QUIZ = (
    Question(
        "One of three teachers gives a class probability 10⁻²⁰; the other two are sure of it. Which mean drops it?",
        {
            "The geometric": "A product is as small as its smallest factor allows: one teacher can veto.",
            "The arithmetic": "It keeps two thirds: a class is likely if one teacher finds it likely.",
            "Both": "The arithmetic mean keeps two thirds of the probability there.",
        },
        right="The geometric",
    ),
    Question(
        "Your multi-teacher loss stops falling at 0.3 and the student's gradient is zero. What is wrong?",
        {
            "Nothing": "The teachers disagree by 0.3 nats on average: below that the loss can't go.",
            "The student is too small": "Then the gradient would not be zero with respect to its logits.",
            "The temperature is too low": "At any temperature the loss ends at the teachers' disagreement there.",
        },
        right="Nothing",
    ),
    Question(
        "No labels, four teachers, and you fear that one is sure and wrong. What do entropy weights do?",
        {
            "They trust it most": "Entropy measures how sure a teacher is, and this one is sure.",
            "They shut it out": "For that they would have to know that it is wrong; entropy doesn't look at labels.",
            "Nothing at all": "They differ from equal weights as soon as one teacher is surer than another.",
        },
        right="They trust it most",
    ),
)
