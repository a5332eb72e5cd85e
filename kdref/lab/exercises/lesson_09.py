"""The exercises and the quiz of lesson 09, adversarial distillation."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number

__all__ = ["EXERCISES", "QUIZ"]

# The teacher is at the first of two places three times in four, the student every other time: the best discriminator
# says 3/5 there, and 1/3 at the second.
_LEFT = -0.75 * math.log(3 / 5) - 0.25 * math.log(1 / 3) - 0.5 * math.log(2 / 5) - 0.5 * math.log(2 / 3)
_JSD = math.log(2) - _LEFT / 2


def both_losses(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """09.2."""
    return _both(student_scores, teacher_scores)


def _both(student: Tensor, teacher: Tensor, *, swapped: bool = False, saturating: bool = False) -> Tensor:
    real, fake = (student, teacher) if swapped else (teacher, student)
    own = -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()
    return torch.stack([own, F.logsigmoid(-student).mean() if saturating else -F.logsigmoid(student).mean()])


_BOTH_MISTAKES: dict[str, tuple[Any, str]] = {
    "real and fake swapped": (
        lambda s, t: _both(s, t, swapped=True),
        "here the teacher is real: its scores are to be large, the student's small.",
    ),
    "the saturating form": (
        lambda s, t: _both(s, t, saturating=True),
        "log(1 - D) hardly moves while the student is found out: the student minimises -log D.",
    ),
    "the student minimises the discriminator's loss": (
        lambda s, t: torch.stack([_both(s, t)[0], _both(s, t)[0]]),
        "then both want the same, and the student helps to be told apart.",
    ),
    "a sum over the batch": (
        lambda s, t: torch.stack(
            [-F.logsigmoid(t).sum() - F.logsigmoid(-s).sum(), -F.logsigmoid(s).sum()],
        ),
        "take means, one for the teacher's scores and one for the student's.",
    ),
    "one mean over all scores": (
        lambda s, t: torch.stack(
            [-torch.cat([F.logsigmoid(t), F.logsigmoid(-s)]).mean(), -F.logsigmoid(s).mean()],
        ),
        "each side has a mean of its own: 0 everywhere must give 2 log 2 whatever the two numbers of examples.",
    ),
    "the mean before the logarithm": (
        lambda s, t: torch.stack(
            [-torch.sigmoid(t).mean().log() - (1 - torch.sigmoid(s)).mean().log(), -torch.sigmoid(s).mean().log()],
        ),
        "the logarithm comes first, then the mean: one example that is found out must count.",
    ),
}


def gaussian_gradient(samples: Tensor, own_mean: float, own_sd: float, mean: float, sd: float) -> Tensor:
    """09.3."""
    return _matching(samples, own_mean, own_sd, mean, sd)


def _matching(x: Tensor, own_mean: float, own_sd: float, mean: float, sd: float, *, power: int = 2) -> Tensor:
    own, theirs = (own_mean - x) / own_sd**power, (mean - x) / sd**power
    return (own - theirs) / len(x)


_MATCHING_MISTAKES: dict[str, tuple[Any, str]] = {
    "the sign": (
        lambda x, m, s, n, r: -_matching(x, m, s, n, r),
        "a step of descent goes against the gradient: it must go where the teacher's density rises.",
    ),
    "not divided by the batch": (
        lambda x, m, s, n, r: len(x) * _matching(x, m, s, n, r),
        "the loss is a mean over the samples: each one's gradient is divided by their number.",
    ),
    "the deviation not squared": (
        lambda x, m, s, n, r: _matching(x, m, s, n, r, power=1),
        "differentiate -(x - μ)²/2σ²: the variance divides.",
    ),
    "the teacher's score alone": (
        lambda x, m, s, n, r: -((n - x) / r**2) / len(x),
        "without the student's own score all samples run to the top of the nearest hump.",
    ),
    "the mean gradient": (
        lambda x, m, s, n, r: _matching(x, m, s, n, r).mean().expand_as(x),
        "each sample has a gradient of its own.",
    ),
}


def pgd_step(x: Tensor, clean: Tensor, gradient: Tensor, step_size: float, radius: float) -> Tensor:
    """09.4."""
    moved = x + step_size * gradient.sign()
    return torch.clamp(clean + (moved - clean).clamp(-radius, radius), 0, 1)


_PGD_MISTAKES: dict[str, tuple[Any, str]] = {
    "downhill": (
        lambda x, c, g, a, r: pgd_step(x, c, -g, a, r),
        "an attack makes the loss larger: it goes along the gradient.",
    ),
    "no sign": (
        lambda x, c, g, a, r: (c + (x + a * g - c).clamp(-r, r)).clamp(0, 1),
        "each pixel moves by the whole step: take the gradient's sign.",
    ),
    "not projected": (
        lambda x, c, g, a, r: (x + a * g.sign()).clamp(0, 1),
        "no pixel may be farther than the radius from the clean image.",
    ),
    "a ball around the last step": (
        lambda x, c, g, a, r: (x + (a * g.sign()).clamp(-r, r)).clamp(0, 1),
        "the ball is around the clean image; around x it would wander off, step by step.",
    ),
    "pixels outside 0 to 1": (
        lambda x, c, g, a, r: c + (x + a * g.sign() - c).clamp(-r, r),
        "what comes out must still be an image: clip to 0 to 1.",
    ),
}

_SCORES = torch.tensor([-3.0, 0.5, 2.0]), torch.tensor([1.0, -1.0])
_IMAGE, _MOVED = torch.tensor([0.0, 0.5, 0.98, 0.3]), torch.tensor([0.05, 0.42, 1.0, 0.3])
_SLOPE = torch.tensor([-0.2, -3.0, 0.01, 5.0])

EXERCISES: dict[str, Exercise] = {
    "09.1": Exercise(
        title="Predict what the best discriminator leaves",
        hint="The best D is p/(p + q) at each place: 3/5 and 1/3.",
        further="The best D is p/(p + q) at each place: 3/5 and 1/3. Then the mean of -log D and of -log(1 - D).",
        differs=number(tolerance=0.004),
        solution=_LEFT,
        mistakes={
            "the Jensen-Shannon divergence itself": (_JSD, "that is JSD; the loss is 2 log 2 minus twice that."),
            "JSD taken once": (2 * math.log(2) - _JSD, "the loss holds JSD twice."),
            "as if they were equal": (2 * math.log(2), "that is left where the two laws are equal."),
            "in bits": (_LEFT / math.log(2), "that is in bits: here logarithms are natural."),
            "log 2 once": (
                math.log(2) - 2 * _JSD,
                "two terms, one for the teacher's and one for the student's: 2 log 2.",
            ),
        },
        remark="Not far below 2 log 2 = 1.386: one look tells little of who it was.",
    ),
    "09.2": Exercise(
        title="Build both losses",
        hint="F.logsigmoid(d) is log σ(d), and 1 - σ(d) is σ(-d).",
        further="F.logsigmoid(d) is log σ(d), and 1 - σ(d) is σ(-d). Stack the discriminator's loss and the student's.",
        differs=calls(
            {
                "three scores of the student, two of the teacher": _SCORES,
                "one score each": (torch.tensor([-2.0]), torch.tensor([0.5])),
            }
        ),
        solution=both_losses,
        mistakes=_BOTH_MISTAKES,
        remark="In training the two belong to two steps, and the first takes the student's outputs detached.",
    ),
    "09.3": Exercise(
        title="Match two Gaussians",
        hint="The score of a Gaussian is (μ - x)/σ².",
        further="The score of a Gaussian is (μ - x)/σ². Then (own score - teacher's score) / B.",
        differs=calls(
            {
                "three samples": (torch.tensor([0.0, 1.0, 4.0]), 1.0, 2.0, 3.0, 0.5),
                "equal laws": (torch.tensor([0.0, 1.0]), 1.0, 2.0, 1.0, 2.0),
            }
        ),
        solution=gaussian_gradient,
        mistakes=_MATCHING_MISTAKES,
        remark="For equal laws nothing moves: the two scores cancel at every place.",
    ),
    "09.4": Exercise(
        title="Build one step of the attack",
        hint="The step goes along the sign; then two clamps.",
        further="Add step_size * gradient.sign(); clamp what was added in all to ± radius; clamp the image to 0 to 1.",
        differs=calls(
            {
                "a radius of 0.1": (_MOVED, _IMAGE, _SLOPE, 0.05, 0.1),
                "a step longer than the radius": (_IMAGE, _IMAGE, _SLOPE, 0.3, 0.2),
            }
        ),
        solution=pgd_step,
        mistakes=_PGD_MISTAKES,
        remark="Madry et al. 2018 start it at a random point of the ball, so that it does not always end in one place.",
    ),
}

QUIZ = (
    Question(
        "The discriminator's loss is near 0 from the second epoch on. What does the student get from it?",
        {
            "Little that is of use": "It tells the two apart wherever the student goes: weaken it, or give it fewer "
            "steps.",
            "The best gradient that there is": "The best discriminator has the largest loss that the two laws allow: "
            "near 0 they have nothing in common.",
            "Nothing at all: -log D has no gradient there": "It has, and it is the saturating form that has none; "
            "but the direction says only away from where I am.",
        },
        right="Little that is of use",
    ),
    Question(
        "Beside soft targets a discriminator on features gains a point. What must be compared before it is praised?",
        {
            "Hints on the same features, and features that are shuffled": "The cheap way to the same end, and a "
            "discriminator that can't know which input a feature belongs to.",
            "The student without any teacher": "That tells what the teacher is worth, not the discriminator.",
            "A larger discriminator": "That is another setting of the same thing.",
        },
        right="Hints on the same features, and features that are shuffled",
    ),
    Question(
        "A network's gradient is zero at nearly every image, and the usual attack fails. Is it robust?",
        {
            "Not shown: attack it by another loss": "Defensive distillation hid its gradient behind a softmax that "
            "saturates; an attack on the logits themselves goes through.",
            "Yes: without a gradient there is no direction": "The direction is there, in the logits; only this loss "
            "does not show it.",
            "Yes, if the attack takes steps enough": "More steps along a zero stay where they are.",
        },
        right="Not shown: attack it by another loss",
    ),
)
