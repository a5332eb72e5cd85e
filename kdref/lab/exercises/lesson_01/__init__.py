"""The exercises and the quiz of lesson 01, soft targets."""

import torch

from kdref.lab.course.questions import Exercise, Forms, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_01.answers import (
    KL_MISTAKES,
    LOSS_MISTAKES,
    SHIFT_MISTAKES,
    best_shift,
    my_distillation_loss,
    my_kl,
)

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
_LABELS = torch.tensor([0, 2])
_EXTREME = torch.tensor([[10000.0, 0.0, -10000.0]])

# Class 2 was never seen, so its logits are too low. A shift by 2.25 finds one of its three examples, by 4 or 4.5 two;
# by 8, everything is called 2. No amount is a place in the list.
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
        hint="Stay in log space: F.log_softmax of both, then p is the exponential of log p.",
        further="Take the log-probabilities of both with F.log_softmax, and sum p * (log p - log q) over the classes.",
        differs=calls(
            {
                "two examples at temperature 1": (_STUDENT, _TEACHER, 1.0),
                "the same at temperature 2": (_STUDENT, _TEACHER, 2.0),
                "a student that equals its teacher": (_TEACHER, _TEACHER, 2.0),
                "very large logits": (_EXTREME, _EXTREME.flip(-1), 1.0),
            }
        ),
        solution=my_kl,
        mistakes=KL_MISTAKES,
        remark="It is zero where student and teacher agree, and stays finite at logits of 10,000.",
    ),
    "01.2": Exercise(
        title="The loss that everyone uses",
        hint="Which temperature does the student meet the labels at? It will be used at 1.",
        further="Add the mean cross-entropy with the labels and τ² times the mean divergence, each with its weight.",
        differs=calls(
            {
                "labels and teacher, temperature 1": (_STUDENT, _TEACHER, _LABELS, 0.9, 1.0),
                "the same at temperature 4": (_STUDENT, _TEACHER, _LABELS, 0.9, 4.0),
                "labels only": (_STUDENT, _TEACHER, _LABELS, 0.0, 4.0),
                "the teacher only": (_STUDENT, _TEACHER, _LABELS, 1.0, 4.0),
            }
        ),
        solution=my_distillation_loss,
        mistakes=LOSS_MISTAKES,
        remark="Libraries disagree on which term their weight weighs: look before you copy a setting.",
    ),
    "01.3": Exercise(
        title="Predict before you run",
        hint="The gradient is (q - p)/τ. What happens to q - p?",
        further="The gradient is (q - p) / τ. What happens to q - p when both move towards the uniform distribution?",
        differs=number(tolerance=0.1),
        solution=4.0,
        mistakes={
            "the chain rule alone": (2.0, "that is the 1/τ in front; the difference q - p shrinks as well."),
            "with the factor τ² in place": (1.0, "true of the loss with its factor, and the reason for it."),
            "the ratio upside down": (
                Forms(0.25, 0.5, -4.0),
                "the question is how many times smaller it gets: a number above 1. Is there one reason for it, or two?",
            ),
            "τ² itself": (Forms(100.0, 400.0, 300.0), "the temperature doubles. What counts is the ratio of the two."),
            "both factors squared": (16.0, "1/τ is there twice, not four times."),
            "a sum of factors": (3.0, "the two reasons multiply."),
        },
        remark="1/τ from the chain rule and 1/τ from q - p: that is what the factor τ² makes up for.",
    ),
    "01.4": Exercise(
        title="Design: choose the bias shift honestly",
        hint="Why not the highest recall of that class? Try a shift of 1,000 in your head.",
        further="For each amount, add it to the class's column of a copy, and measure the accuracy over all examples.",
        differs=calls(
            {
                "a class that was never seen, number 2": (_UNSEEN, _UNSEEN_LABELS, 2, [0.0, 2.25, 4.0, 4.5, 8.0]),
                "a class that needs no shift": (_UNSEEN, _UNSEEN.argmax(dim=-1), 0, [0.0, 1.0, 6.0]),
            }
        ),
        solution=best_shift,
        mistakes=SHIFT_MISTAKES,
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
        "Two students of section 6 learn from soft targets at τ = 10 and no labels, for equally long. The large one "
        "gains from them, the tiny one loses. In what do the two differ?",
        {
            "Whether labels alone can be learned by heart": "With labels the large one is right on all of its training "
            "data, the tiny one on 60 of 100: it has less overfitting to cure.",
            "Which teacher they had": "For each seed it is one and the same convolutional network.",
            "Whether they saw labels beside the teacher": "Neither did. The large student gained with them, too.",
        },
        right="Whether labels alone can be learned by heart",
    ),
)
