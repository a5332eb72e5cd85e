"""Right and wrong answers to the exercises of lesson 04, attention-based distillation."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdref.attention import attention_map, attention_relation_divergence, attention_transfer_loss, value_relation
from kdref.lab.course.questions import Forms

__all__ = ["MAP_MISTAKES", "RELATION_MISTAKES", "TRANSFER_MISTAKES", "my_map", "my_relation_loss", "my_transfer"]


def my_map(features: Tensor, power: float) -> Tensor:
    """04.1."""
    return attention_map(features, power=power)


MAP_MISTAKES: dict[str, tuple[Any, str]] = {
    "no absolute value": (
        lambda a, power: F.normalize(a.pow(power).sum(dim=1).flatten(1), dim=1),
        "at an odd power 3 and -4 then cancel, though both say that the place matters.",
    ),
    "the sum over places": (
        lambda a, power: F.normalize(a.abs().pow(power).flatten(2).sum(dim=2), dim=1),
        "that keeps one number per channel. A map keeps the places and sums the channels away.",
    ),
    "not normalised": (
        lambda a, power: a.abs().pow(power).sum(dim=1).flatten(1),
        "its length must be 1 for every example, or the scales of two networks would be compared.",
    ),
    "divided by the sum": (
        Forms(
            lambda a, power: F.normalize(a.abs().pow(power).sum(dim=1).flatten(1), dim=1, p=1),
            lambda a, power: (q := a.abs().pow(power).sum(dim=1).flatten(1)) / q.sum(dim=1, keepdim=True),
            lambda a, power: (q := a.abs().pow(power).sum(dim=1).flatten(1)) / q.sum(),
        ),
        "length 1 means that the squares sum to 1.",
    ),
    "normalised over the batch": (
        Forms(
            lambda a, power: F.normalize(a.abs().pow(power).sum(dim=1).flatten(1), dim=0),
            lambda a, power: (q := a.abs().pow(power).sum(dim=1).flatten(1)) / q.norm(),
        ),
        "each example by itself: a row of the result has length 1, not a column.",
    ),
    "the power of the sum": (
        lambda a, power: F.normalize(a.abs().sum(dim=1).pow(power).flatten(1), dim=1),
        "each channel is powered, then they are summed.",
    ),
    "the power in the place of p": (
        lambda a, power: F.normalize(a.abs().pow(power).sum(dim=1).flatten(1), power),
        "F.normalize's second argument is the kind of length. It is 2 here, whatever the power.",
    ),
    "zero divided by zero": (
        lambda a, power: (m := a.abs().pow(power).sum(dim=1).flatten(1)) / m.norm(dim=1, keepdim=True),
        "a layer that is silent for an example gives nan. F.normalize leaves zeros.",
    ),
}


def my_transfer(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """04.2."""
    return attention_transfer_loss(student_maps, teacher_maps)


def _activity(maps: Tensor) -> Tensor:
    return maps.square().sum(dim=1, keepdim=True)


def _pooled(student: Tensor, teacher: Tensor, *, features_first: bool) -> Tensor:
    size = (teacher.shape[2], teacher.shape[3])
    if features_first:
        return my_transfer(F.adaptive_avg_pool2d(student, size), teacher)
    unit = attention_map(student).reshape(len(student), 1, *student.shape[2:])
    return F.mse_loss(F.adaptive_avg_pool2d(unit, size).flatten(1), attention_map(teacher))


TRANSFER_MISTAKES: dict[str, tuple[Any, str]] = {
    "the paper's norm": (
        lambda s, t: attention_transfer_loss(s, t, squared=False),
        "a fine loss, but the exercise asks for the squared mean of the authors' code.",
    ),
    "the sum over places": (
        Forms(
            lambda s, t: my_transfer(s, t) * t[0, 0].numel(),
            lambda s, t: my_transfer(s, t) * t[0, 0].numel() * len(t),
        ),
        "the mean is over examples and places.",
    ),
    "not normalised": (
        lambda s, t: F.mse_loss(F.adaptive_avg_pool2d(_activity(s), t.shape[2:]), _activity(t)),
        "bring each example's map to length 1, or the scales of two networks are compared.",
    ),
    "the weight of 1,000": (
        lambda s, t: 1000 * my_transfer(s, t),
        "the weight is not part of this loss: whoever adds it to another one chooses it.",
    ),
    "the features averaged down": (
        lambda s, t: _pooled(s, t, features_first=True),
        "positive and negative activations cancel in it. Take absolute values first: average the map.",
    ),
    "normalised too early": (
        lambda s, t: _pooled(s, t, features_first=False),
        "averaging changes the length: normalise last.",
    ),
}


def my_relation_loss(student_values: Tensor, teacher_values: Tensor, heads: int) -> Tensor:
    """04.4."""
    q, p = (value_relation(_heads(v, heads)) for v in (student_values, teacher_values.detach()))
    return attention_relation_divergence(q, p).mean()


def _divergence(student: Tensor, teacher: Tensor, heads: int, reduction: str) -> Tensor:
    q, p = (value_relation(_heads(v, heads)) for v in (student, teacher.detach()))
    return F.kl_div(q.log(), p, reduction=reduction)


def _heads(values: Tensor, heads: int) -> Tensor:
    split: Tensor = values.unflatten(-1, (heads, -1))
    return split.transpose(1, 2)


def _scaled(student: Tensor, teacher: Tensor, heads: int, exponent: float) -> Tensor:
    relations = []
    for values in (student, teacher):
        split = _heads(values, heads)
        relations.append(F.softmax(split @ split.mT / float(split.shape[-1]) ** exponent, dim=-1))
    return attention_relation_divergence(*relations).mean()


def _whole_width(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    q, p = ((_heads(v, heads) @ _heads(v, heads).mT / v.shape[-1] ** 0.5).softmax(dim=-1) for v in (student, teacher))
    return attention_relation_divergence(q, p).mean()


def _viewed(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    q, p = (value_relation(v.reshape(len(v), heads, v.shape[1], -1)) for v in (student, teacher))
    return attention_relation_divergence(q, p).mean()


def _never_swapped(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    q, p = (value_relation(v.unflatten(-1, (heads, -1))) for v in (student, teacher))
    return attention_relation_divergence(q, p).mean()


def _of_probabilities(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    q, p = (value_relation(_heads(v, heads)) for v in (student, teacher))
    return F.kl_div(q, p, reduction="none").sum(dim=-1).mean()


RELATION_MISTAKES: dict[str, tuple[Any, str]] = {
    "student and teacher swapped": (
        lambda s, t, heads: my_relation_loss(t, s, heads),
        "the expectation is under the teacher: its probabilities stand in front of the logarithms.",
    ),
    "no square root of the width": (
        lambda s, t, heads: _scaled(s, t, heads, 0.0),
        "products of longer vectors are larger: divide by the root of one head's width.",
    ),
    "divided by the width": (
        lambda s, t, heads: _scaled(s, t, heads, 1.0),
        "the root of the width, as in attention itself.",
    ),
    "the width before the split": (
        _whole_width,
        "each head has only a part of the width: D/heads features.",
    ),
    "a reshape without a transposition": (
        Forms(_viewed, _never_swapped),
        "reshape to (B, heads, L, ...) mixes tokens and features. Split the last axis, then swap heads and tokens.",
    ),
    "heads ignored": (
        lambda s, t, heads: my_relation_loss(s, t, 1),
        "each head has a relation of its own, between its own part of the features.",
    ),
    "kl_div of probabilities": (
        _of_probabilities,
        "kl_div's first argument is the student's logarithms. attention_relation_divergence takes probabilities.",
    ),
    "the sum over heads": (
        lambda s, t, heads: my_relation_loss(s, t, heads) * heads,
        "the mean over heads, tokens and examples, so that the weight doesn't depend on the number of heads.",
    ),
    "the sum over examples": (
        Forms(
            lambda s, t, heads: my_relation_loss(s, t, heads) * len(s),
            lambda s, t, heads: my_relation_loss(s, t, heads) * len(s) * heads,
        ),
        "attention_relation_divergence gives one number for each example: their mean.",
    ),
    "the sum over tokens": (
        Forms(
            lambda s, t, heads: _divergence(s, t, heads, "batchmean"),
            lambda s, t, heads: _divergence(s, t, heads, "sum"),
            lambda s, t, heads: my_relation_loss(s, t, heads) * s.shape[1],
        ),
        "sum over the keys of a row only; then the mean over rows, heads and examples. kl_div's batchmean divides by "
        "the number of examples and by nothing else.",
    ),
    "the mean over keys": (
        lambda s, t, heads: _divergence(s, t, heads, "mean"),
        "a row is one distribution: its terms are summed, not averaged.",
    ),
}
