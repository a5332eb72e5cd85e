"""The exercises and the quiz of lesson 07, cross-modal distillation."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_07.answers import (
    INTERVAL_MISTAKES,
    LOSS_MISTAKES,
    PAIRED_MISTAKES,
    lower_end,
    my_loss,
    paired,
)

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, -1.0, 1.5], [2.0, 1.0, 1.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.5], [4.0, 0.0, 1.0], [0.0, 0.5, 3.0]])
_SOME, _ALL, _NONE = (torch.tensor(labels) for labels in ([0, -100, -100, 2], [0, 1, 2, 0], [-100] * 4))
_FOUR, _FOUR_AFTER = [0.30, 0.50, 0.60, 0.80], [0.36, 0.54, 0.68, 0.82]
_TEN = [0.31, 0.42, 0.55, 0.47, 0.68, 0.51, 0.73, 0.39, 0.60, 0.44]
_TEN_AFTER = [0.40, 0.44, 0.66, 0.44, 0.73, 0.63, 0.73, 0.46, 0.64, 0.54]
_TIMES = torch.arange(24.0).reshape(3, 8)

EXERCISES: dict[str, Exercise] = {
    "07.1": Exercise(
        title="Labels where there are some, the teacher where there are none",
        hint="Start from 0; add a term only where it has rows. soft_target_loss is imported.",
        further="F.cross_entropy has ignore_index=-100; for the teacher, index both logits with labels == -100.",
        differs=calls(
            {
                "two labelled and two unlabelled windows, temperature 1": (_STUDENT, _TEACHER, _SOME, 1.0),
                "the same at temperature 4": (_STUDENT, _TEACHER, _SOME, 4.0),
                "no unlabelled window": (_STUDENT, _TEACHER, _ALL, 2.0),
                "no labelled window": (_STUDENT, _TEACHER, _NONE, 2.0),
            }
        ),
        solution=my_loss,
        mistakes=LOSS_MISTAKES,
        remark="With labels for everything it is plain training; with none, the student learns from the teacher alone.",
    ),
    "07.2": Exercise(
        title="Predict a rank agreement",
        hint="Four classes make six pairs.",
        further="Four classes make six pairs. In how many do the two sensors agree on which class is more likely?",
        differs=number(tolerance=0.01),
        solution=2 / 3,
        mistakes={
            "the share of pairs": (5 / 6, "that is the share that agree. From it subtract the share that disagree."),
            "Spearman's correlation": (0.8, "that correlates the ranks. Kendall's counts pairs."),
            "not divided": (4.0, "divide by the number of pairs: an agreement is at most 1."),
            "half the classes": (0.5, "two classes stand where they did, but it is pairs that count."),
        },
        remark="One exchange of neighbours costs 2 of 6, whatever the logits: the agreement ignores how sure each is.",
    ),
    "07.3": Exercise(
        title="Find the pairs again",
        hint="Draw two rulers, one shifted. Which samples have no partner?",
        further="Draw two rulers, one shifted. Which samples of each have a partner? Then the case of a negative lag.",
        differs=calls(
            {
                "a gyroscope that is two samples late": (_TIMES, 100 + _TIMES, 2),
                "one that is three samples early": (_TIMES, 100 + _TIMES, -3),
                "clocks that agree": (_TIMES, 100 + _TIMES, 0),
            }
        ),
        solution=paired,
        mistakes=PAIRED_MISTAKES,
        remark="Pairs are the whole supply of knowledge here: check the clocks before you tune a loss.",
    ),
    "07.4": Exercise(
        title="Design: does it help the next person?",
        hint="Pair them first. stats.t.ppf(0.975, n - 1) is the quantile.",
        further="One difference per person, their mean, their standard error with n - 1, and a quantile of Student's "
        "t.",
        differs=calls({"four people": (_FOUR, _FOUR_AFTER), "ten people": (_TEN, _TEN_AFTER)}, tolerance=1e-3),
        solution=lower_end,
        mistakes=INTERVAL_MISTAKES,
        remark="Above zero: you may expect a gain for a person drawn like these. More seeds can't replace more people.",
    ),
}

QUIZ = (
    Question(
        "A camera and a microphone record the same scenes. Which of them should teach, and which learn?",
        {
            "The one that classifies better from its labels teaches": "A teacher has to know more than the student "
            "does, about things that the student's sensor can see too.",
            "The one with the larger network": "A large network with a poor sensor has nothing to say.",
            "Both directions gain the same": "Here the weaker sensor, as the teacher, made the better one worse.",
        },
        right="The one that classifies better from its labels teaches",
    ),
    Question(
        "Your teacher is right on 95 % of the pairs, by looking at colour. The student's sensor sees none. And now?",
        {
            "Expect little: what it knows is not in the student's signal": "Accuracy of the teacher is not enough; "
            "the deciding features must be shared by both senses.",
            "Distil longer": "No time makes colour visible.",
            "Raise the temperature": "It shows more of the teacher's answers, and none of their reasons.",
        },
        right="Expect little: what it knows is not in the student's signal",
    ),
    Question(
        "A seed's five folds gave 58 %. Twenty-four seeds later the interval is narrow. What is still unknown?",
        {
            "How an eleventh person would do": "All seeds test the same ten people. Only more people tell.",
            "Nothing, it is significant": "It is, about these ten people.",
            "Whether the folds overlapped": "That is known: every person is tested by networks that never saw them.",
        },
        right="How an eleventh person would do",
    ),
)
