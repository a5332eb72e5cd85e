"""The exercises and the quiz of lesson 02, response-based distillation."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, calls, number
from kdref.lab.exercises.lesson_02.answers import (
    MATCHING_MISTAKES,
    NONTARGET_MISTAKES,
    WEIGHT_MISTAKES,
    my_logit_matching,
    my_nontarget_divergence,
    my_weights,
)

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0, 0.5], [0.5, 2.0, 0.0, -1.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 1.0, 2.5, 0.5]])
_LABELS = torch.tensor([0, 3])  # the second teacher is wrong
_TWO_EXAMPLES = at_temperatures("two examples", _STUDENT, _TEACHER, _LABELS)
_SURE = torch.tensor([[10000.0, 0.0, 3.0, -10000.0]])
_LESS_SURE = torch.tensor([[9000.0, 3.0, 0.0, -10000.0]])

EXERCISES: dict[str, Exercise] = {
    "02.1": Exercise(
        title="Logits against logits",
        hint="Which of the two means is over an example's classes, and which over the examples?",
        further="Take each example's mean off, on both sides: z - z.mean(dim=-1, keepdim=True). What is left is one "
        "mean over all B · C squares, and a half.",
        differs=calls(
            {
                "three examples": (torch.cat([_STUDENT, _TEACHER[:1]]), torch.cat([_TEACHER, _STUDENT[1:]])),
                "a teacher that is shifted": (_STUDENT, _TEACHER + 5),
            }
        ),
        solution=my_logit_matching,
        mistakes=MATCHING_MISTAKES,
        remark="It is what τ² KL tends to for large τ, so it needs no temperature.",
    ),
    "02.2": Exercise(
        title="The other classes among themselves",
        hint="A boolean mask of shape (B, C) picks B · (C - 1) logits; give them their shape back.",
        further="Build logits without the label's column, shape (B, C - 1), and take the divergence of lesson 01.",
        differs=calls(
            {
                **_TWO_EXAMPLES,
                "a target of thousands": (_SURE, _LESS_SURE, torch.tensor([0]), 1.0),
                "very large logits": (_SURE, -_SURE, torch.tensor([2]), 1.0),
            }
        ),
        solution=my_nontarget_divergence,
        mistakes=NONTARGET_MISTAKES,
        remark="Put the two together: KL = target part + (1 - p of the label) times this one.",
    ),
    "02.3": Exercise(
        title="Predict what standardising does to two classes",
        hint="Softmax of two scores a and b is 1 / (1 + exp(b - a)).",
        further="Two numbers a and b have the mean (a + b)/2. How far is each from it, in their own standard "
        "deviations?",
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
            "the population deviation, no temperature": (
                torch.sigmoid(torch.tensor(2.0)).item(),
                "two slips: the deviation divides by C - 1, and the z-scores are divided by τ = 2.",
            ),
            "the second class": (
                torch.sigmoid(torch.tensor(-(2**0.5) / 2)).item(),
                "the first class has the larger logit, so more than a half.",
            ),
            "nothing changes": (
                torch.sigmoid(torch.tensor(3.0)).item(),
                "that is the softmax of the raw logits at τ = 2. Standardising comes before it.",
            ),
            "certainty": (1.0, "the largest z-score of two numbers is small, whatever the numbers are."),
        },
        remark="The same for logits (8, 2) and (0.01, 0): with two classes only the order is left to learn.",
    ),
    "02.4": Exercise(
        title="Design: amplify only a teacher who is right",
        hint="Section 1 says what that weight is.",
        further="torch.where takes a condition per example, a number, and a tensor of shape (B,).",
        differs=calls(at_temperatures("one teacher right and one wrong", _TEACHER, _LABELS, 8.0)),
        solution=my_weights,
        mistakes=WEIGHT_MISTAKES,
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
            "The cached output of the whole image": "It describes another input: two points worse here.",
            "The output on a crop of its own": "Then the student is asked about one part and corrected about another.",
        },
        right="The teacher's output on the same crop",
    ),
)
