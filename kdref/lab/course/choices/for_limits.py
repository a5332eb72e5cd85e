"""What to do where data, training or the student are small, and what hurt there, by the lessons' own verdicts.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.for_classes import CLASSES, INSIDE, LOGITS, ONE, TAUGHT
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_LIMITS"]

GENERATED, PATIENCE = "transfer_images", "response_patience"
SOFT = "soft targets at τ = 10 against labels"

FOR_LIMITS: tuple[Choice, ...] = (
    Choice(
        "then",
        "more real inputs like yours, answered by the teacher",
        TAUGHT | {"inputs": ("many",), "labels": ("few", "many", "many, some wrong")},
        "10",
        "soft_target_loss",
        (
            Evidence(
                "transfer_letter",
                "real | 3",
                "labels | 1",
                "helps",
                "letters",
                words="3,000 real ones, answered by the teacher, against 1,000 labels",
            ),
            Evidence(
                "relation_labels",
                "soft targets, 50 labels",
                "labels only, 50 labels",
                "helps",
                "digits, 50 labels",
                words="soft targets on 1,000 images against labels",
            ),
        ),
    ),
    Choice(
        "then",
        "MUNGE, if the inputs are a table of numbers and names and the teacher knows more than the labels",
        TAUGHT | {"labels": ("few", "many"), "inputs": ("none",)},
        "10",
        "munge",
        (
            Evidence(
                "transfer_letter",
                "munge | 100",
                "labels | 1",
                "helps",
                "letters as 16 numbers",
                words="MUNGE against labels",
            ),
            Evidence(
                "transfer_letter",
                "uniform | 100",
                "labels | 1",
                "hurts",
                "the same",
                words="inputs drawn uniformly against labels",
            ),
        ),
    ),
    Choice(
        "start",
        "generate inputs from the teacher itself, with its BatchNorm statistics",
        CLASSES | INSIDE | {"teachers": ("one",), "inputs": ("no data at all",)},
        "10",
        "data_free",
        (
            Evidence(GENERATED, "generated (DAFL, statistics)", "noise", "helps", "MNIST images"),
            Evidence(GENERATED, "generated (DAFL, statistics)", "other images", "hurts", "the same"),
        ),
    ),
    Choice(
        "beware",
        "noise teaches little, and so does another set whose inputs look different to the teacher",
        CLASSES | LOGITS | {"inputs": ("no data at all",)},
        "10",
        "soft_target_loss",
        (
            Evidence(GENERATED, "noise", "other images", "hurts", "MNIST images"),
            Evidence(GENERATED, "another set", "other images", "hurts", "the same"),
        ),
    ),
    Choice(
        "beware",
        "soft targets lose in few epochs and win in more: labels first, and train longer if you can",
        TAUGHT | {"budget": ("a few epochs",)},
        "02",
        "hard_label_loss",
        (
            Evidence(PATIENCE, "τ = 10 | 5", "hard labels | 5", "hurts", "MNIST-1D, 5 epochs", words=SOFT),
            Evidence(PATIENCE, "τ = 10 | 80", "hard labels | 80", "helps", "80 epochs", words=SOFT),
        ),
    ),
    Choice(
        "beware",
        "a student too small for its labels was not helped by its teacher's outputs: labels alone, or a larger student",
        TAUGHT | {"student": ("is too small for them",)},
        "01",
        "distillation_loss",
        (
            Evidence("soft_targets_temperature", "tiny-soft", "tiny-hard", "hurts", "MNIST-1D, 16 units", words=SOFT),
            Evidence(
                "response_capacity",
                "cnn1d-64",
                "no teacher",
                "hurts",
                "16 units, a large teacher, τ = 4",
                "mlp-16 | ",
                words="both against labels",
            ),
        ),
    ),
    Choice(
        "beware",
        "a hint in a short training",
        CLASSES | INSIDE | {"budget": ("a few epochs",)},
        "03",
        "hint_loss",
        (
            Evidence(
                "feature_places",
                "2 → 2, 32 steps",
                "labels, 32 steps",
                "hurts",
                "digits, 100 labels",
                words="a hint against labels, 32 steps",
            ),
        ),
    ),
    Choice(
        "beware",
        "attention maps need a weight chosen on validation data, from small ones upwards",
        CLASSES | INSIDE | {"family": ("one family",)},
        "04",
        "attention_transfer_loss",
        (Evidence("attention_maps", "AT, weight 10", "labels", "hurts", "digits, 200 labels"),),
    ),
    Choice(
        "beware",
        "a discriminator on features: hints do more for less; keep it for outputs that belong to no common input",
        CLASSES | INSIDE | ONE | {"labels": ("few",)},
        "09",
        "discriminator_loss",
        (
            Evidence("adversarial_features", "hints", "soft targets", "helps", "MNIST-1D, few labels"),
            Evidence("adversarial_features", "discriminator", "soft targets", "undecided", "the same"),
        ),
    ),
)
