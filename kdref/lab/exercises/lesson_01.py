"""The exercises and the quiz of lesson 01, soft targets."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.soft_targets import distillation_loss, kl_divergence

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
_LABELS = torch.tensor([0, 2])
_EXTREME = torch.tensor([[10000.0, 0.0, -10000.0]])


def my_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """01.1."""
    return kl_divergence(student_logits, teacher_logits, temperature=temperature)


def _log_of_softmax(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    q, p = F.softmax(student_logits / temperature, dim=-1), F.softmax(teacher_logits / temperature, dim=-1)
    return (p * (p.log() - q.log())).sum(dim=-1)


def _cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    return -(p * F.log_softmax(student_logits / temperature, dim=-1)).sum(dim=-1)


_KL_MISTAKES: dict[str, tuple[Any, str]] = {
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


_LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
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


_SHIFT_MISTAKES: dict[str, tuple[Any, str]] = {
    "recall of the class alone": (
        _recall_only,
        "the larger the shift, the more examples of the class are found, until everything is called by its name.",
    ),
    "a shift of every class": (
        lambda logits, labels, klass, amounts: amounts[0],
        "softmax and argmax don't notice it when all logits move together: shift one column.",
    ),
    "the largest of equals": (
        lambda logits, labels, klass, amounts: best_shift(logits, labels, klass, amounts[::-1]),
        "where several amounts do equally well, the smallest changes least.",
    ),
    "the accuracy instead of the amount": (
        lambda logits, labels, klass, amounts: max(_accuracy(_shifted(logits, klass, a), labels) for a in amounts),
        "return the amount that reaches it.",
    ),
}

# Class 2 was never seen, so its logits are too low. A shift by 2 finds one of its three examples, by 4 or 4.5 two; by
# 8, everything is called 2.
_UNSEEN = torch.tensor(
    [
        [6.0, 1.0, 0.5],
        [5.0, 0.0, -0.5],
        [0.0, 6.0, 0.5],
        [1.0, 5.0, 0.0],
        [2.0, 0.0, 0.5],
        [3.0, 1.0, -0.5],
        [0.0, 6.5, 0.0],
    ]
)
_UNSEEN_LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2])

EXERCISES: dict[str, Exercise] = {
    "01.1": Exercise(
        title="The divergence, from memory",
        hint="Take the log-probabilities of both with F.log_softmax, and sum p * (log p - log q) over the classes.",
        differs=calls(
            {
                "two examples at temperature 1": (_STUDENT, _TEACHER, 1.0),
                "the same at temperature 2": (_STUDENT, _TEACHER, 2.0),
                "a student that equals its teacher": (_TEACHER, _TEACHER, 2.0),
                "very large logits": (_EXTREME, _EXTREME.flip(-1), 1.0),
            }
        ),
        solution=my_kl,
        mistakes=_KL_MISTAKES,
        remark="It is zero where student and teacher agree, and stays finite at logits of 10,000.",
    ),
    "01.2": Exercise(
        title="The loss that everyone uses",
        hint="Add the mean cross-entropy with the labels and τ² times the mean divergence, each with its weight.",
        differs=calls(
            {
                "labels and teacher, temperature 1": (_STUDENT, _TEACHER, _LABELS, 0.9, 1.0),
                "the same at temperature 4": (_STUDENT, _TEACHER, _LABELS, 0.9, 4.0),
                "labels only": (_STUDENT, _TEACHER, _LABELS, 0.0, 4.0),
                "the teacher only": (_STUDENT, _TEACHER, _LABELS, 1.0, 4.0),
            }
        ),
        solution=my_distillation_loss,
        mistakes=_LOSS_MISTAKES,
        remark="Libraries disagree on which term their weight weighs: look before you copy a setting.",
    ),
    "01.3": Exercise(
        title="Predict before you run",
        hint="The gradient is (q - p) / τ. What happens to q - p when both move towards the uniform distribution?",
        differs=number(tolerance=0.1),
        solution=4.0,
        mistakes={
            "the chain rule alone": (2.0, "that is the 1/τ in front; the difference q - p shrinks as well."),
            "with the factor τ² in place": (1.0, "true of the loss with its factor, and the reason for it."),
            "the ratio upside down": (0.25, "the question is how many times smaller it gets."),
        },
        remark="1/τ from the chain rule and 1/τ from q - p: that is what the factor τ² makes up for.",
    ),
    "01.4": Exercise(
        title="Design: choose the bias shift honestly",
        hint="For each amount, add it to the class's column of a copy, and measure the accuracy over all examples.",
        differs=calls(
            {
                "a class that was never seen, number 2": (_UNSEEN, _UNSEEN_LABELS, 2, [0.0, 2.0, 4.0, 4.5, 8.0]),
                "a class that needs no shift": (_UNSEEN, _UNSEEN.argmax(dim=-1), 0, [0.0, 1.0, 6.0]),
            }
        ),
        solution=best_shift,
        mistakes=_SHIFT_MISTAKES,
        remark="Chosen on training data: a shift chosen on the test set would measure its own luck.",
    ),
}

QUIZ = (
    Question(
        "Why is the soft term multiplied by τ²?",
        {
            "So that its gradient keeps its size when τ changes": "Without it the gradient falls as 1/τ², and with it "
            "the weight of the teacher against the labels.",
            "So that the loss is measured in nats": "The divergence is in nats before the factor, not after it.",
            "So that the targets get softer": "Dividing the logits by τ does that. The factor changes no target.",
        },
        right="So that its gradient keeps its size when τ changes",
    ),
    Question(
        "A student that never saw a 3 recognises 3s. What taught it?",
        {
            "The small probabilities that the teacher gives to 3 on other digits": "They say which 8s and 5s look "
            "a little like a 3: dark knowledge.",
            "The labels": "None of them said 3.",
            "The teacher's weights": "The student sees the teacher's outputs only; the two nets need not even have the "
            "same shape.",
        },
        right="The small probabilities that the teacher gives to 3 on other digits",
    ),
    Question(
        "Which student gained nothing from soft targets, or lost?",
        {
            "The one too small to overfit its training data": "It has no gap to close by copying a smoother function; "
            "matching all of the teacher's probabilities only takes capacity that it lacks.",
            "The one of another kind than its teacher": "The multi-layer perceptron gained most, from a convolutional "
            "teacher.",
            "The one trained without labels": "The teacher's probabilities held all that it needed.",
        },
        right="The one too small to overfit its training data",
    ),
)
