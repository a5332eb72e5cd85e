"""What to do where embeddings or text come out, and against each harm. Each line follows its lesson's own verdict.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_HARMS", "FOR_OTHER_OUTPUTS"]

WRITING = "19"  # the lesson that teaches losses on a language model's tokens
TEXT = {"task": ("text",)}
TOKENS = TEXT | {"gives": ("logits and features", "logits"), "tokeniser": ("the same",)}
SUMS, SEARCH, BITS = "sequence_reasoning", "relation_retrieval", "edge_quantised"
RUNNING, PRUNED = "running sums", "pruned against begun anew, both taught"
WRITERS, STORED, PIECES = "writing_divergences", "writing_stored", "writing_tokenisers"
REVIEWS = "a decoder that writes film reviews"

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
    Choice(
        "start",
        "the teacher's text, each answer checked by something that is not the teacher",
        TEXT | {"gives": ("answers or text only",)},
        "12",
        "rejection_sample",
        (
            Evidence(SUMS, "checked traces", "the teacher's traces", "helps", RUNNING),
            Evidence(SUMS, "checked traces", "the teacher itself", "helps", RUNNING),
        ),
    ),
    Choice(
        "start",
        "the teacher's text, since its tokens are not the student's; checked where a check is to be had",
        TEXT | {"gives": ("logits and features", "logits"), "tokeniser": ("different",)},
        "12",
        "sequence_level_loss",
        (
            Evidence(SUMS, "checked traces", "the teacher's traces", "helps", f"{RUNNING}, one vocabulary"),
            Evidence(PIECES, "the teacher's text", "labels", "helps", REVIEWS, metric="bits"),
        ),
    ),
    Choice(
        "then",
        "how likely both find the same pieces of text (likelihood matching), beside labels",
        TEXT | {"gives": ("logits and features", "logits"), "tokeniser": ("different",)},
        WRITING,
        "likelihood_matching_loss",
        (Evidence(PIECES, "likelihood matching", "labels", "helps", REVIEWS, metric="bits"),),
    ),
    Choice(
        "beware",
        "logits across vocabularies, compared in the order of their size (ULD)",
        TEXT | {"gives": ("logits and features", "logits"), "tokeniser": ("different",)},
        WRITING,
        "universal_logit_loss",
        (Evidence(PIECES, "sorted probabilities, weight 1", "labels", "hurts", REVIEWS, metric="bits"),),
    ),
    Choice(
        "start",
        "the teacher's probabilities at every token of its own text, forward KL first",
        TOKENS,
        WRITING,
        "token_loss",
        (
            Evidence(
                SUMS,
                "longer, teacher's text, tokens",
                "longer, teacher's text",
                "helps",
                RUNNING,
                words="probabilities of the teacher's text against the text alone",
            ),
            Evidence(WRITERS, "forward", "labels", "helps", REVIEWS, metric="nll", words="forward KL against labels"),
            Evidence(WRITERS, "reverse", "forward", "hurts", REVIEWS, metric="nll", words="reverse KL against forward"),
        ),
    ),
    Choice(
        "then",
        "the fused loss, which never holds the logits of a large vocabulary",
        TOKENS,
        WRITING,
        "fused_linear_loss",
        without="none is needed, it is the same loss (tests hold it so); docs/benchmarks.md has its memory",
    ),
    Choice(
        "then",
        "words drawn from the teacher, stored once, where whole distributions are too much",
        TOKENS,
        WRITING,
        "sampled_teacher_loss",
        (
            Evidence(f"{STORED} + {WRITERS}", "sampled", "labels", "helps", REVIEWS, metric="nll"),
            Evidence(STORED, "sampled", "top k with its tail", "helps", REVIEWS, metric="nll"),
            Evidence(STORED, "sampled", "whole", "hurts", REVIEWS, metric="nll", words="drawn against whole"),
        ),
    ),
    Choice(
        "then",
        "the student's own text, judged by the teacher (on-policy), if the student writes at length",
        TOKENS,
        "12",
        "on_policy_loss",
        (
            Evidence(
                SUMS,
                "longer, own text, tokens",
                "longer, teacher's text, tokens",
                "no useful difference",
                f"{RUNNING} of six steps",
                words="the student's own text against the teacher's, both with probabilities",
            ),
        ),
    ),
    Choice(
        "beware",
        "answers without their steps, and unchecked text of a teacher with a fault: the student learns the fault too",
        TEXT,
        "12",
        "sequence_level_loss",
        (
            Evidence(SUMS, "answers only", "the teacher's traces", "hurts", RUNNING),
            Evidence(SUMS, "the teacher's traces", "the algorithm's traces", "hurts", RUNNING),
        ),
    ),
    Choice(
        "beware",
        "a discriminator as the reward: going on with the teacher's text did more",
        TEXT | {"gives": ("answers or text only",)},
        "09",
        "paired_discriminator_loss",
        (Evidence("adversarial_text", "reward, moving", "goes on with the text", "hurts", RUNNING),),
    ),
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
        "cut the student out of the large model, and then distil it",
        TOKENS | {"harm": ("a slow device",)},
        WRITING,
        "token_loss",
        (
            Evidence("writing_pruned", "cut by importance | forward", "anew | forward", "helps", REVIEWS, metric="nll"),
            Evidence("writing_pruned", "cut at random | forward", "anew | forward", "helps", REVIEWS, metric="nll"),
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
