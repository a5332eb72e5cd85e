"""Right and wrong answers to the exercises of lesson 02, response-based distillation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Forms
from kdref.lab.exercises import kept_finite
from kdref.response import logit_matching_loss, nontarget_class_divergence
from kdref.soft_targets import kl_divergence

__all__ = [
    "MATCHING_MISTAKES",
    "NONTARGET_MISTAKES",
    "WEIGHT_MISTAKES",
    "my_logit_matching",
    "my_nontarget_divergence",
    "my_weights",
]


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=-1)


def _pick(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels[:, None])[:, 0]


def my_logit_matching(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """02.1."""
    return logit_matching_loss(student_logits, teacher_logits)


def _squares(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).square()


def _centred(logits: Tensor, dim: int = -1) -> Tensor:
    return logits - logits.mean(dim=dim, keepdim=True)


MATCHING_MISTAKES: dict[str, tuple[Any, str]] = {
    "raw logits": (
        Forms(
            lambda s, t: _squares(s, t).mean() / 2,
            lambda s, t: _squares(s, t).mean(),
            lambda s, t: _squares(s, t).sum(dim=-1).mean(),
            lambda s, t: _squares(s, t).sum(dim=-1).mean() / 2,
        ),
        "a number added to all of an example's logits changes no probability: take each example's mean off first.",
    ),
    "the sum over classes": (
        Forms(
            lambda s, t: my_logit_matching(s, t) * s.shape[-1],
            lambda s, t: my_logit_matching(s, t) * s.shape[-1] * 2,
        ),
        "the formula divides by C as well as by 2.",
    ),
    "the half forgotten": (
        lambda s, t: my_logit_matching(s, t) * 2,
        "the formula has a 2 below: with it this is what τ² KL tends to.",
    ),
    "a sum over examples": (
        Forms(
            lambda s, t: my_logit_matching(s, t) * len(s),
            lambda s, t: my_logit_matching(s, t) * s.numel(),
            lambda s, t: my_logit_matching(s, t) * s.numel() * 2,
        ),
        "a loss is the mean over examples, and the formula divides by C too.",
    ),
    "one mean for the whole batch": (
        lambda s, t: _squares(s - s.mean(), t - t.mean()).mean() / 2,
        "each example has a shift of its own: take its own mean off, over its classes.",
    ),
    "centred over the batch": (
        lambda s, t: _squares(_centred(s, 0), _centred(t, 0)).mean() / 2,
        "a mean along axis 0 is a class's mean over examples. Each example's mean over its classes is asked for.",
    ),
    "one side centred": (
        Forms(
            lambda s, t: _squares(_centred(s), t).mean() / 2,
            lambda s, t: _squares(s, _centred(t)).mean() / 2,
        ),
        "both sides have a shift that softmax ignores.",
    ),
    "probabilities": (
        lambda s, t: _squares(s.softmax(dim=-1), t.softmax(dim=-1)).mean() / 2,
        "no softmax here: the logits themselves are compared.",
    ),
}


def my_nontarget_divergence(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """02.2."""
    return nontarget_class_divergence(student_logits, teacher_logits, labels, temperature=temperature)


def _masked(fill: float) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """Take the target out by adding to its logit, or by setting it to zero."""

    def divergence(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
        target = F.one_hot(labels, s.shape[-1])
        s, t = ((z * (1 - target) if fill == 0 else z / temperature + fill * target) for z in (s, t))
        return kl_divergence(s, t, temperature=temperature if fill == 0 else 1.0)

    return divergence


def _masked_with_inf(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    target = F.one_hot(labels, s.shape[-1]).bool()
    log_q, log_p = ((z / temperature).masked_fill(target, -torch.inf).log_softmax(dim=-1) for z in (s, t))
    return F.kl_div(log_q, log_p.exp(), reduction="none").sum(dim=-1)


def _own_log(log: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    def divergence(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
        others = ~F.one_hot(labels, s.shape[-1]).bool()
        q, p = (_softened(z[others].reshape(len(z), -1), temperature) for z in (s, t))
        return (p * (log(p) - log(q))).sum(dim=-1)

    return divergence


def _ratio_of_softmax(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The formula as it is printed: a softmax of all classes, divided by 1 - p of the label."""
    others = ~F.one_hot(labels, s.shape[-1]).bool()
    q, p = (_softened(z, temperature)[others].reshape(len(z), -1) for z in (s, t))
    q, p = (share / share.sum(dim=-1, keepdim=True) for share in (q, p))
    return (p * (p.log() - q.log())).sum(dim=-1)


def _probabilities_to_kl_div(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    others = ~F.one_hot(labels, s.shape[-1]).bool()
    q, p = (_softened(z[others].reshape(len(z), -1), temperature) for z in (s, t))
    return F.kl_div(q, p, reduction="none").sum(dim=-1)


def _not_normalised(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (F.log_softmax(z / temperature, dim=-1) for z in (s, t))
    terms = log_p.exp() * (log_p - log_q)
    return terms.sum(dim=-1) - _pick(terms, labels)


NONTARGET_MISTAKES: dict[str, tuple[Any, str]] = {
    "not normalised again": (
        _not_normalised,
        "without the target, the rest of a softmax does not sum to 1. Take a softmax of the others alone.",
    ),
    "a mask of zeros": (
        _masked(0),
        "a logit of 0 still has a weight of exp(0) = 1. The target must leave the softmax.",
    ),
    "a mask of minus 1000": (
        _masked(-1000.0),
        "10,000 less 1,000 is still the largest: a finite mask fails at some size. Leave the target out.",
    ),
    "a mask of minus infinity": (
        _masked_with_inf,
        "0 times infinity is nan: the target's own term is p (log p - log q) at p = q = 0. Leave the column out.",
    ),
    "the logarithm of a softmax": (
        Forms(_ratio_of_softmax, _own_log(torch.log)),
        "a softmax underflows to 0, whose logarithm is minus infinity. Leave the label's logit out first, then take "
        "log_softmax of the others.",
    ),
    "probabilities in kl_div": (
        _probabilities_to_kl_div,
        "F.kl_div wants the student's logarithms first: log_softmax, not softmax.",
    ),
    "student and teacher swapped": (
        lambda s, t, labels, tau: my_nontarget_divergence(t, s, labels, tau),
        "the teacher's probabilities weigh the logarithms, as in lesson 01.",
    ),
    "the temperature forgotten": (
        lambda s, t, labels, tau: my_nontarget_divergence(s, t, labels, 1.0),
        "both sides' logits are divided by it before the softmax.",
    ),
    "τ² in front": (
        lambda s, t, labels, tau: tau**2 * my_nontarget_divergence(s, t, labels, tau),
        "τ² belongs to the loss, dkd_loss; the divergence has none.",
    ),
    "a mean": (
        Forms(
            lambda s, t, labels, tau: my_nontarget_divergence(s, t, labels, tau).mean(),
            lambda s, t, labels, tau: my_nontarget_divergence(s, t, labels, tau) / (s.shape[-1] - 1),
        ),
        "a divergence is a sum over classes, and one number per example is asked for.",
    ),
    "probabilities kept from 0": (
        kept_finite(_own_log),
        "a clamp hides the largest differences there are. Stay with log_softmax of the others' logits.",
    ),
    "the factor 1 - p in front": (
        lambda s, t, labels, tau: (1 - _pick(_softened(t, tau), labels)) * my_nontarget_divergence(s, t, labels, tau),
        "that is what plain distillation does, and what decoupling undoes.",
    ),
    "the teacher's choice left out": (
        lambda s, t, labels, tau: my_nontarget_divergence(s, t, t.argmax(dim=-1), tau),
        "the second teacher is wrong, and the target is still the label.",
    ),
}


def my_weights(teacher_logits: Tensor, labels: Tensor, strength: float, temperature: float) -> Tensor:
    """02.4."""
    teacher_logits = teacher_logits.detach()
    return _if_right(teacher_logits, labels, strength, 1 - _pick(_softened(teacher_logits, temperature), labels))


def _if_right(t: Tensor, labels: Tensor, weight: float | Tensor, otherwise: float | Tensor) -> Tensor:
    return torch.where(t.argmax(dim=-1) == labels, weight, otherwise)


WEIGHT_MISTAKES: dict[str, tuple[Any, str]] = {
    "right and wrong swapped": (
        lambda t, labels, strength, tau: _if_right(t, labels, 1 - _pick(_softened(t, tau), labels), strength),
        "the strength is for examples where the teacher's first choice is the label.",
    ),
    "one minus the largest probability": (
        lambda t, labels, strength, tau: _if_right(t, labels, strength, 1 - _softened(t, tau).amax(dim=-1)),
        "plain distillation's weight is one minus the probability of the label, also where another class is first.",
    ),
    "another weight where the teacher is wrong": (
        Forms(
            lambda t, labels, strength, tau: _if_right(t, labels, strength, torch.zeros(len(t))),
            lambda t, labels, strength, tau: _if_right(t, labels, strength, torch.ones(len(t))),
            lambda t, labels, strength, tau: torch.full((len(t),), strength),
        ),
        "there plain distillation's weight of NCKD is asked for: the factor before it in section 1's formula.",
    ),
    "strength as a factor": (
        lambda t, labels, strength, tau: _if_right(t, labels, strength, 1.0) * (1 - _pick(_softened(t, tau), labels)),
        "where the teacher is right the weight is the strength itself, the same for every such example.",
    ),
    "p for 1 - p": (
        lambda t, labels, strength, tau: _if_right(t, labels, strength, _pick(_softened(t, tau), labels)),
        "where the teacher is wrong, it should weigh what it weighs in plain distillation.",
    ),
    "the temperature forgotten": (
        lambda t, labels, strength, tau: my_weights(t, labels, strength, 1.0),
        "the divergences are taken of softened probabilities, so their weight is too.",
    ),
    "one weight for the batch": (
        lambda t, labels, strength, tau: my_weights(t, labels, strength, tau).mean(),
        "dkd_loss takes a weight per example, shape (B,).",
    ),
}
