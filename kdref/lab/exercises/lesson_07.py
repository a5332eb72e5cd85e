"""The exercises and the quiz of lesson 07, cross-modal distillation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.soft_targets import soft_target_loss

__all__ = ["EXERCISES", "QUIZ"]

_STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, -1.0, 1.5], [2.0, 1.0, 1.0]])
_TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.5], [4.0, 0.0, 1.0], [0.0, 0.5, 3.0]])
_SOME, _ALL, _NONE = (torch.tensor(labels) for labels in ([0, -100, -100, 2], [0, 1, 2, 0], [-100] * 4))


def my_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """07.1."""
    return _with_soft(student_logits, teacher_logits, labels, temperature, labels == -100)


def _with_soft(s: Tensor, t: Tensor, labels: Tensor, temperature: float, rows: Tensor) -> Tensor:
    loss = 0 * s.sum()
    if (labels != -100).any():
        loss = loss + F.cross_entropy(s, labels, ignore_index=-100)
    return loss + soft_target_loss(s[rows], t[rows], temperature=temperature) if rows.any() else loss


def _mean_over_batch(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    hard = F.cross_entropy(s, labels, ignore_index=-100, reduction="sum") / len(s)
    rows = labels == -100
    soft = soft_target_loss(s[rows], t[rows], temperature=temperature) if rows.any() else 0 * s.sum()
    return hard + soft * rows.float().mean()


def _no_check_for_none(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    rows = labels == -100
    log_q, log_p = (F.log_softmax(z[rows] / temperature, dim=-1) for z in (s, t))
    soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return F.cross_entropy(s, labels, ignore_index=-100) + soft


_LOSS_MISTAKES: dict[str, tuple[Any, str]] = {
    "the teacher on all rows": (
        lambda s, t, labels, tau: _with_soft(s, t, labels, tau, torch.ones_like(labels, dtype=torch.bool)),
        "the teacher was trained on the labelled windows and is too sure there: ask it about the others only.",
    ),
    "means over the whole batch": (
        _mean_over_batch,
        "each term is a mean over its own rows, or a batch with few labels forgets them.",
    ),
    "the mean of nothing": (
        _no_check_for_none,
        "a batch may hold no labelled or no unlabelled window: the mean of nothing is nan.",
    ),
    "no τ²": (
        lambda s, t, labels, tau: my_loss(s, t, labels, 1.0) if tau == 1 else _without_square(s, t, labels, tau),
        "without τ² the soft term fades as the temperature rises: lesson 01, section 3.",
    ),
    "labels only": (
        lambda s, t, labels, tau: _with_soft(s, t, labels, tau, torch.zeros_like(labels, dtype=torch.bool)),
        "the unlabelled windows are missing: they are what the teacher is for.",
    ),
}


def _without_square(s: Tensor, t: Tensor, labels: Tensor, temperature: float) -> Tensor:
    hard = _with_soft(s, t, labels, temperature, torch.zeros_like(labels, dtype=torch.bool))
    return hard + (my_loss(s, t, labels, temperature) - hard) / temperature**2


def paired(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    """07.3."""
    length = accelerometer.shape[-1] - abs(lag)
    first, second = max(0, -lag), max(0, lag)
    return torch.cat([accelerometer[:, first : first + length], gyroscope[:, second : second + length]])


def _rolled(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    return torch.cat([accelerometer, gyroscope.roll(-lag, dims=-1)])


def _shifted_back(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    return paired(accelerometer, gyroscope, -lag)


def _ends_cut(accelerometer: Tensor, gyroscope: Tensor, lag: int) -> Tensor:
    length = accelerometer.shape[-1] - abs(lag)
    return torch.cat([accelerometer[:, :length], gyroscope[:, :length]])


_PAIRED_MISTAKES: dict[str, tuple[Any, str]] = {
    "rolled round": (_rolled, "roll puts the end at the beginning: moments that have no partner must be dropped."),
    "the wrong way": (
        _shifted_back,
        "a late clock writes a moment at a higher index: skip the gyroscope's first samples when the lag is positive.",
    ),
    "only the ends cut": (_ends_cut, "equal lengths are not equal moments: the lag is still there."),
    "positive lags only": (
        lambda a, g, lag: torch.cat([a[:, : a.shape[-1] - lag], g[:, lag:]]) if lag >= 0 else _rolled(a, g, 0),
        "a negative lag means that the gyroscope's clock is early: then the accelerometer's first samples go.",
    ),
}


def lower_end(before: list[float], after: list[float]) -> float:
    """07.4."""
    return _lower(_gains(before, after), _QUANTILES[len(before) - 1])


def _gains(before: list[float], after: list[float]) -> Tensor:
    return torch.tensor(after) - torch.tensor(before)


_QUANTILES = {3: 3.1824, 9: 2.2622}  # of Student's t, 0.975, by degrees of freedom


def _lower(difference: Tensor, quantile: float, *, unbiased: bool = True, roots: bool = True) -> float:
    count = len(difference)
    deviation = difference.std(unbiased=unbiased)
    return float(difference.mean() - quantile * deviation / (count**0.5 if roots else 1))


def _unpaired(before: list[float], after: list[float]) -> float:
    count, first, second = len(before), torch.tensor(before), torch.tensor(after)
    deviation = ((first.var() + second.var()) / count).sqrt()
    return float(second.mean() - first.mean() - _QUANTILES[count - 1] * deviation)


_INTERVAL_MISTAKES: dict[str, tuple[Any, str]] = {
    "not paired": (
        _unpaired,
        "take the difference person by person first: people differ far more than methods do.",
    ),
    "1.96 for a few people": (
        lambda before, after: _lower(_gains(before, after), 1.96),
        "1.96 belongs to many observations. For n people use Student's t with n - 1 degrees of freedom.",
    ),
    "spread, not error of the mean": (
        lambda before, after: _lower(_gains(before, after), _QUANTILES[len(before) - 1], roots=False),
        "that is how far single people lie. The mean's standard error is smaller, by √n.",
    ),
    "the population deviation": (
        lambda before, after: _lower(_gains(before, after), _QUANTILES[len(before) - 1], unbiased=False),
        "divide the squares by n - 1: the mean was taken from the same people.",
    ),
    "before minus after": (
        lambda before, after: lower_end(after, before),
        "a gain must come out positive: after minus before.",
    ),
}

_FOUR, _FOUR_AFTER = [0.30, 0.50, 0.60, 0.80], [0.36, 0.54, 0.68, 0.82]
_TEN = [0.31, 0.42, 0.55, 0.47, 0.68, 0.51, 0.73, 0.39, 0.60, 0.44]
_TEN_AFTER = [0.40, 0.44, 0.66, 0.44, 0.73, 0.63, 0.73, 0.46, 0.64, 0.54]
_TIMES = torch.arange(24.0).reshape(3, 8)

EXERCISES: dict[str, Exercise] = {
    "07.1": Exercise(
        title="Labels where there are some, the teacher where there are none",
        hint="F.cross_entropy has ignore_index=-100; for the teacher, index both logits with labels == -100.",
        differs=calls(
            {
                "two labelled and two unlabelled windows, temperature 1": (_STUDENT, _TEACHER, _SOME, 1.0),
                "the same at temperature 4": (_STUDENT, _TEACHER, _SOME, 4.0),
                "no unlabelled window": (_STUDENT, _TEACHER, _ALL, 2.0),
                "no labelled window": (_STUDENT, _TEACHER, _NONE, 2.0),
            }
        ),
        solution=my_loss,
        mistakes=_LOSS_MISTAKES,
        remark="With labels for everything it is plain training; with none, the student learns from the teacher alone.",
    ),
    "07.2": Exercise(
        title="Predict a rank agreement",
        hint="Four classes make six pairs. In how many do the two sensors agree on which class is more likely?",
        differs=number(tolerance=0.01),
        solution=2 / 3,
        mistakes={
            "the share of pairs": (5 / 6, "that is the share that agree. From it subtract the share that disagree."),
            "Spearman's correlation": (0.8, "that correlates the ranks. Kendall's counts pairs."),
            "half the classes": (0.5, "two classes stand where they did, but it is pairs that count."),
        },
        remark="One exchange of neighbours costs 2 of 6, whatever the logits: the agreement ignores how sure each is.",
    ),
    "07.3": Exercise(
        title="Find the pairs again",
        hint="Draw two rulers, one shifted. Which samples of each have a partner? Then the case of a negative lag.",
        differs=calls(
            {
                "a gyroscope that is two samples late": (_TIMES, 100 + _TIMES, 2),
                "one that is three samples early": (_TIMES, 100 + _TIMES, -3),
                "clocks that agree": (_TIMES, 100 + _TIMES, 0),
            }
        ),
        solution=paired,
        mistakes=_PAIRED_MISTAKES,
        remark="Pairs are the whole supply of knowledge here: check the clocks before you tune a loss.",
    ),
    "07.4": Exercise(
        title="Design: does it help the next person?",
        hint="One difference per person, their mean, their standard error with n - 1, and a quantile of Student's t.",
        differs=calls({"four people": (_FOUR, _FOUR_AFTER), "ten people": (_TEN, _TEN_AFTER)}, tolerance=1e-3),
        solution=lower_end,
        mistakes=_INTERVAL_MISTAKES,
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
            "Both directions gain the same": "Here the reverse direction did not gain: the weaker sensor's mistakes "
            "are learned too.",
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
