"""The exercises and the quiz of lesson 06, several teachers."""

import torch
import torch.nn.functional as F

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, calls, number
from kdref.lab.exercises.lesson_06.answers import (
    AVERAGE_MISTAKES,
    CONFIDENCE_MISTAKES,
    LOSS_MISTAKES,
    TRUST_MISTAKES,
    my_average,
    my_confidence_weights,
    my_loss,
    my_trust,
)

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.5, -0.5], [0.0, 2.0, 1.0]])
_TEACHERS = torch.tensor(
    [[[4.0, 0.0, -1.0], [0.0, 3.0, 0.0]], [[0.0, 2.0, 0.0], [1.0, 2.0, 2.0]], [[1.0, 0.0, 0.0], [-2.0, 1.0, 3.0]]]
)
_LABELS = torch.tensor([0, 1])
_WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
_VOTES = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0], [1, 2, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0]])
_TRUE = torch.tensor([0, 1, 2, 0, 1, 2])

EXERCISES: dict[str, Exercise] = {
    "06.1": Exercise(
        title="The arithmetic mean",
        hint="Which comes first, the softmax or the mean?",
        further="teacher_logits is (K, B, C): softmax over the last axis, mean over the first.",
        differs=calls(at_temperatures("three teachers, two examples", _TEACHERS)),
        solution=my_average,
        mistakes=AVERAGE_MISTAKES,
        remark="These are probabilities, softened already: whoever softens them again gets nearly nothing.",
    ),
    "06.2": Exercise(
        title="The loss against all of them",
        hint="F.log_softmax of the student broadcasts against that of the teachers.",
        further="The divergence of lesson 01 for each teacher, (K, B); then the weights, the mean, and τ².",
        differs=calls(at_temperatures("three teachers, two examples", _STUDENT, _TEACHERS, _WEIGHTS)),
        solution=my_loss,
        mistakes=LOSS_MISTAKES,
        remark="Its gradient is that of the loss against the weighted mean of the probabilities.",
    ),
    "06.3": Exercise(
        title="Confidence weights",
        hint="One cross-entropy per teacher and example; then a softmax over which axis?",
        further="F.cross_entropy(row, labels, reduction='none') for each teacher; softmax over teachers; 1 minus; "
        "divide.",
        differs=calls(
            {
                "three teachers": (_TEACHERS, _LABELS),
                "two of them": (_TEACHERS[:2], _LABELS),
                "other labels": (_TEACHERS, torch.tensor([2, 2])),
            }
        ),
        solution=my_confidence_weights,
        mistakes=CONFIDENCE_MISTAKES,
        remark="No weight can exceed 1/(K - 1): the best of many teachers is not singled out.",
    ),
    "06.4": Exercise(
        title="Predict the right one's say",
        hint="What does the softmax of the three cross-entropies look like?",
        further="The two wrong ones share almost all of the softmax of the cross-entropies. What is left for each?",
        differs=number(),
        solution=0.5,
        mistakes={
            "it gets everything": (1.0, "no weight exceeds 1/(K - 1), and K is 3."),
            "equal weights": (1 / 3, "then the formula would not look at the labels. It does."),
            "it gets nothing": (
                0.0,
                "its cross-entropy is the smallest, so its share of the softmax is near 0. And 1 - 0?",
            ),
            "a quarter": (0.25, "that is what each of the wrong ones gets: (1 - ½)/2."),
        },
        remark="So the two wrong ones keep the other half, and if they agree on a class it is a tie.",
    ),
    "06.5": Exercise(
        title="Design: trust from a few labels",
        hint="What is a teacher worth that always says the same class?",
        further="Accuracy of each teacher on the labelled examples, minus 1/C; nothing below 0; divide by the sum.",
        differs=calls(
            {
                "one right, one nearly, one never, one that always says 0": (
                    F.one_hot(_VOTES, 3).float(),
                    _TRUE,
                ),
                "the first two": (F.one_hot(_VOTES[:2], 3).float(), _TRUE),
            }
        ),
        solution=my_trust,
        mistakes=TRUST_MISTAKES,
        remark="A weight per teacher needs few labels, because there are few teachers.",
    ),
}

QUIZ = (
    Question(
        "One of three teachers gives a class probability 10⁻²⁰; the other two are sure of it. Which mean drops it?",
        {
            "The geometric": "A product is as small as its smallest factor allows: one teacher can veto.",
            "The arithmetic": "It keeps two thirds: a class is likely if one teacher finds it likely.",
            "Both": "The arithmetic mean keeps two thirds of the probability there.",
        },
        right="The geometric",
    ),
    Question(
        "Your multi-teacher loss stops falling at 0.3 and the student's gradient is zero. What is wrong?",
        {
            "Nothing": "The teachers disagree by that much on average (times τ²): below it the loss can't go.",
            "The student is too small": "Then the gradient would not be zero with respect to its logits.",
            "The temperature is too low": "At any temperature it ends at τ² times the teachers' disagreement there.",
        },
        right="Nothing",
    ),
    Question(
        "No labels, four teachers, and you fear that one is sure and wrong. What do entropy weights do?",
        {
            "They trust it most": "Entropy measures how sure a teacher is, and this one is sure.",
            "They shut it out": "For that they would have to know that it is wrong; entropy doesn't look at labels.",
            "Nothing at all": "They differ from equal weights as soon as one teacher is surer than another.",
        },
        right="They trust it most",
    ),
)
