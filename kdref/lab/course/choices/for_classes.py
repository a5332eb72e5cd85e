"""What to do where classes come out. Each line follows its lesson's own verdict.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_CLASSES"]

CLASSES = {"task": ("classes",)}
LOGITS = {"gives": ("logits and features", "logits")}
INSIDE = {"gives": ("logits and features",)}
ONE = {"teachers": ("one",), "sensor": ("the same",)}
TAUGHT = CLASSES | LOGITS | ONE | {"inputs": ("none", "many")}
FITS = {"student": ("fits its labels",)}
LONG = {"budget": ("long enough",)}
SIGNALS = "MNIST-1D, 4,000 labels"
TEMPERATURE = "soft_targets_temperature"
GAP = "scaling_gap + scaling_gap_controls"
START = "from pre-trained layers against random ones"
RELATION = "PKT beside 50 labels against labels only"

FEW = {  # lesson 18's benchmark
    "cnn1d-8": ("choose_signals", "500 signals, one family"),
    "mlp-100x100": ("choose_signals", "500 signals, two families"),
    "cnn2d-8": ("choose_images", "200 images, one family"),
}


def _benchmark(student: str, arm: str, words: str, verdict: str = "helps") -> Evidence:
    """Beyond soft targets or not, in one of the benchmark's settings."""
    experiment, where = FEW[student]
    against = f"{words} against soft targets"
    return Evidence(experiment, arm, "soft targets | alone", verdict, where, f"{student} | ", words=against)


FOR_CLASSES: tuple[Choice, ...] = (
    Choice(
        "start",
        "soft targets beside the labels, soft weight 0.9, τ from 4 to 10; labels alone as the baseline, and the weight "
        "decay tuned for both",
        TAUGHT | FITS | LONG | {"labels": ("many", "many, some wrong", "few")},
        "01",
        "distillation_loss",
        (
            Evidence(TEMPERATURE, "mixed-10", "hard", "helps", SIGNALS, words="soft targets at τ = 10 against labels"),
            Evidence("response_decay", "soft targets", "cross-entropy", "helps", "the same, τ = 4, weight decay tuned"),
        ),
    ),
    Choice(
        "start",
        "the teacher's soft targets alone, on real inputs like those to come",
        TAUGHT | {"labels": ("none",), "inputs": ("many",)},
        "10",
        "soft_target_loss",
        (
            Evidence("transfer_images", "other images", "noise", "helps", "MNIST images, no label"),
            Evidence("transfer_images", "other images", "labels", "hurts", "the price, against labels for all"),
        ),
    ),
    Choice(
        "then",
        "logit matching, or DKD, with its weight tuned",
        TAUGHT | FITS | LONG | {"labels": ("many", "many, some wrong", "few")},
        "02",
        "logit_matching_loss",
        (
            Evidence("response_decay", "logit matching", "soft targets", "helps", f"{SIGNALS}, τ = 4, decay tuned"),
            Evidence(
                "response_losses + response_softer",
                "logit matching",
                "soft targets, τ = 8",
                "undecided",
                "the same, no decay",
            ),
        ),
    ),
    Choice(
        "then",
        "augment the inputs first; the teacher must see the same augmented input as the student",
        TAUGHT | {"labels": ("many", "many, some wrong"), "student": ("fits its labels",)},
        "02",
        "distillation_loss",
        (
            Evidence("response_consistency", "labels, augmented", "soft, not augmented", "helps", SIGNALS),
            Evidence(
                "response_consistency",
                "soft, same augmented input",
                "labels, augmented",
                "no useful difference",
                "the same",
            ),
        ),
    ),
    Choice(
        "then",
        "if the teacher is far stronger than the student: soften its logits, or take one that was stopped early",
        TAUGHT | {"budget": ("long enough", "a few epochs")},
        "13",
        "softened_probabilities",
        (
            Evidence(GAP, "strong, softened", "strong", "helps", "MNIST-1D, 1,200 steps", "60 | 30000 | "),
            Evidence(GAP, "stopped early", "strong", "helps", "120 steps", "60 | 3000 | "),
        ),
    ),
    Choice(
        "then",
        "standardised logits or DIST, which leave the scale of the teacher's logits out",
        TAUGHT | FITS | LONG | {"labels": ("few",), "family": ("one family",)},
        "02",
        "response.standardized",
        (
            _benchmark("cnn1d-8", "standardised logits | alone", "standardised logits"),
            _benchmark("cnn2d-8", "standardised logits | alone", "standardised logits"),
        ),
    ),
    Choice(
        "then",
        "features: ReviewKD, or SimKD, which costs at inference; soft targets trained longer are the rival to beat",
        CLASSES | INSIDE | ONE | LONG | {"labels": ("few",), "family": ("one family",)},
        "03",
        "feature",
        (
            _benchmark("cnn1d-8", "review (ReviewKD) | alone", "ReviewKD"),
            _benchmark("cnn2d-8", "review (ReviewKD) | alone", "ReviewKD"),
            _benchmark("cnn2d-8", "reused classifier (SimKD) | with soft targets", "SimKD with soft targets"),
        ),
    ),
    Choice(
        "then",
        "a hint, alone or beside soft targets; or SimKD, which costs at inference",
        CLASSES | INSIDE | ONE | LONG | {"labels": ("few",), "family": ("two families",)},
        "03",
        "hint_loss",
        (
            _benchmark("mlp-100x100", "hint (FitNets) | alone", "a hint"),
            _benchmark("mlp-100x100", "reused classifier (SimKD) | alone", "SimKD"),
        ),
    ),
    Choice(
        "beware",
        "standardised logits and DIST, first within a family, were behind soft targets across families",
        TAUGHT | FITS | LONG | {"labels": ("few",), "family": ("two families",)},
        "02",
        "response.standardized",
        (
            _benchmark("mlp-100x100", "standardised logits | alone", "standardised logits", "hurts"),
            _benchmark("mlp-100x100", "correlation (DIST) | alone", "DIST", "hurts"),
        ),
    ),
    Choice(
        "then",
        "the relations of self-attention, which may differ in width",
        INSIDE | ONE | LONG | {"family": ("both transformers",)},
        "04",
        "attention_relation_divergence",
        (Evidence("attention_tokens", "relations", "labels", "helps", "digits in patches, 80 epochs"),),
    ),
    Choice(
        "start",
        "an encoder: start the student from every other layer of what was pre-trained",
        CLASSES | INSIDE | ONE | {"family": ("both transformers",)},
        "11",
        "alternate_layers",
        (Evidence("language_distilbert", "labels only", "random, labels only", "helps", "film reviews", words=START),),
    ),
    Choice(
        "then",
        "an encoder: the teacher's outputs and hidden states beside the labels, once labels alone overfit",
        CLASSES | INSIDE | ONE | LONG | {"family": ("both transformers",)},
        "11",
        "distilbert_loss",
        (
            Evidence("language_distilbert_longer", "triple loss", "labels only", "helps", "film reviews, 3 epochs"),
            Evidence("language_distilbert", "triple loss", "labels only", "undecided", "film reviews, 1 epoch"),
        ),
    ),
    Choice(
        "start",
        "relations between examples on all inputs, beside the few labels",
        CLASSES | ONE | {"gives": ("embeddings only",), "labels": ("few",), "inputs": ("many",)},
        "05",
        "relation.similarity",
        (
            Evidence("relation_labels", "PKT, 50 labels", "labels only, 50 labels", "helps", "digits", words=RELATION),
            Evidence(
                "relation_labels", "RKD distance, 50 labels", "labels only, 50 labels", "helps", "digits", words="RKD"
            ),
        ),
    ),
    Choice(
        "beware",
        "with many labels relations of an embedding gained nothing",
        CLASSES | ONE | {"gives": ("embeddings only",), "labels": ("many", "many, some wrong")},
        "05",
        "relation.rkd",
        (
            Evidence(
                "relation_labels",
                "RKD distance, 1000 labels",
                "labels only, 1000 labels",
                "hurts",
                "digits, 1,000 labels",
                words="RKD against labels only",
            ),
        ),
    ),
    Choice(
        "start",
        "the teacher's answers as labels, on as many real inputs as you may ask about",
        CLASSES | ONE | {"gives": ("answers or text only",), "inputs": ("many", "none")},
        "16",
        "hard_label_loss",
        (
            Evidence("provenance_defences", "answers", "labels", "helps", "MNIST-1D, as many true labels"),
            Evidence("provenance_defences", "answers", "probabilities", "hurts", "what is lost with the logits"),
        ),
    ),
)
