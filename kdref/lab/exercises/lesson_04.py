"""The exercises and the quiz of lesson 04, attention-based distillation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.attention import attention_map, attention_relation_divergence, attention_transfer_loss, value_relation
from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number

__all__ = ["EXERCISES", "QUIZ"]

_MAPS = torch.tensor(
    [[[[3.0, 1.0], [0.0, 2.0]], [[-4.0, 1.0], [1.0, 0.0]]], [[[0.5, 2.0], [1.0, 1.0]], [[0.0] * 2] * 2]]
)
_WITH_ZEROS = torch.stack([_MAPS[0], torch.zeros(2, 2, 2)])
_NARROW = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]]], [[[0.0, 3.0], [1.0, 0.0]]]])
_LARGE = torch.tensor([[[1.0, -1.0, 2.0, 0.0], [1.0, -1.0, 0.0, 2.0], [0.0, 1.0, 3.0, 1.0], [0.0, 0.0, -1.0, 1.0]]])
_LARGE = torch.stack([_LARGE, -0.5 * _LARGE.flip(-1) + 1])


def my_map(features: Tensor, power: float) -> Tensor:
    """04.1."""
    return attention_map(features, power=power)


_MAP_MISTAKES: dict[str, tuple[Any, str]] = {
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
        lambda a, power: F.normalize(a.abs().pow(power).sum(dim=1).flatten(1), dim=1, p=1),
        "length 1 means that the squares sum to 1.",
    ),
    "normalised over the batch": (
        lambda a, power: F.normalize(a.abs().pow(power).sum(dim=1).flatten(1), dim=0),
        "each example by itself: a row of the result has length 1, not a column.",
    ),
    "zero divided by zero": (
        lambda a, power: (m := a.abs().pow(power).sum(dim=1).flatten(1)) / m.norm(dim=1, keepdim=True),
        "a layer that is silent for an example gives nan. F.normalize leaves zeros.",
    ),
}


def my_transfer(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """04.2."""
    return attention_transfer_loss(student_maps, teacher_maps)


def _pooled(student: Tensor, teacher: Tensor, *, features_first: bool) -> Tensor:
    size = (teacher.shape[2], teacher.shape[3])
    if features_first:
        return my_transfer(F.adaptive_avg_pool2d(student, size), teacher)
    unit = attention_map(student).reshape(len(student), 1, *student.shape[2:])
    return F.mse_loss(F.adaptive_avg_pool2d(unit, size).flatten(1), attention_map(teacher))


_TRANSFER_MISTAKES: dict[str, tuple[Any, str]] = {
    "the paper's norm": (
        lambda s, t: attention_transfer_loss(s, t, squared=False),
        "a fine loss, but the exercise asks for the squared mean of the authors' code.",
    ),
    "the sum over places": (
        lambda s, t: my_transfer(s, t) * t[0, 0].numel(),
        "the mean is over examples and places.",
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


_RELATION_MISTAKES: dict[str, tuple[Any, str]] = {
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
        _viewed,
        "reshape to (B, heads, L, ...) mixes tokens and features. Split the last axis, then swap heads and tokens.",
    ),
    "the sum over heads": (
        lambda s, t, heads: my_relation_loss(s, t, heads) * heads,
        "the mean over heads, tokens and examples, so that the weight doesn't depend on the number of heads.",
    ),
}

_VALUES = torch.tensor([[[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, 1.0], [2.0, -1.0, 0.0, 1.0]]])
_WIDE = torch.tensor(
    [[[1.0, 2.0, 0.0, -1.0, 1.0, 0.0, 1.0, 2.0], [0.0, 1.0, -1.0, 1.0, 2.0, 1.0, 0.0, 0.0], [1.0] * 4 + [-1.0] * 4]]
)

EXERCISES: dict[str, Exercise] = {
    "04.1": Exercise(
        title="The attention map",
        hint="abs, pow, sum over channels (axis 1), flatten, F.normalize: in this order.",
        differs=calls(
            {
                "power 2": (_MAPS, 2.0),
                "power 3, and activations of both signs": (_MAPS, 3.0),
                "an example of zeros": (_WITH_ZEROS, 2.0),
            }
        ),
        solution=my_map,
        mistakes=_MAP_MISTAKES,
        remark="The channels are gone: networks of any width can be compared.",
    ),
    "04.2": Exercise(
        title="Attention transfer",
        hint="Two maps of 04.1 and F.mse_loss; but F.adaptive_avg_pool2d between the sum and the normalisation.",
        differs=calls({"equal sizes": (_NARROW, _MAPS), "a larger student": (_LARGE, _MAPS)}),
        solution=my_transfer,
        mistakes=_TRANSFER_MISTAKES,
        remark="Two lines more than a hint, and no regressor to train.",
    ),
    "04.3": Exercise(
        title="Predict what the map keeps",
        hint="What does the factor do to both places? And what would an odd power do without the absolute value?",
        differs=number(tolerance=0.005),
        solution=91.0,
        mistakes={
            "no absolute value": (-37.0, "27 and -64 do not cancel: the absolute value comes first."),
            "the scale": (91000.0, "the factor of 10 is in both places' numbers, so the ratio doesn't see it."),
            "power 2": (25.0, "right for power 2; this is power 3."),
            "power 1": (7.0, "right for power 1; this is power 3."),
            "the power of the sum": (343.0, "each channel is powered, then they are summed."),
            "the inverse": (1 / 91, "the first place divided by the second."),
        },
        remark="Power 1 gave 7, power 3 gives 91: a high power sees little but the strongest place.",
    ),
    "04.4": Exercise(
        title="Design: value relations of any widths",
        hint="values.unflatten(-1, (heads, -1)).transpose(1, 2) has shape (B, heads, L, D/heads); then softmax and KL.",
        differs=calls(
            {
                "widths 4 and 8, one head": (_VALUES, _WIDE, 1),
                "widths 4 and 8, two heads": (_VALUES, _WIDE, 2),
                "the same with sides swapped": (_WIDE, _VALUES, 2),
            }
        ),
        solution=my_relation_loss,
        mistakes=_RELATION_MISTAKES,
        remark="Heads chosen for the loss alone are what MiniLMv2 (2021) calls relation heads.",
    ),
}

QUIZ = (
    Question(
        "The teacher's channels are put into another order. What happens to its attention map?",
        {
            "Nothing": "The map sums over channels. That is why networks of other widths can follow it.",
            "It is permuted too": "The channels are summed away; only places are left.",
            "It changes its scale": "The scale is divided out, and a permutation would not change it anyway.",
        },
        right="Nothing",
    ),
    Question(
        "The squared loss has a weight of 1,000 in published code. You move from maps of 32 × 32 to maps of 8 × 8.",
        {
            "The same weight is 16 times as strong": "The loss is a mean over places of maps of length 1, at most "
            "2/HW: fewer places, larger loss.",
            "The weight can stay": "Their length is 1 whatever their size, so the mean over places changes.",
            "The same weight is 16 times weaker": "The other way round: a mean over fewer places is larger here.",
        },
        right="The same weight is 16 times as strong",
    ),
    Question(
        "Teacher: 12 heads, width 768. Student: 12 heads, width 384. Which loss fits without a trained projection?",
        {
            "Divergence of attention and of value relations": "Both are L × L for each head; the width has dropped "
            "out.",
            "Mean squared error of the hidden states": "384 numbers against 768: a projection must be trained first.",
            "None": "Relations between tokens have the same shape on both sides.",
        },
        right="Divergence of attention and of value relations",
    ),
)
