"""What to do where embeddings come out, or text, and against each harm. Each line follows its lesson's own verdict.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.for_text import FOR_TEXT, TOKENS
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_HARMS", "FOR_OTHER_OUTPUTS"]

SEARCH, BITS = "relation_retrieval", "edge_quantised"
PRUNED = "pruned against begun anew, both taught"

FOR_OTHER_OUTPUTS: tuple[Choice, ...] = (
    Choice(
        "start",
        "relations between examples (RKD, SP, PKT), without a label; InfoNCE if you may add a head",
        {"task": ("embeddings",), "gives": ("embeddings only", "logits and features")},
        "05",
        "relation",
        (
            Evidence(SEARCH, "RKD both", "labels", "helps", "MNIST-1D, retrieval of new classes"),
            Evidence(SEARCH, "RKD both", "features", "helps", "against a hint"),
        ),
    ),
    Choice(
        "beware",
        "a hint between embeddings was not told apart from labels",
        {"task": ("embeddings",), "gives": ("embeddings only", "logits and features")},
        "05",
        "hint_loss",
        (Evidence(SEARCH, "features", "labels", "undecided", "MNIST-1D, retrieval of new classes"),),
    ),
    *FOR_TEXT,
)

FOR_HARMS: tuple[Choice, ...] = (
    Choice(
        "measure",
        "calibration error and NLL on new examples; then fit one temperature on validation data",
        {"harm": ("wrong confidence",)},
        "15",
        "fidelity.calibration",
        (
            Evidence(
                "self_distillation_labels",
                "label smoothing",
                "labels",
                "hurts",
                "digits",
                "right labels | ",
                "nll",
                "label smoothing, which is more accurate, against labels",
            ),
            Evidence(
                "soft_targets_temperature",
                "short-soft",
                "short-hard",
                "hurts",
                "MNIST-1D, 20 epochs",
                metric="nll",
                words="soft targets against labels",
            ),
        ),
    ),
    Choice(
        "measure",
        "the share of the teacher's mistakes made alike, beside a student of labels; show answers rather than logits",
        {"harm": ("copied mistakes",)},
        "15",
        "fidelity.agreement",
        (
            Evidence(
                "fidelity_habit",
                "habit | right answers only | logits at 1",
                "habit | right answers only | answers",
                "hurts",
                "MNIST, a planted habit, only right answers shown",
                metric="habit",
                words="logits against answers",
            ),
        ),
    ),
    Choice(
        "beware",
        "a student that starts from its teacher's first weights takes over what no data show",
        {"harm": ("copied mistakes", "a broken licence")},
        "16",
        "top1_agreement",
        (Evidence("provenance_subliminal", "same start", "another start", "helps", "digits that were never shown"),),
    ),
    Choice(
        "measure",
        "read the terms that bind you, and write the card while you know the answers; to find copies of your own text, "
        "a watermark",
        {"harm": ("a broken licence",)},
        "16",
        "provenance.watermark",
        without="what is permitted is no question of accuracy; lesson 16 has the table of terms",
    ),
    Choice(
        "then",
        "8 bits after training, which needs no label; measure the file on the device",
        {"harm": ("a slow device",), "task": ("classes", "embeddings")},
        "14",
        "calibrated_scale",
        (Evidence(BITS, "8 bits | after training", "fp32", "no useful difference", "MNIST-1D"),),
    ),
    Choice(
        "then",
        "at 3 and 2 bits, teach while it is rounded, by the network before rounding",
        {"harm": ("a slow device",), "task": ("classes", "embeddings")},
        "14",
        "LearnedStepSize",
        (
            Evidence(BITS, "2 bits | teacher", "2 bits | after training", "helps", "MNIST-1D"),
            Evidence(BITS, "2 bits | teacher", "2 bits | labels", "no useful difference", "MNIST-1D"),
        ),
    ),
    Choice(
        "then",
        "prune the large network, if it is there and steps are few",
        {"harm": ("a slow device",), "task": ("classes", "embeddings")},
        "14",
        "quantization",
        (
            Evidence(
                "edge_pruned",
                "100 steps | pruned | teacher",
                "100 steps | anew | teacher",
                "helps",
                "MNIST-1D, 100 steps",
                words=PRUNED,
            ),
            Evidence(
                "edge_pruned",
                "2600 steps | pruned | teacher",
                "2600 steps | anew | teacher",
                "helps",
                "2,600 steps",
                words=PRUNED,
            ),
        ),
    ),
    Choice(
        "then",
        "speculative decoding: the large model's own text, faster, if few readers wait at once",
        TOKENS | {"harm": ("a slow device",)},
        "12",
        "speculative_decoding",
        without="the text is exactly the large model's, by proof; what it saves, lesson 12 counts",
    ),
)
