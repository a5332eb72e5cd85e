"""What to do where text comes out. Each line follows its lesson's own verdict.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence
from kdref.lab.course.choices.table import Choice

__all__ = ["FOR_TEXT", "TOKENS"]

WRITING = "19"  # the lesson that teaches losses on a language model's tokens
TEXT = {"task": ("text",)}
TOKENS = TEXT | {"gives": ("logits and features", "logits"), "tokeniser": ("the same",)}
SUMS, RUNNING = "sequence_reasoning", "running sums"
REVIEWS, PIECES = "film reviews", "writing_tokenisers"
STORED_AND_LABELS = "writing_stored + writing_divergences"

FOR_TEXT: tuple[Choice, ...] = (
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
                "writing_divergences",
                "forward",
                "labels",
                "helps",
                REVIEWS,
                metric="nll",
                words="forward KL at every token against labels",
            ),
            Evidence(
                SUMS,
                "longer, teacher's text, tokens",
                "longer, teacher's text",
                "helps",
                RUNNING,
                words="probabilities of the teacher's text against the text alone",
            ),
        ),
    ),
    Choice(
        "then",
        "cut the student out of the teacher, and then learn its probabilities (prune and distil)",
        TOKENS | {"family": ("one family", "both transformers")},
        WRITING,
        "token_loss",
        (
            Evidence(
                "writing_pruned",
                "cut by importance | forward",
                "anew | forward",
                "helps",
                REVIEWS,
                metric="nll",
                words="cut out against begun anew, both taught",
            ),
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
        "the teacher's distributions stored once, in words drawn from them",
        TOKENS,
        WRITING,
        "sampled_teacher_loss",
        (
            Evidence(
                STORED_AND_LABELS,
                "sampled",
                "labels",
                "helps",
                REVIEWS,
                metric="nll",
                words="eight drawn words of 512 against labels",
            ),
            Evidence(
                "writing_stored",
                "sampled",
                "whole",
                "hurts",
                REVIEWS,
                metric="nll",
                words="against the whole distributions",
            ),
        ),
    ),
    Choice(
        "beware",
        "the teacher's likeliest words in place of all: made to add up, they teach its commonest text alone",
        TOKENS,
        WRITING,
        "sparse_teacher_loss",
        (
            Evidence(
                STORED_AND_LABELS,
                "top k, made to add up",
                "labels",
                "hurts",
                REVIEWS,
                metric="nll",
                words="the eight likeliest words of 512, made to add up, against labels",
            ),
            Evidence(
                STORED_AND_LABELS,
                "top k with its tail",
                "labels",
                "hurts",
                REVIEWS,
                metric="nll",
                words="with the mass of the rest, against labels",
            ),
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
    Choice(
        "beware",
        "reverse KL for a student that can't write yet; one that can writes what the teacher likes, and less varied",
        TOKENS,
        WRITING,
        "token_divergence",
        (
            Evidence(
                "writing_divergences",
                "reverse",
                "forward",
                "hurts",
                REVIEWS,
                metric="nll",
                words="reverse against forward KL, from random weights",
            ),
            Evidence(
                "writing_divergences",
                "reverse",
                "forward",
                "hurts",
                REVIEWS,
                metric="reverse",
                words="the same, by reverse KL itself",
            ),
        ),
    ),
)
