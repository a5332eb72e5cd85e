"""Right and wrong answers to the exercises of lesson 03, feature-based distillation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.feature import neuron_selectivity_loss, overhaul_loss

__all__ = [
    "GRAM_MISTAKES",
    "HINT_MISTAKES",
    "PARTIAL_MISTAKES",
    "my_gram_distance",
    "my_hint_loss",
    "my_partial_distance",
]


def my_hint_loss(student_maps: Tensor, teacher_maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """03.1."""
    return F.mse_loss(_regressed(student_maps, weight, bias), teacher_maps.detach())


def _regressed(student_maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.einsum("tc,bchw->bthw", weight, student_maps) + bias[:, None, None]


HINT_MISTAKES: dict[str, tuple[Any, str]] = {
    "the bias forgotten": (
        lambda s, t, w, b: my_hint_loss(s, t, w, torch.zeros_like(b)),
        "the regressor is W f + b: one number is added to each of the teacher's channels.",
    ),
    "a sum over elements": (
        lambda s, t, w, b: my_hint_loss(s, t, w, b) * t.numel(),
        "that grows with the size of the map. The mean runs over examples, channels and places.",
    ),
    "the batch's mean": (
        lambda s, t, w, b: my_hint_loss(s, t, w, b) * t[0].numel(),
        "batchmean divides by examples alone: C·H·W times too large.",
    ),
    "half of it": (
        lambda s, t, w, b: my_hint_loss(s, t, w, b) / 2,
        "the paper has a half, in front of a sum. Here the plain mean of squares is asked for.",
    ),
    "a sum over channels": (
        lambda s, t, w, b: my_hint_loss(s, t, w, b) * t.shape[1],
        "channels are averaged too, like examples and places.",
    ),
    "means over places first": (
        lambda s, t, w, b: F.mse_loss(_regressed(s, w, b).mean(dim=(2, 3)), t.mean(dim=(2, 3))),
        "then the places may be anything, if only their means agree. Compare place by place.",
    ),
    "a ReLU on the regressor": (
        lambda s, t, w, b: F.mse_loss(_regressed(s, w, b).relu(), t),
        "where it is silent no gradient flows. The regressor asked for is linear.",
    ),
}


def my_partial_distance(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """03.2."""
    return overhaul_loss(student, teacher, margin)


def _partial(skip: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The squared distance to the target, except where ``skip`` of student, teacher and target says."""

    def distance(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
        target = torch.maximum(teacher, margin)
        return ((student - target) ** 2 * ~skip(student, teacher, target)).mean()

    return distance


PARTIAL_MISTAKES: dict[str, tuple[Any, str]] = {
    "no part left out": (
        _partial(lambda s, t, target: torch.zeros_like(s, dtype=torch.bool)),
        "a student far below the margin is as silent as the teacher: there the distance must be 0.",
    ),
    "left out wherever the student is low": (
        _partial(lambda s, t, target: s <= target),
        "where the teacher is active a low student must be pulled up.",
    ),
    "left out wherever the teacher is silent": (
        _partial(lambda s, t, target: t <= 0),
        "a student above the target would speak where the teacher is silent: it must be pulled down.",
    ),
    "left out wherever both are silent": (
        _partial(lambda s, t, target: (t <= 0) & (s <= 0)),
        "it begins to be left out at the target, not at 0.",
    ),
    "a ReLU at zero for the target": (
        lambda s, t, m: my_partial_distance(s, t, torch.zeros_like(m)),
        "the target is max(teacher, margin), and the margin is negative.",
    ),
    "the teacher itself for the target": (
        lambda s, t, m: ((s - t) ** 2 * ~((t <= 0) & (s <= t))).mean(),
        "where the teacher is below the margin, the margin is enough: the target is max(teacher, margin).",
    ),
    "the smaller of the two for the target": (
        lambda s, t, m: ((s - torch.minimum(t, m)) ** 2 * ~((t <= 0) & (s <= torch.minimum(t, m)))).mean(),
        "an active teacher must stay the target: take the larger of teacher and margin.",
    ),
    "a sum over elements": (
        lambda s, t, m: my_partial_distance(s, t, m) * s.numel(),
        "that grows with the batch and the width: take the mean.",
    ),
    "a mean over what is left": (
        lambda s, t, m: my_partial_distance(s, t, m) * s.numel() / ((t > 0) | (s > torch.maximum(t, m))).sum(),
        "the mean runs over every element, zeros included.",
    ),
}


def my_gram_distance(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """03.4."""
    return neuron_selectivity_loss(student_maps, teacher_maps)


def _pattern_gram(maps: Tensor, *, unit: bool = True, mean: bool = True) -> Tensor:
    patterns = maps.flatten(2)
    patterns = F.normalize(patterns, dim=2) if unit else patterns
    return patterns.mT @ patterns / (maps.shape[1] if mean else 1)


GRAM_MISTAKES: dict[str, tuple[Any, str]] = {
    "channels not brought to length 1": (
        lambda s, t: (_pattern_gram(s, unit=False) - _pattern_gram(t, unit=False)).square().sum(dim=(1, 2)).mean(),
        "the scale of a channel must mean nothing: divide each by its norm over places first.",
    ),
    "not divided by the channels": (
        lambda s, t: (_pattern_gram(s, mean=False) - _pattern_gram(t, mean=False)).square().sum(dim=(1, 2)).mean(),
        "MMD compares means over channels. Two channels that are the same count like one.",
    ),
    "a mean over the matrix": (
        lambda s, t: (_pattern_gram(s) - _pattern_gram(t)).square().mean(),
        "the squared Frobenius norm is a sum over the entries; only examples are averaged.",
    ),
    "the square root taken": (
        lambda s, t: (_pattern_gram(s) - _pattern_gram(t)).square().sum(dim=(1, 2)).sqrt().mean(),
        "it is the squared discrepancy: no root, whose gradient is infinite where the two agree.",
    ),
    "the squared difference of mean patterns": (
        lambda s, t: (
            (F.normalize(s.flatten(2), dim=2).mean(dim=1) - F.normalize(t.flatten(2), dim=2).mean(dim=1))
            .square()
            .sum(dim=1)
            .mean()
        ),
        "that is the kernel xᵀy. With (xᵀy)² every pattern enters as its own outer product.",
    ),
}
