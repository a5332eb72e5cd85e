"""The exercises and the quiz of lesson 02, response-based distillation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, calls, number
from kdref.response import nontarget_class_divergence, target_class_divergence, virtual_teacher_logits
from kdref.soft_targets import kl_divergence, soft_target_loss

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0, 0.5], [0.5, 2.0, 0.0, -1.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 1.0, 2.5, 0.5]])
_LABELS = torch.tensor([0, 3])  # the second teacher is wrong
_TWO_EXAMPLES = at_temperatures("two examples", _STUDENT, _TEACHER, _LABELS)
_SURE = torch.tensor([[10000.0, 0.0, 3.0, -10000.0]])
_LESS_SURE = torch.tensor([[9000.0, 3.0, 0.0, -10000.0]])


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=-1)


def _pick(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(1, labels[:, None])[:, 0]


def my_target_divergence(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """02.1."""
    return target_class_divergence(student_logits, teacher_logits, labels, temperature=temperature)


def _first_term_only(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    q, p = (_pick(_softened(z, temperature), labels) for z in (s, t))
    return p * (p / q).log()


def _two_terms(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    q, p = (_pick(_softened(z, temperature), labels) for z in (s, t))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


_TARGET_MISTAKES: dict[str, tuple[Any, str]] = {
    "the label's term alone": (
        _first_term_only,
        "a two-class question has two answers: add the term of 1 - p and 1 - q, or the sum can be negative.",
    ),
    "the whole divergence": (
        lambda s, t, labels, tau: kl_divergence(s, t, temperature=tau),
        "that compares all classes. Here the wrong ones count only together.",
    ),
    "the teacher's choice for the label": (
        lambda s, t, labels, tau: my_target_divergence(s, t, t.argmax(dim=-1), tau),
        "the second teacher is wrong, and the target is still the label.",
    ),
    "student and teacher swapped": (
        lambda s, t, labels, tau: my_target_divergence(t, s, labels, tau),
        "the expectation is under the teacher, as in every divergence of this course.",
    ),
    "the temperature forgotten": (
        lambda s, t, labels, tau: my_target_divergence(s, t, labels, 1.0),
        "divide both logits by it first.",
    ),
    "1 - q in floating point": (
        _two_terms,
        "where q rounds to 1, log(1 - q) is -inf. Take it from the other classes, with torch.logsumexp.",
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


def _not_normalised(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (F.log_softmax(z / temperature, dim=-1) for z in (s, t))
    terms = log_p.exp() * (log_p - log_q)
    return terms.sum(dim=-1) - _pick(terms, labels)


_NONTARGET_MISTAKES: dict[str, tuple[Any, str]] = {
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
    "the factor 1 - p in front": (
        lambda s, t, labels, tau: (1 - _pick(_softened(t, tau), labels)) * my_nontarget_divergence(s, t, labels, tau),
        "that is what plain distillation does, and what decoupling undoes.",
    ),
    "the teacher's choice left out": (
        lambda s, t, labels, tau: my_nontarget_divergence(s, t, t.argmax(dim=-1), tau),
        "the second teacher is wrong, and the target is still the label.",
    ),
}


def repaired(student_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """02.3."""
    teacher = virtual_teacher_logits(labels, num_classes=student_logits.shape[-1], confidence=0.9)
    return soft_target_loss(student_logits, teacher, temperature=temperature)


def _probabilities(s: Tensor, labels: Tensor) -> Tensor:
    return virtual_teacher_logits(labels, num_classes=s.shape[-1], confidence=0.9).exp()


_REPAIR_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it was published": (
        lambda s, labels, tau: soft_target_loss(s, _probabilities(s, labels), temperature=tau) / s.shape[-1],
        "print p at temperature 1, and compare the loss of one example with the sum that you write by hand.",
    ),
    "the teacher repaired, the mean not": (
        lambda s, labels, tau: repaired(s, labels, tau) / s.shape[-1],
        'reduction="mean" divides by the classes too: what is asked for is a sum over classes.',
    ),
    "the mean repaired, the teacher not": (
        lambda s, labels, tau: soft_target_loss(s, _probabilities(s, labels), temperature=tau),
        "at temperature 1 softmax must give back the teacher's probabilities. What must it be given for that?",
    ),
    "the factor τ² lost": (
        lambda s, labels, tau: repaired(s, labels, tau) / tau**2,
        "it was right, and it is gone.",
    ),
    "the softening lost": (
        lambda s, labels, tau: soft_target_loss(s / tau, _probabilities(s, labels).log(), temperature=1.0) * tau**2,
        "the teacher meets the temperature too, like any other teacher.",
    ),
}


def my_weights(teacher_logits: Tensor, labels: Tensor, strength: float, temperature: float) -> Tensor:
    """02.5."""
    teacher_logits = teacher_logits.detach()
    return _if_right(teacher_logits, labels, strength, 1 - _pick(_softened(teacher_logits, temperature), labels))


def _if_right(t: Tensor, labels: Tensor, weight: float | Tensor, otherwise: float | Tensor) -> Tensor:
    return torch.where(t.argmax(dim=-1) == labels, weight, otherwise)


_WEIGHT_MISTAKES: dict[str, tuple[Any, str]] = {
    "right and wrong swapped": (
        lambda t, labels, strength, tau: _if_right(t, labels, 1 - _pick(_softened(t, tau), labels), strength),
        "the strength is for examples where the teacher's first choice is the label.",
    ),
    "one minus the largest probability": (
        lambda t, labels, strength, tau: _if_right(t, labels, strength, 1 - _softened(t, tau).amax(dim=-1)),
        "plain distillation's weight is one minus the probability of the label, also where another class is first.",
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

EXERCISES: dict[str, Exercise] = {
    "02.1": Exercise(
        title="The target part",
        hint="log q of the label is one entry of F.log_softmax; log(1 - q) is the logsumexp of all other entries.",
        differs=calls(
            {
                **_TWO_EXAMPLES,
                "very large logits": (_SURE, -_SURE, torch.tensor([0]), 1.0),
            }
        ),
        solution=my_target_divergence,
        mistakes=_TARGET_MISTAKES,
        remark="It compares how sure the two are of the label, and nothing else.",
    ),
    "02.2": Exercise(
        title="The other classes among themselves",
        hint="Build logits without the label's column, shape (B, C - 1), and take the divergence of lesson 01.",
        differs=calls(
            {
                **_TWO_EXAMPLES,
                "a target of thousands": (_SURE, _LESS_SURE, torch.tensor([0]), 1.0),
                "very large logits": (_SURE, -_SURE, torch.tensor([2]), 1.0),
            }
        ),
        solution=my_nontarget_divergence,
        mistakes=_NONTARGET_MISTAKES,
        remark="Put the two together: KL = target part + (1 - p of the label) times this one.",
    ),
    "02.3": Exercise(
        title="Find the bugs in a published loss",
        hint="There are two. What does softmax expect, probabilities or logits? And what does the mean divide by?",
        differs=calls(at_temperatures("two examples", _STUDENT, _LABELS)),
        solution=repaired,
        mistakes=_REPAIR_MISTAKES,
        remark="At temperature 20 and 100 classes the published teacher gave its label 0.0105: it knew nothing.",
    ),
    "02.4": Exercise(
        title="Predict what standardising does to two classes",
        hint="Two numbers a and b have the mean (a + b)/2. How far is each from it, in their own standard deviations?",
        differs=number(tolerance=0.01),
        solution=torch.sigmoid(torch.tensor(2**0.5 / 2)).item(),
        mistakes={
            "no temperature": (
                torch.sigmoid(torch.tensor(2**0.5)).item(),
                "the z-scores are right. Divide them by τ = 2 before the softmax.",
            ),
            "the population deviation": (
                torch.sigmoid(torch.tensor(1.0)).item(),
                "divided by C the z-scores would be ±1; the authors divide by C - 1, which is 1 here.",
            ),
            "nothing changes": (
                torch.sigmoid(torch.tensor(3.0)).item(),
                "that is the softmax of the raw logits at τ = 2. Standardising comes before it.",
            ),
            "certainty": (1.0, "the largest z-score of two numbers is small, whatever the numbers are."),
        },
        remark="The same for logits (8, 2) and (0.01, 0): with two classes only the order is left to learn.",
    ),
    "02.5": Exercise(
        title="Design: amplify only a teacher who is right",
        hint="torch.where takes a condition per example, a number, and a tensor of shape (B,).",
        differs=calls(at_temperatures("one teacher right and one wrong", _TEACHER, _LABELS, 8.0)),
        solution=my_weights,
        mistakes=_WEIGHT_MISTAKES,
        remark="Whether it helps is another matter: that takes a baseline, tuning and eight seeds.",
    ),
}

QUIZ = (
    Question(
        "Where is the teacher's dark knowledge lost in plain distillation?",
        {
            "Where it is sure of the label": "The divergence of the other classes has the weight 1 - p of the label, "
            "which is nearly 0 there.",
            "Where it is wrong": "There 1 - p of the label is large, and the other classes count fully.",
            "At high temperatures": "A temperature makes p of the label smaller, so more comes through.",
        },
        right="Where it is sure of the label",
    ),
    Question(
        "One paper weighs its loss with 0.02, another with 30,000. What does that say about the two losses?",
        {
            "That their gradients differ in size": "A weight undoes a normalisation: means over classes, over pairs, "
            "a missing τ². It says nothing about importance.",
            "That the second one matters more": "Its gradient times its weight may be the smaller one: measure it.",
            "That the second one is wrong": "A loss may be right and small; only the balance must be chosen again.",
        },
        right="That their gradients differ in size",
    ),
    Question(
        "You train with random crops. Which teacher output goes with a cropped image?",
        {
            "The teacher's output on the same crop": "Consistency: both nets see the same input.",
            "The cached output of the whole image": "It describes another input: worse here in every group of seeds.",
            "The output on a crop of its own": "Then the student is asked about one part and corrected about another.",
        },
        right="The teacher's output on the same crop",
    ),
)
