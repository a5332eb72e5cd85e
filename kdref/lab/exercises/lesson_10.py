"""The exercises and the quiz of lesson 10, transfer data."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number

__all__ = ["EXERCISES", "QUIZ"]

Loss = Callable[[Tensor], Tensor]
Step = Callable[[Tensor], None]


def exchange(own: Tensor, other: Tensor, chosen: Tensor, noise: Tensor, local_variance: float) -> Tensor:
    """10.1."""
    return _exchange(own, other, chosen, noise, 1 / local_variance)


def _exchange(
    own: Tensor,
    other: Tensor,
    chosen: Tensor,
    noise: Tensor,
    scale: float,
    *,
    new: bool = False,
    centre: bool = False,
    first: bool = False,
) -> Tensor:
    sd = (own - other).abs() * scale
    changed = torch.where(chosen, other + sd * noise[0], own)
    if new:
        sd = (changed - other).abs() * scale
    if new or centre:
        own = changed
    return torch.stack([changed, other if first else torch.where(chosen, own + sd * noise[1], other)])


def _jittered(own: Tensor, other: Tensor, chosen: Tensor, noise: Tensor, local_variance: float) -> Tensor:
    sd = (own - other).abs() / local_variance
    pair = torch.stack([own, other])
    return torch.where(chosen, pair + sd * noise, pair)


_EXCHANGE_MISTAKES: dict[str, tuple[Any, str]] = {
    "the new value read": (
        lambda e, f, chosen, noise, s: _exchange(e, f, chosen, noise, 1 / s, new=True),
        "both are centred on what the other had before: keep the old values, and the deviation of them.",
    ),
    "the new value as the centre": (
        lambda e, f, chosen, noise, s: _exchange(e, f, chosen, noise, 1 / s, centre=True),
        "both are centred on what the other had before: keep the old values.",
    ),
    "only one of the two changed": (
        lambda e, f, chosen, noise, s: _exchange(e, f, chosen, noise, 1 / s, first=True),
        "it is an exchange: the neighbour takes the example's old value too.",
    ),
    "times s": (
        lambda e, f, chosen, noise, s: _exchange(e, f, chosen, noise, s),
        "s divides: the larger the local variance parameter, the less noise.",
    ),
    "noise around oneself": (
        _jittered,
        "that is noise added to each: with MUNGE the centre is the other one's value.",
    ),
}

_THREE_OF_FOUR = 0.75 * math.log(0.75) + 0.25 * math.log(0.25)


def statistics_loss(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """10.3."""
    return _statistics(x, mean, variance)


def _statistics(x: Tensor, mean: Tensor, variance: Tensor, *, unbiased: bool = True, power: int = 1) -> Tensor:
    rows = x.transpose(0, 1).flatten(1)
    parts = rows.mean(dim=1) - mean, rows.var(dim=1, unbiased=unbiased) - variance
    lengths = torch.stack([torch.linalg.vector_norm(part) for part in parts])
    return lengths.pow(power).sum()


def _by_place(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    rows = x.flatten(2)
    return torch.dist(rows.mean(dim=0), mean[:, None].expand_as(rows[0])) + torch.dist(
        rows.var(dim=0), variance[:, None].expand_as(rows[0])
    )


_STATISTICS_MISTAKES: dict[str, tuple[Any, str]] = {
    "the biased variance": (
        lambda x, m, v: _statistics(x, m, v, unbiased=False),
        "BatchNorm keeps the unbiased variance (n - 1): the biased one is not zero even on the teacher's own batch.",
    ),
    "norms squared": (
        lambda x, m, v: _statistics(x, m, v, power=2),
        "the norms are not squared here.",
    ),
    "statistics of each place": (
        _by_place,
        "a channel's statistics run over the examples and all places of the map.",
    ),
    "deviations instead of variances": (
        lambda x, m, v: (
            (x.transpose(0, 1).flatten(1).mean(dim=1) - m).norm()
            + (x.transpose(0, 1).flatten(1).std(dim=1) - v.sqrt()).norm()
        ),
        "the layer keeps variances: compare these.",
    ),
}


def best_of(start: Tensor, loss: Loss, step: Step, steps: int) -> Tensor:
    """10.4."""
    x, least = start.clone(), math.inf
    best = x.clone()
    for _ in range(steps):
        value = float(loss(x))
        if value < least:
            least, best = value, x.clone()
        step(x)
    return best


def _last(start: Tensor, loss: Loss, step: Step, steps: int) -> Tensor:
    x, least = start.clone(), math.inf
    best = x
    for _ in range(steps):
        value = float(loss(x))
        if value < least:
            least, best = value, x.detach()  # the same memory
        step(x)
    return best


def _one_late(start: Tensor, loss: Loss, step: Step, steps: int) -> Tensor:
    x, least = start.clone(), math.inf
    best = x.clone()
    for _ in range(steps):
        value = float(loss(x))
        step(x)
        if value < least:
            least, best = value, x.clone()
    return best


def _largest(start: Tensor, loss: Loss, step: Step, steps: int) -> Tensor:
    return best_of(start, lambda x: -loss(x), step, steps)


def _overshooting(x: Tensor) -> None:
    x.mul_(0.5).sub_(1.0)


def _shrinking(x: Tensor) -> None:
    x.mul_(0.5)


def _squares(x: Tensor) -> Tensor:
    return x.square().sum()


_OWN, _OTHER = torch.tensor([1.0, 4.0, 0.0, 2.0]), torch.tensor([3.0, 4.0, 8.0, -2.0])
_NOISE = torch.tensor([[1.0, 2.0, -1.0, 0.5], [-0.5, 1.0, 2.0, -1.0]])
_SOME, _EVERY = torch.tensor([True, True, True, False]), torch.ones(4, dtype=torch.bool)
_MAPS = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]], [[[5.0, 0.0]], [[1.0, 4.0]]], [[[2.0, 2.0]], [[-1.0, 3.0]]]])

EXERCISES: dict[str, Exercise] = {
    "10.1": Exercise(
        title="One exchange of MUNGE",
        hint="Compute the deviation |own - other| / s first; then two torch.where, both of the old values.",
        differs=calls(
            {
                "three of four attributes chosen, s = 2": (_OWN, _OTHER, _SOME, _NOISE, 2.0),
                "all chosen, s = 4": (_OWN, _OTHER, _EVERY, _NOISE, 4.0),
                "none chosen": (_OWN, _OTHER, ~_EVERY, _NOISE, 2.0),
            }
        ),
        solution=exchange,
        mistakes=_EXCHANGE_MISTAKES,
        remark="Where the two agree, as in the second attribute, nothing changes: MUNGE adds no noise across the data.",
    ),
    "10.2": Exercise(
        title="Predict an information entropy loss",
        hint="The mean output is (¾, ¼, 0, 0), and 0 log 0 counts 0.",
        further="The mean output is (¾, ¼, 0, 0). What is the sum of p log p, with natural logarithms?",
        differs=number(tolerance=0.01),
        solution=_THREE_OF_FOUR,
        mistakes={
            "log10": (_THREE_OF_FOUR / math.log(10), "that is in log10, as in the authors' code. Here it is in nats."),
            "the entropy itself": (-_THREE_OF_FOUR, "the loss is minus the entropy: balanced batches are its minimum."),
            "a balanced batch": (-math.log(4), "that would be four different classes."),
            "two classes alike": (-math.log(2), "that would be two images of each of two classes."),
        },
        remark="The largest value is 0, one class for all; the smallest is -log 4 = -1.386.",
    ),
    "10.3": Exercise(
        title="Build the BatchNorm statistics loss",
        hint="x.transpose(0, 1).flatten(1) has one row per channel.",
        further="x.transpose(0, 1).flatten(1) has a row per channel; .var is unbiased; then .norm() of differences.",
        differs=calls(
            {
                "three images of two channels": (_MAPS, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])),
                "two images": (_MAPS[:2], torch.tensor([0.0, -1.0]), torch.tensor([1.0, 5.0])),
            }
        ),
        solution=statistics_loss,
        mistakes=_STATISTICS_MISTAKES,
        remark="Two numbers a channel, mean and variance, are all it needs of the data: BatchNorm gives them away.",
    ),
    "10.4": Exercise(
        title="Repair: the best image, not the last",
        hint="What do x.data and x share?",
        further="x is changed in place by step: what is stored must be a copy, made before the step.",
        differs=calls(
            {
                "a step that overshoots": (torch.tensor([3.0, 3.0]), _squares, _overshooting, 6),
                "a step that only improves": (torch.tensor([3.0, -1.0]), _squares, _shrinking, 4),
            }
        ),
        solution=best_of,
        mistakes={
            "the last one": (
                _last,
                "best and x are one tensor: what the optimiser does to x happens to best. Keep x.clone().",
            ),
            "one step too late": (_one_late, "the loss belongs to x before the step: keep that one."),
            "the worst": (_largest, "smaller is better: keep x where its loss is below the least so far."),
        },
        remark="detach() and .data share memory; clone() does not. The published code returned its last images.",
    ),
}

QUIZ = (
    Question(
        "An ensemble knows its 1,000 training examples by heart. What does a student learn from its outputs on these?",
        {
            "What the labels say, and no more": "It is sure of each and right: the outputs are the labels. New inputs "
            "are needed, on which it has something of its own to say.",
            "How the classes are related": "That shows in soft outputs: on these examples they are one-hot.",
            "The ensemble's mistakes": "It makes none there; those show on other inputs.",
        },
        right="What the labels say, and no more",
    ),
    Question(
        "On uniform noise your teacher is sure, and names one class almost always. What will a student learn from it?",
        {
            "That class, and little of the borders between the others": "Borders that the data never cross near the "
            "noise are not shown.",
            "As much as from data, with enough noise": "More of the same does not show what noise never looks like.",
            "Nothing, because noise has no labels": "The teacher labels it; the trouble is what it is asked about.",
        },
        right="That class, and little of the borders between the others",
    ),
    Question(
        "A model answers through an interface: probabilities only. Which of these can be used on it as it stands?",
        {
            "MUNGE on your own few examples": "It needs answers alone. Each example made is one question asked.",
            "DAFL": "Its generator is trained by the gradient through the teacher, which an interface does not give.",
            "DeepInversion": "It needs the gradient, and the statistics of the BatchNorm layers.",
        },
        right="MUNGE on your own few examples",
    ),
)
