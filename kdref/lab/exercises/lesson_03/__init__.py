"""The exercises and the quiz of lesson 03, feature-based distillation."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_03.answers import (
    GRAM_MISTAKES,
    HINT_MISTAKES,
    PARTIAL_MISTAKES,
    my_gram_distance,
    my_hint_loss,
    my_partial_distance,
)

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[[[1.0, 0.0], [2.0, -1.0]], [[0.5, 1.5], [0.0, 1.0]]], [[[0.0, 3.0], [1.0, 1.0]]] * 2])
_TEACHER = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 0.5]], [[0.0, 1.0], [1.0, 2.0]]]] * 2)
_WEIGHT = torch.tensor([[1.0, 0.5], [0.0, -1.0], [2.0, 1.0]])  # teacher's channels, student's channels
_BIAS = torch.tensor([0.5, 0.0, -1.0])
_BEFORE_S = torch.tensor([[-5.0, 0.5, 1.0, -0.2], [2.0, -0.5, 0.0, -3.0]])
_BEFORE_T = torch.tensor([[-2.0, -2.0, 3.0, -0.1], [1.0, 0.5, -0.3, 4.0]])
_MARGIN = torch.tensor([-1.0, -1.0, -0.5, -0.8])

EXERCISES: dict[str, Exercise] = {
    "03.1": Exercise(
        title="A hint through a regressor",
        hint="The regressor does the same at every place: torch.einsum, or F.conv2d with a kernel of 1 × 1.",
        further='torch.einsum("tc,bchw->bthw", weight, student_maps) maps the channels; the bias needs shape (C, 1, '
        "1).",
        differs=calls({"two examples": (_STUDENT, _TEACHER, _WEIGHT, _BIAS)}),
        solution=my_hint_loss,
        mistakes=HINT_MISTAKES,
        remark="A 1×1 convolution: the same linear map at every place.",
    ),
    "03.2": Exercise(
        title="The partial distance",
        hint="Section 5 draws it. Which of its two curves has a flat part?",
        further="target = max(teacher, margin); a boolean mask says where teacher <= 0 and student <= target.",
        differs=calls({"two examples of four channels": (_BEFORE_S, _BEFORE_T, _MARGIN)}),
        solution=my_partial_distance,
        mistakes=PARTIAL_MISTAKES,
        remark="After the ReLU nobody would see how silent a neuron is, so the student is not asked to copy it.",
    ),
    "03.3": Exercise(
        title="Predict the price of a reused classifier",
        hint="What comes, and what goes?",
        further="Projector: 16 · 64 weights and 64 biases. Classifier: 64 · 10 and 10. Which layer does the student "
        "lose?",
        differs=number(tolerance=1e-6),
        solution=1754.0 - 170 + 16 * 64 + 64 + 64 * 10 + 10,
        mistakes={
            "the student's classifier kept": (
                1754.0 + 16 * 64 + 64 + 64 * 10 + 10,
                "the teacher's replaces it: its 16 · 10 + 10 parameters go.",
            ),
            "the frozen classifier not counted": (
                1754.0 - 170 + 16 * 64 + 64,
                "frozen parameters are shipped and multiplied like any others.",
            ),
            "the biases forgotten": (1754.0 - 170 + 16 * 64 + 64 * 10, "both layers have biases: 64 and 10."),
            "the projector forgotten": (
                1754.0 - 170 + 64 * 10 + 10,
                "the student's 16 features must become the teacher's 64: 16 · 64 + 64 for that.",
            ),
            "section 6's projector": (6074.0, "that one has three layers. The projector here is one linear layer."),
            "the student alone": (1754.0, "a hint's regressor is thrown away. This projector stays."),
        },
        remark="Nearly twice the student. Compare with a student of that size, not with the small one.",
    ),
    "03.4": Exercise(
        title="Design: a discrepancy without pairs of channels",
        hint="The square of an inner product is the inner product of two outer products.",
        further="With unit patterns X of shape (C, HW): Σ over pairs (x·y)² = ⟨XᵀX, YᵀY⟩. What is then ‖XᵀX/C - "
        "YᵀY/C'‖²?",
        differs=calls({"two channels against three": (_STUDENT, _TEACHER)}),
        solution=my_gram_distance,
        mistakes=GRAM_MISTAKES,
        remark="Two HW×HW matrices; the direct form needs a tensor of C·C'·HW elements, and 3 sums over pairs.",
    ),
}

QUIZ = (
    Question(
        "A hint loss has fallen to a tenth. What does that say about the student's own features?",
        {
            "Little: the regressor may have done it": "Measure the features themselves: CKA, or a linear probe, that "
            "is a linear classifier trained on them.",
            "They are like the teacher's": "In section 3 a student that never learned had the lower loss.",
            "They are linear maps of the teacher's": "The other way round, if the regressor is linear and the loss 0.",
        },
        right="Little: the regressor may have done it",
    ),
    Question(
        "Two sets of features have CKA 1. What may still differ?",
        {
            "Rotation and scale": "CKA sees relations between examples, which neither changes.",
            "Which examples are near each other": "Those distances are what it compares, up to scale.",
            "Nothing": "Feature by feature all values may differ.",
        },
        right="Rotation and scale",
    ),
    Question(
        "Which part of a feature-based method is still there at inference?",
        {
            "SimKD's projector and classifier": "They are the student's new head: count their parameters and time.",
            "FitNets' regressor": "It is thrown away after training.",
            "FT's autoencoder": "It makes the factors that the loss compares, and serves the loss alone.",
        },
        right="SimKD's projector and classifier",
    ),
)
