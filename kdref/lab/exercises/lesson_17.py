"""The exercises and the quiz of lesson 17, scale-out: several processes, and the result of one."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, NotAttempted, Question, speaking
from kdref.lab.exercises import brief, calls, number

__all__ = ["EXERCISES", "QUIZ"]


def whole_mean(means: Tensor, counts: Tensor) -> Tensor:
    """17.1."""
    return (means * counts).sum() / counts.sum()


_MEAN_MISTAKES: dict[str, tuple[Any, str]] = {
    "the mean of the means": (
        lambda means, counts: means.mean(),
        "this is what DDP does: right where all shares are equally large. An example of a small share weighs more.",
    ),
    "the sum of the means": (
        lambda means, counts: means.sum(),
        "DDP's mean over processes is there for a reason: W processes must not take W times the step.",
    ),
    "the sum over examples": (
        lambda means, counts: (means * counts).sum(),
        "a mean is asked for: divide by the number of all examples.",
    ),
    "divided by the processes": (
        lambda means, counts: (means * counts).sum() / len(counts),
        "means · counts are sums over examples: divide by the number of examples.",
    ),
    "the weights the wrong way round": (
        lambda means, counts: (means / counts).sum() / (1 / counts).sum(),
        "a mean over more examples weighs more.",
    ),
    "weighted, and the mean once more": (
        lambda means, counts: (means * counts / counts.sum()).mean(),
        "the weights sum to 1 already: add up.",
    ),
}


def own_rows(student: Tensor, teacher_all: Tensor, rank: int, temperature: float) -> Tensor:
    """17.2."""
    return _own_rows(student, teacher_all, rank, temperature)


def _own_rows(
    student: Tensor, teacher: Tensor, rank: int, temperature: float, *, scaled: bool = True, offset: bool = True
) -> Tensor:
    if scaled:
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    labels = torch.arange(len(student)) + (rank * len(student) if offset else 0)
    return F.cross_entropy(student @ teacher.mT / temperature, labels)


_ROWS_MISTAKES: dict[str, tuple[Any, str]] = {
    "labels from 0 on every process": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, tau, offset=False),
        "the partner of this process's row i is column rank · B + i. With labels 0 to B - 1 all but the first process "
        "pull their students to strangers; on one process the test is green.",
    ),
    "the own columns only": (
        lambda s, t, rank, tau: _own_rows(
            s, t[rank * len(s) : (rank + 1) * len(s)], rank=0, temperature=tau, offset=False
        ),
        "that is the local loss: B - 1 negatives instead of W · B - 1.",
    ),
    "divided by all examples": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, tau) * len(s) / len(t),
        "DDP takes the mean over processes: with a mean over the own rows the whole is the mean over all. Divided by W "
        "· B, the gradient is W times too small.",
    ),
    "embeddings as they are": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, tau, scaled=False),
        "cosines are asked for: bring each row to length 1.",
    ),
    "the temperature forgotten": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, 1.0),
        "cosines are divided by the temperature.",
    ),
    "temperature multiplied": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, 1 / tau),
        "cosines are divided by the temperature.",
    ),
    "the sum over rows": (
        lambda s, t, rank, tau: _own_rows(s, t, rank, tau) * len(s),
        "a mean over the own rows is asked for.",
    ),
}

SETTINGS = {
    "A": "soft targets, 2 processes with 32 each, no gathering",
    "B": "soft targets, 4 micro-batches of 16 on one process, accumulated",
    "C": "RKD, 2 processes with 32 each, gathered with gradient",
    "D": "RKD, 4 micro-batches of 16 on one process, accumulated",
    "E": "RKD, 4 processes with 16 each, gathered without gradient, own rows put back, plain SGD",
    "F": "soft targets and a student with BatchNorm, 2 processes with 32 each",
    "G": "cross-entropy of labels, of which a third are -100, 2 processes with 32 each, no gathering",
}
ANSWERS = ("equal", "another loss", "1/W of the gradient", "other statistics")
_RIGHT = {
    "A": "equal",
    "B": "equal",
    "C": "equal",
    "D": "another loss",
    "E": "1/W of the gradient",
    "F": "other statistics",
    "G": "another loss",
}
_CHOOSE = f"Choose among {', '.join(map(repr, ANSWERS))}."


@speaking
def _settings_differ(answer: Any, reference: Any) -> str | None:
    """Say which letters are answered otherwise, and nothing of what is right."""
    if not isinstance(answer, dict):
        return f"A dictionary from each letter to a verdict is asked for, not {brief(answer)}."
    if answer and all(verdict is ... for verdict in answer.values()):
        raise NotAttempted
    for letter in answer:
        if not isinstance(letter, str) or letter not in SETTINGS:
            return f"There is no setting {brief(letter)}: the letters are {', '.join(SETTINGS)}."
    if missing := [letter for letter in SETTINGS if answer.get(letter, ...) in (..., None)]:
        return f"No verdict for {', '.join(missing)}. {_CHOOSE}"
    for letter, verdict in answer.items():
        if not isinstance(verdict, str) or verdict not in ANSWERS:
            return f"{letter}: there is no verdict {brief(verdict)}. {_CHOOSE}"
    wrong = [letter for letter in SETTINGS if answer[letter] != reference[letter]]
    return f"Look again at {', '.join(wrong)}." if wrong else None


def _with(**changed: str) -> dict[str, str]:
    return {**_RIGHT, **changed}


_SETTING_MISTAKES: dict[str, tuple[Any, str]] = {
    "accumulation mends pairs": (
        _with(D="equal"),
        "accumulated gradients are added, as processes' are: pairs between micro-batches are missing all the same.",
    ),
    "BatchNorm is a mean over examples": (
        _with(F="equal"),
        "each share is normalised by its own mean and variance: an example's output hangs on its neighbours.",
    ),
    "other statistics are another loss": (
        _with(F="another loss"),
        "the loss is the same function: what differs is the student's output, by the statistics of its share.",
    ),
    "all labels count": (
        _with(G="equal"),
        "the loss divides by the number of labels that count, which differs between the shares (exercise 17.1).",
    ),
    "gathered is gathered": (
        _with(E="equal"),
        "each process differentiates its own rows only, and DDP's mean divides by W.",
    ),
    "without a gradient it is another loss": (
        _with(E="another loss"),
        "its value is that of the whole batch, and the sum over processes has the right direction: only the length is "
        "wrong.",
    ),
    "every loss of several processes is another": (
        _with(A="another loss", C="another loss"),
        "a mean of means over equal shares is the mean; and gathering brings every pair to every process.",
    ),
    "accumulation changes every loss": (
        _with(B="another loss"),
        "a mean over examples may be taken in parts: fit weighs each by its examples.",
    ),
}

BYTES_A_TOKEN = 240


def _words_kept(*, index: int = 4, fraction: int = 2, tail: bool = True, bytes_a_token: float = BYTES_A_TOKEN) -> float:
    return math.floor((bytes_a_token - fraction * tail) / (index + fraction))


_MEANS = (torch.tensor([1.0, 3.0, 2.0]), torch.tensor([5.0, 3.0, 2.0]))
_TWO = (torch.tensor([0.5, 1.5]), torch.tensor([30.0, 2.0]))
_STUDENT = torch.tensor([[1.0, 0.5, -0.5], [0.5, -2.0, 1.0]])
_TEACHERS = torch.tensor(
    [[1.0, 0.0, 0.5], [0.5, -1.0, 0.0], [-1.0, 0.5, 2.0], [0.5, 1.0, -1.0], [2.0, 0.5, 0.0], [0.0, -1.5, 1.0]]
)

EXERCISES: dict[str, Exercise] = {
    "17.1": Exercise(
        title="Build the mean over unequal shares",
        hint="A mean times its number of examples is a sum.",
        further="A mean times its number of examples is a sum: add the sums, divide by all examples.",
        differs=calls({"three processes": _MEANS, "a last batch": _TWO}),
        solution=whole_mean,
        mistakes=_MEAN_MISTAKES,
        remark="Share refuses unequal shares instead: DDP averages gradients, and can't know the counts.",
    ),
    "17.2": Exercise(
        title="Build InfoNCE of the own rows",
        hint="Cosines of B rows with W · B columns, divided by the temperature, then a cross-entropy. Which column is "
        "the partner?",
        differs=calls(
            {
                "the first of three processes": (_STUDENT, _TEACHERS, 0, 0.5),
                "the last of three": (_STUDENT, _TEACHERS, 2, 0.5),
                "another temperature": (_STUDENT, _TEACHERS, 1, 2.0),
            }
        ),
        solution=own_rows,
        mistakes=_ROWS_MISTAKES,
        remark="The teacher's columns need no gradient: this half of the loss is exact with a plain all_gather.",
    ),
    "17.3": Exercise(
        title="Decide: as one process with a batch of 64?",
        hint="What does an example's term depend on, and what does the loss divide by?",
        differs=_settings_differ,
        solution=_RIGHT,
        mistakes=_SETTING_MISTAKES,
        remark="Equal means equal up to rounding, whatever the learning rate: nothing has to be scaled.",
    ),
    "17.4": Exercise(
        title="Design: how many words a token?",
        hint="Bytes for each token first; then what one word takes, and what is there once a token.",
        differs=number(tolerance=0.004),
        solution=_words_kept(),
        mistakes={
            "the tail forgotten, or rounded up": (
                _words_kept(tail=False),
                "2 bytes of each token's 240 hold the mass of all other words, and 40 words with it take 242.",
            ),
            "not rounded down": ((BYTES_A_TOKEN - 2) / 6, "a word is kept or not: the largest whole number that fits."),
            "indices of 8 bytes": (_words_kept(index=8), "whole numbers take four bytes where they fit."),
            "indices of 2 bytes": (_words_kept(index=2), "two bytes count to 65,536: the vocabulary is larger."),
            "logarithms in float32": (_words_kept(fraction=4), "float16 is asked for: 2 bytes."),
            "the indices forgotten": (_words_kept(index=0), "a probability without its word is of no use."),
        },
        remark="All logits of a token would be 256,000 bytes: a thousand times as much.",
    ),
}

QUIZ = (
    Question(
        "On two processes the loss is that of the whole batch, and all runs. What may still be wrong?",
        {
            "Nothing: an equal loss is an equal training": "Gathered without gradient, the loss is right and the "
            "gradient is not.",
            "The gradient": "A wrong gather shows in no value. Compare gradients with one process, once.",
            "The number of steps": "It is the same.",
        },
        right="The gradient",
    ),
    Question(
        "You move from one GPU with a batch of 256 to four with 64 each, and the loss is a mean over examples. What "
        "must be changed?",
        {
            "The learning rate, times four": "The batch is as large as before, and so is the mean's gradient.",
            "The loss, times four": "DDP's mean has made it the whole batch's already.",
            "Nothing": "The same batch, the same gradient. With 256 *each* the batch is larger: that is another "
            "training.",
        },
        right="Nothing",
    ),
    Question(
        "When is it worth storing a teacher's outputs?",
        {
            "When the student sees the same inputs many times, or several students do": "One run of the teacher pays "
            "for all of them.",
            "When images are augmented anew in each epoch": "What is stored is of inputs that never come again.",
            "When the student writes its own text": "No teacher has said anything of it yet.",
        },
        right="When the student sees the same inputs many times, or several students do",
    ),
)
