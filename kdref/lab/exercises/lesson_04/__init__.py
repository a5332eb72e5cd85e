"""The exercises and the quiz of lesson 04, attention-based distillation."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_04.answers import (
    MAP_MISTAKES,
    RELATION_MISTAKES,
    TRANSFER_MISTAKES,
    my_map,
    my_relation_loss,
    my_transfer,
)

__all__ = ["EXERCISES", "QUIZ"]

_MAPS = torch.tensor(
    [[[[3.0, 1.0], [0.0, 2.0]], [[-4.0, 1.0], [1.0, 0.0]]], [[[0.5, 2.0], [1.0, 1.0]], [[0.0] * 2] * 2]]
)
_WITH_ZEROS = torch.stack([_MAPS[0], torch.zeros(2, 2, 2)])
_NARROW = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]]], [[[0.0, 3.0], [1.0, 0.0]]]])
_LARGE = torch.tensor([[[1.0, -1.0, 2.0, 0.0], [1.0, -1.0, 0.0, 2.0], [0.0, 1.0, 3.0, 1.0], [0.0, 0.0, -1.0, 1.0]]])
_LARGE = torch.stack([_LARGE, -0.5 * _LARGE.flip(-1) + 1])
_VALUES = torch.tensor([[[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, 1.0], [2.0, -1.0, 0.0, 1.0]]])
_VALUES = torch.cat([_VALUES, 1 - _VALUES.flip(1, 2)])  # two examples: one would not tell a sum from a mean
_WIDE = torch.tensor(
    [[[1.0, 2.0, 0.0, -1.0, 1.0, 0.0, 1.0, 2.0], [0.0, 1.0, -1.0, 1.0, 2.0, 1.0, 0.0, 0.0], [1.0] * 4 + [-1.0] * 4]]
)
_WIDE = torch.cat([_WIDE, _WIDE.flip(1) - 1])

EXERCISES: dict[str, Exercise] = {
    "04.1": Exercise(
        title="The attention map",
        hint="F.normalize divides by the length, and leaves zeros alone.",
        further="abs, pow, sum over channels (axis 1), flatten, F.normalize: in this order.",
        differs=calls(
            {
                "power 2": (_MAPS, 2.0),
                "power 3, and activations of both signs": (_MAPS, 3.0),
                "an example of zeros": (_WITH_ZEROS, 2.0),
            }
        ),
        solution=my_map,
        mistakes=MAP_MISTAKES,
        remark="The channels are gone: networks of any width can be compared.",
    ),
    "04.2": Exercise(
        title="Attention transfer",
        hint="Sum over channels, then average down, then normalise.",
        further="Two maps of 04.1 and F.mse_loss; but F.adaptive_avg_pool2d between the sum and the normalisation.",
        differs=calls({"equal sizes": (_NARROW, _MAPS), "a larger student": (_LARGE, _MAPS)}),
        solution=my_transfer,
        mistakes=TRANSFER_MISTAKES,
        remark="Two lines more than a hint, and no regressor to train.",
    ),
    "04.3": Exercise(
        title="Predict what the map keeps",
        hint="Normalisation divides both by the same number.",
        further="What does the factor do to both places? And what would an odd power do without the absolute value?",
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
        hint="The functions want (B, heads, L, D/heads). A plain reshape mixes tokens and features.",
        further="values.unflatten(-1, (heads, -1)).transpose(1, 2) has shape (B, heads, L, D/heads); then softmax "
        "and KL.",
        differs=calls(
            {
                "widths 4 and 8, one head": (_VALUES, _WIDE, 1),
                "widths 4 and 8, two heads": (_VALUES, _WIDE, 2),
                "the same with sides swapped": (_WIDE, _VALUES, 2),
            }
        ),
        solution=my_relation_loss,
        mistakes=RELATION_MISTAKES,
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
