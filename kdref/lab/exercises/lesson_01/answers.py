"""Right and wrong answers to the exercises of lesson 01, soft targets."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Forms
from kdref.lab.exercises import kept_finite, raw_divergence
from kdref.soft_targets import distillation_loss, kl_divergence

__all__ = ["KL_MISTAKES", "LOSS_MISTAKES", "SHIFT_MISTAKES", "best_shift", "my_distillation_loss", "my_kl"]


def my_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """01.1."""
    return kl_divergence(student_logits, teacher_logits, temperature=temperature)


def _log_of_softmax(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    q, p = F.softmax(student_logits / temperature, dim=-1), F.softmax(teacher_logits / temperature, dim=-1)
    return (p * (p.log() - q.log())).sum(dim=-1)


def _cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    return -(p * F.log_softmax(student_logits / temperature, dim=-1)).sum(dim=-1)


def _softened(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return F.softmax(s / temperature, dim=-1), F.softmax(t / temperature, dim=-1)


def _log_softened(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=-1)


def _over_the_batch(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_q, log_p = F.log_softmax(s / temperature, dim=0), F.log_softmax(t / temperature, dim=0)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _own_log(log: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def divergence(s: Tensor, t: Tensor, temperature: float) -> Tensor:
        q, p = _softened(s, t, temperature)
        return (p * (log(p) - log(q))).sum(dim=-1)

    return divergence


_LAST_AXIS = "the classes are the last axis: the probabilities of one example add up to 1, so dim=-1 in log_softmax."

KL_MISTAKES: dict[str, tuple[Any, str]] = {
    "a mean over the classes": (
        lambda s, t, temperature: my_kl(s, t, temperature) / s.shape[-1],
        "KL is a sum over classes. A mean makes it C times too small; several published codes have shipped that.",
    ),
    "a mean over everything": (
        lambda s, t, temperature: my_kl(s, t, temperature).mean() / s.shape[-1],
        'one value per example is asked for, and F.kl_div\'s reduction="mean" divides by the classes as well.',
    ),
    "a mean over the batch": (
        lambda s, t, temperature: my_kl(s, t, temperature).mean(),
        "one value per example is asked for; the mean comes later, in the loss.",
    ),
    "swapped arguments": (
        lambda s, t, temperature: my_kl(t, s, temperature),
        "the expectation is under the teacher: KL(p || q), p the teacher's probabilities, q the student's.",
    ),
    "temperature forgotten on the student": (
        lambda s, t, temperature: my_kl(s * temperature, t, temperature),
        "both are softened, or a student equal to its teacher is told to change.",
    ),
    "temperature forgotten": (
        lambda s, t, temperature: my_kl(s, t, 1.0),
        "divide both logits by it before the softmax.",
    ),
    "the temperature squared already": (
        lambda s, t, temperature: my_kl(s, t, temperature) * temperature**2,
        "the factor belongs to the loss, not to the divergence.",
    ),
    "cross-entropy": (
        _cross_entropy,
        "it is not zero where student equals teacher: the teacher's entropy is missing.",
    ),
    "log(softmax(x))": (
        _log_of_softmax,
        "a probability that rounds to 0 has the logarithm -inf. F.log_softmax never leaves log space.",
    ),
    "temperature forgotten on the teacher": (
        lambda s, t, temperature: my_kl(s, t * temperature, temperature),
        "both are softened, or a student equal to its teacher is told to change.",
    ),
    "multiplied by the temperature": (
        lambda s, t, temperature: my_kl(s * temperature**2, t * temperature**2, temperature),
        "a high temperature makes the probabilities more alike: divide the logits by it.",
    ),
    "kl_div of probabilities": (
        lambda s, t, temperature: raw_divergence(*_softened(s, t, temperature)),
        "F.kl_div wants the logarithm of the student's probabilities first: F.log_softmax.",
    ),
    "kl_div of two logarithms": (
        lambda s, t, temperature: raw_divergence(*(q.log() for q in _softened(s, t, temperature))),
        "the second argument are probabilities, unless log_target=True says that it is their logarithm too.",
    ),
    "clamped probabilities": (
        kept_finite(_own_log),
        "at logits of 10,000 the clamp, or what was added, decides the value. F.log_softmax needs neither.",
    ),
    "the sign turned round": (
        lambda s, t, temperature: -my_kl(s, t, temperature),
        "log p - log q, in this order: the divergence is never negative.",
    ),
    "without the teacher's probabilities": (
        lambda s, t, temperature: (_log_softened(t, temperature) - _log_softened(s, temperature)).sum(dim=-1),
        "each difference counts as much as the teacher's probability of its class.",
    ),
    "a sum over everything": (
        lambda s, t, temperature: my_kl(s, t, temperature).sum(),
        "one value per example is asked for: sum over the last axis only.",
    ),
    "softmax over the batch": (_over_the_batch, _LAST_AXIS),
}


def my_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, soft_weight: float, temperature: float
) -> Tensor:
    """01.2."""
    return distillation_loss(student_logits, teacher_logits, labels, soft_weight=soft_weight, temperature=temperature)


def _loss_with(soft: Callable[[Tensor, Tensor, float], Tensor], hard_at: float | None = 1.0) -> Callable[..., Tensor]:
    """The loss with another soft term, or with the hard term at another temperature (None: the soft term's)."""

    def loss(s: Tensor, t: Tensor, labels: Tensor, soft_weight: float, temperature: float) -> Tensor:
        hard = F.cross_entropy(s / (hard_at or temperature), labels)
        return (1 - soft_weight) * hard + soft_weight * soft(s, t, temperature).mean()

    return loss


def _weighed(combine: Callable[[Tensor, Tensor, float, float], Tensor]) -> Callable[..., Tensor]:
    """Another sum of the hard term, the soft term with its τ², the weight and the temperature."""

    def loss(s: Tensor, t: Tensor, labels: Tensor, soft_weight: float, temperature: float) -> Tensor:
        soft = temperature**2 * my_kl(s, t, temperature).mean()
        return combine(F.cross_entropy(s, labels), soft, soft_weight, temperature)

    return loss


LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
    "missing τ²": (
        _loss_with(my_kl),
        "without it the soft term's gradient falls as 1/τ², and the balance with the labels moves with τ.",
    ),
    "τ instead of τ²": (
        _loss_with(lambda s, t, temperature: my_kl(s, t, temperature) * temperature),
        "one 1/τ comes from the chain rule, a second one from the probabilities, which move closer together.",
    ),
    "weights swapped": (
        lambda s, t, labels, soft_weight, temperature: my_distillation_loss(s, t, labels, 1 - soft_weight, temperature),
        "soft_weight weighs the soft term, and 1 - soft_weight the labels.",
    ),
    "temperature on the hard term": (
        _loss_with(lambda s, t, temperature: my_kl(s, t, temperature) * temperature**2, hard_at=None),
        "the labels are met at temperature 1: that is how the student will be used.",
    ),
    "a mean over the classes": (
        _loss_with(lambda s, t, temperature: my_kl(s, t, temperature) * temperature**2 / s.shape[-1]),
        'KL is a sum over classes and a mean over examples: reduction="batchmean", not "mean".',
    ),
    "student and teacher swapped": (
        _loss_with(lambda s, t, temperature: my_kl(t, s, temperature) * temperature**2),
        "the expectation is under the teacher: KL(p || q), p the teacher's probabilities, q the student's.",
    ),
    "no (1 - soft_weight)": (
        _weighed(lambda hard, soft, w, tau: hard + w * soft),
        "the two weights sum to 1: at soft_weight 1 the labels are not looked at.",
    ),
    "no weight": (
        _weighed(lambda hard, soft, w, tau: hard + soft),
        "(1 - soft_weight) belongs to the labels' term and soft_weight to the teacher's.",
    ),
    "τ² on everything": (
        _weighed(lambda hard, soft, w, tau: tau**2 * (1 - w) * hard + w * soft),
        "the labels are met at temperature 1, so their term needs no factor.",
    ),
    "τ² on the labels' term": (
        _weighed(lambda hard, soft, w, tau: tau**2 * (1 - w) * hard + w * soft / tau**2),
        "it is the teacher's term whose gradient falls as 1/τ².",
    ),
    "divided by τ²": (
        _weighed(lambda hard, soft, w, tau: (1 - w) * hard + w * soft / tau**4),
        "the gradient is too small at a high temperature: the factor makes up for it.",
    ),
    "kl_div of probabilities": (
        _loss_with(lambda s, t, temperature: raw_divergence(*_softened(s, t, temperature)) * temperature**2),
        "F.kl_div wants the logarithm of the student's probabilities first: F.log_softmax.",
    ),
    "temperature forgotten on the teacher": (
        _loss_with(lambda s, t, temperature: my_kl(s, t * temperature, temperature) * temperature**2),
        "both are softened, or a student equal to its teacher is told to change.",
    ),
    "temperature forgotten on the student": (
        _loss_with(lambda s, t, temperature: my_kl(s * temperature, t, temperature) * temperature**2),
        "both are softened, or a student equal to its teacher is told to change.",
    ),
    "temperature forgotten": (
        _loss_with(lambda s, t, temperature: my_kl(s, t, 1.0) * temperature**2),
        "in the divergence both logits are divided by it.",
    ),
    "cross-entropy with the teacher": (
        _loss_with(lambda s, t, temperature: _cross_entropy(s, t, temperature) * temperature**2),
        "the gradient is right! The value is too large by the teacher's entropy: the divergence is asked for.",
    ),
    "a sum over the examples": (
        Forms(
            _weighed(lambda hard, soft, w, tau: 2 * ((1 - w) * hard + w * soft)),
            _weighed(lambda hard, soft, w, tau: (1 - w) * hard + 2 * w * soft),
        ),
        "both terms are means over the examples, or the batch's size would change the learning rate.",
    ),
    "softmax before the cross-entropy": (
        lambda s, t, labels, w, tau: (
            (1 - w) * F.cross_entropy(F.softmax(s, dim=-1), labels) + w * tau**2 * my_kl(s, t, tau).mean()
        ),
        "F.cross_entropy wants logits: it takes the softmax itself.",
    ),
    "softmax over the batch": (_loss_with(lambda s, t, tau: _over_the_batch(s, t, tau) * tau**2), _LAST_AXIS),
    "one value per example": (
        lambda s, t, labels, w, tau: (
            (1 - w) * F.cross_entropy(s, labels, reduction="none") + w * tau**2 * my_kl(s, t, tau)
        ),
        "a loss is one number: the mean over the examples.",
    ),
}


def best_shift(logits: Tensor, labels: Tensor, klass: int, amounts: list[float]) -> float:
    """01.4."""
    return _best(amounts, lambda amount: _accuracy(_shifted(logits, klass, amount), labels))


def _shifted(logits: Tensor, klass: int, amount: float) -> Tensor:
    return logits + amount * F.one_hot(torch.tensor(klass), logits.shape[-1])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=-1) == labels).double().mean().item()


def _best(amounts: list[float], score: Callable[[float], float]) -> float:
    return max(amounts, key=score)  # the first of equals: amounts come in ascending order


def _recall_only(logits: Tensor, labels: Tensor, klass: int, amounts: list[float]) -> float:
    rows = labels == klass
    return _best(amounts, lambda amount: _accuracy(_shifted(logits, klass, amount)[rows], labels[rows]))


SHIFT_MISTAKES: dict[str, tuple[Any, str]] = {
    "recall of the class alone": (
        _recall_only,
        "the larger the shift, the more examples of the class are found, until everything is called by its name.",
    ),
    "a row shifted, or every class": (
        lambda logits, labels, klass, amounts: amounts[0],
        "argmax doesn't notice it when all logits of an example move together. Classes are columns: logits[:, klass].",
    ),
    "the largest of equals": (
        lambda logits, labels, klass, amounts: best_shift(logits, labels, klass, amounts[::-1]),
        "where several amounts do equally well, the smallest changes least.",
    ),
    "the accuracy instead of the amount": (
        lambda logits, labels, klass, amounts: max(_accuracy(_shifted(logits, klass, a), labels) for a in amounts),
        "return the amount that reaches it.",
    ),
    "its place in the list": (
        lambda logits, labels, klass, amounts: amounts.index(best_shift(logits, labels, klass, amounts)),
        "return the amount itself, not where it stands.",
    ),
    "shifts that add up": (
        lambda logits, labels, klass, amounts: amounts[
            (sums := torch.tensor(amounts).cumsum(0).tolist()).index(best_shift(logits, labels, klass, sums))
        ],
        "each amount is tried on the given logits, not on those that the last one has shifted already.",
    ),
    "the amount for the logit": (
        lambda logits, labels, klass, amounts: _best(
            amounts, lambda amount: _accuracy(logits.index_fill(1, torch.tensor(klass), amount), labels)
        ),
        "the class keeps its own logits: the amount is added to them.",
    ),
}
