"""What to do with several teachers, with none, or with one that has another sensor, by the lessons' own verdicts.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.for_classes import CLASSES, LOGITS
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_TEACHERS"]

LABELS, WATCH = "self_distillation_labels", "cross_modal"
COUNCILS, VIEWS = "multi_teacher_councils", "digits, three teachers of different views"
BEST = "their mean against the best of them"
SEVERAL = CLASSES | LOGITS | {"teachers": ("several",)}

FOR_TEACHERS: tuple[Choice, ...] = (
    Choice(
        "start",
        "the mean of the teachers' logits, at τ = 1; before that, check each teacher on 50 new examples",
        SEVERAL | {"labels": ("few", "none")},
        "06",
        "average_logits",
        (
            Evidence(COUNCILS, "three views | logits, τ = 1", "Fourier alone | logits", "helps", VIEWS, words=BEST),
            Evidence(
                COUNCILS, "three views | logits, τ = 1", "50 labels", "helps", "the same", words="it against 50 labels"
            ),
        ),
    ),
    Choice(
        "beware",
        "with a label for every example, labels alone taught more than any council of teachers",
        SEVERAL | {"labels": ("many", "many, some wrong")},
        "06",
        "average_logits",
        (
            Evidence(
                COUNCILS, "three views | logits, τ = 1", "1,000 labels", "hurts", VIEWS, words="it against 1,000 labels"
            ),
        ),
    ),
    Choice(
        "beware",
        "weights by entropy trust a teacher that is sure and wrong; confidence on labels does not",
        SEVERAL,
        "06",
        "confidence_weights",
        (
            Evidence(
                COUNCILS,
                "one off | entropy",
                "one off | confidence",
                "hurts",
                "digits, one of four teachers is wrong",
                words="entropy weights against confidence weights",
            ),
        ),
    ),
    Choice(
        "start",
        "label smoothing, its ε tuned; class mates cost less NLL",
        CLASSES | {"teachers": ("none",)},
        "08",
        "label_smoothing_loss",
        (Evidence(LABELS, "label smoothing", "labels", "helps", "digits, right labels", "right labels | "),),
    ),
    Choice(
        "then",
        "the virtual teacher, averaged weights, or stopping early on right labels",
        CLASSES | {"teachers": ("none",), "labels": ("many, some wrong",)},
        "08",
        "EmaTeacher",
        (
            Evidence(LABELS, "virtual teacher", "labels", "helps", "digits, 30 % wrong", "30 % wrong | "),
            Evidence(LABELS, "averaged weights", "labels", "helps", "digits, 30 % wrong", "30 % wrong | "),
        ),
    ),
    Choice(
        "beware",
        "born-again generations at τ of 1 and more did not gain",
        CLASSES | {"teachers": ("none",)},
        "08",
        "self_distillation.generations",
        (Evidence(LABELS, "born again", "labels", "hurts", "digits, right labels", "right labels | "),),
    ),
    Choice(
        "start",
        "the better sensor's first choice as a label on unlabelled pairs; or its soft targets at τ = 1",
        CLASSES | {"sensor": ("a better one",), "inputs": ("many",)},
        "07",
        "hard_label_loss",
        (
            Evidence(
                WATCH,
                "accelerometer | argmax",
                "nobody | labels",
                "helps",
                "watch",
                "gyroscope | ",
                words="first choices against labels of few people",
            ),
            Evidence("cross_modal_equal", "argmax", "soft targets, τ = 1", "no useful difference", "watch, equal τ"),
        ),
    ),
    Choice(
        "beware",
        "the weaker sensor as the teacher made the student worse",
        CLASSES | {"sensor": ("a worse one",)},
        "07",
        "cross_modal",
        (
            Evidence(
                WATCH,
                "gyroscope | soft targets",
                "nobody | labels",
                "hurts",
                "watch, accelerometer",
                "accelerometer | ",
            ),
        ),
    ),
)
