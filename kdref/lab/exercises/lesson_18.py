"""The exercises and the quiz of lesson 18, choose your method: an interval, a winner, a choice, a plan."""

import functools
import math
from typing import Any

import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor

from kdref.lab.course.choices.cases import ADVICE, CASES
from kdref.lab.course.questions import Exercise, NotAttempted, Question, speaking
from kdref.lab.exercises import brief, calls, number

__all__ = ["EXERCISES", "QUIZ"]


def judged(taught: Tensor, alone: Tensor, comparisons: int) -> Tensor:
    """18.1."""
    return _ends(taught - alone, _quantile(len(taught), comparisons))


def _quantile(seeds: int, comparisons: float, tail: float = 0.025) -> float:
    return float(stdtrit(seeds - 1, 1 - tail / comparisons))


def _ends(differences: Tensor, quantile: float, *, correction: int = 1, root: bool = True) -> Tensor:
    half = quantile * differences.std(correction=correction) / (len(differences) ** 0.5 if root else 1.0)
    return _said(differences.mean() - half, differences.mean() + half)


def _said(low: Tensor, high: Tensor) -> Tensor:
    """The interval and its verdict: 1 above zero, -1 below, 0 where it holds zero."""
    return torch.stack([low, high, torch.sign(low) * (low * high > 0)]).detach()  # nothing is trained by it


def _unpaired(taught: Tensor, alone: Tensor, comparisons: int) -> Tensor:
    n, m = len(taught), taught.mean() - alone.mean()
    half = _quantile(n, comparisons) * ((taught.var() + alone.var()) / n) ** 0.5
    return _said(m - half, m + half)


def _by_the_mean(taught: Tensor, alone: Tensor, comparisons: int) -> Tensor:
    found = judged(taught, alone, comparisons)
    return torch.stack([found[0], found[1], torch.sign((taught - alone).mean())])


_INTERVAL_MISTAKES: dict[str, tuple[Any, str]] = {
    "not widened": (
        lambda t, a, k: judged(t, a, 1),
        "of so many comparisons some clear zero by luck: divide the 2.5 % of each side by their number.",
    ),
    "not paired": (
        _unpaired,
        "both arms of a seed share their data and first weights: take the differences first, and then their spread.",
    ),
    "five per cent on each side": (
        lambda t, a, k: _ends(t - a, _quantile(len(t), k, 0.05)),
        "an interval of 95 % leaves 2.5 % on each side.",
    ),
    "the normal curve": (
        lambda t, a, k: _ends(t - a, float(ndtri(1 - 0.025 / k))),
        "the spread is estimated from a few seeds: Student's t, with one degree of freedom less than seeds.",
    ),
    "the spread of one seed": (
        lambda t, a, k: _ends(t - a, _quantile(len(t), k), root=False),
        "a mean of n seeds spreads by the deviation of one over √n.",
    ),
    "divided by n": (
        lambda t, a, k: _ends(t - a, _quantile(len(t), k), correction=0),
        "the deviation of a sample divides by n - 1.",
    ),
    "the other way round": (
        lambda t, a, k: judged(a, t, k),
        "taught minus alone: a positive difference is a gain.",
    ),
    "the mean decides": (
        _by_the_mean,
        "the verdict is the interval's: it helps if the whole of it is above zero.",
    ),
}


def winner(validation: Tensor, fresh: Tensor) -> Tensor:
    """18.2."""
    best = validation.mean(dim=0).argmax()
    return torch.stack([validation.mean(dim=0)[best], fresh.mean(dim=0)[best]])


def _best_of_fresh(validation: Tensor, fresh: Tensor) -> Tensor:
    best = fresh.mean(dim=0).argmax()
    return torch.stack([validation.mean(dim=0)[best], fresh.mean(dim=0)[best]])


_WINNER_MISTAKES: dict[str, tuple[Any, str]] = {
    "chosen on the fresh data": (
        _best_of_fresh,
        "who chooses on the fresh data has none left: choose by the validation column means, and read off the others.",
    ),
    "two winners": (
        lambda v, f: torch.stack([v.mean(dim=0).max(), f.mean(dim=0).max()]),
        "one method is chosen, on validation data. It is the same one that is then tried on fresh data.",
    ),
    "a winner in each seed": (
        lambda v, f: torch.stack([v.max(dim=1).values.mean(), f.gather(1, v.argmax(dim=1, keepdim=True)).mean()]),
        "a method is chosen once, by its mean over the seeds, and not anew in each seed.",
    ),
    "the best single run": (
        lambda v, f: torch.stack([v.max(), f[:, v.max(dim=0).values.argmax()].mean()]),
        "the best of all seeds and methods is luck twice: take the mean over seeds first.",
    ),
}


_RIGHT = {
    "A": "soft targets",
    "B": "relations",
    "C": "checked text",
    "D": "generated inputs",
    "E": "label smoothing",
    "F": "labels alone",
    "G": "first choices",
}
_CHOOSE = f"Choose among {', '.join(map(repr, ADVICE))}."


@speaking
def _choices_differ(answer: Any, reference: Any) -> str | None:
    """Say which letters are answered otherwise, and nothing of what is right."""
    if not isinstance(answer, dict):
        return f"A dictionary from each letter to a choice is asked for, not {brief(answer)}."
    if answer and all(choice is ... for choice in answer.values()):
        raise NotAttempted
    for letter in answer:
        if not isinstance(letter, str) or letter not in CASES:
            return f"There is no case {brief(letter)}: the letters are {', '.join(CASES)}."
    if missing := [letter for letter in CASES if answer.get(letter, ...) in (..., None)]:
        return f"Nothing is chosen for {', '.join(missing)}. {_CHOOSE}"
    for letter, choice in answer.items():
        if not isinstance(choice, str) or choice not in ADVICE:
            return f"{letter}: there is no choice {brief(choice)}. {_CHOOSE}"
    wrong = [letter for letter in CASES if answer[letter] != reference[letter]]
    return f"Look again at {', '.join(wrong)}." if wrong else None


def _with(**changed: str) -> dict[str, str]:
    return {**_RIGHT, **changed}


_CHOICE_MISTAKES: dict[str, tuple[Any, str]] = {
    "a teacher for every student": (
        _with(F="soft targets"),
        "a student that can't fit its labels has no need of a regulariser: lesson 01's sixteen units were worse.",
    ),
    "soft targets without classes": (
        _with(B="soft targets"),
        "B's teacher has no logits for anybody's classes: what it knows is which pictures are alike.",
    ),
    "the teacher's word for it": (
        _with(C="text as it comes"),
        "where a program can check, unchecked text passes the teacher's mistakes on.",
    ),
    "any input will do": (
        _with(D="noise"),
        "noise taught little in lesson 10; the open network's BatchNorm statistics tell what its images were like.",
    ),
    "a teacher out of nothing": (
        _with(E="soft targets"),
        "there is none. A copy of oneself as the teacher did not gain in lesson 08 at τ of 1 and more.",
    ),
    "soft by habit": (
        _with(G="soft targets"),
        "that is the second choice there: as tuned, the better sensor's first choice helped more.",
    ),
}


def _seeds_needed(spread: float, half: float, comparisons: int, *, student: bool = True, tail: float = 0.025) -> int:
    """The smallest number of seeds whose interval is no wider than so much on each side."""
    for seeds in range(2, 10_000):
        z = _quantile(seeds, comparisons, tail) if student else float(ndtri(1 - tail / comparisons))
        if z * spread / math.sqrt(seeds) <= half:
            return seeds
    raise ValueError("more than ten thousand seeds")


_doubles = functools.partial(torch.tensor, dtype=torch.float64)
LOSSES, SETTINGS, TUNING, SPREAD, HALF = 12, 5, 3, 2.0, 1.0


def _planned(seeds: int, *, tuned: int = LOSSES + 1, arms: int = LOSSES + 1) -> int:
    return tuned * SETTINGS * TUNING + arms * seeds


_NEEDED = _seeds_needed(SPREAD, HALF, LOSSES)
_TAUGHT = _doubles([0.62, 0.66, 0.59, 0.70, 0.64]), _doubles([0.60, 0.62, 0.58, 0.65, 0.61])
_LEVEL = _doubles([0.50, 0.54, 0.52, 0.47]), _doubles([0.49, 0.53, 0.53, 0.48])
_WORSE = _doubles([0.40, 0.44, 0.41]), _doubles([0.50, 0.53, 0.52])
_VALIDATION = _doubles([[0.5, -0.2, 0.9, 0.1], [0.7, 0.4, -0.6, 0.2], [0.3, 0.1, 0.6, -1.0]])
_FRESH = _doubles([[-0.3, 0.5, 0.1, 0.3], [0.2, 0.4, -0.2, 0.0], [-0.2, 0.6, 0.0, -0.6]])

EXERCISES: dict[str, Exercise] = {
    "18.1": Exercise(
        title="Build the interval and its verdict",
        hint="Differences first; their mean, their deviation over √n, and scipy.stats.t.ppf(1 - 0.025 / k, n - 1).",
        differs=calls(
            {
                "five seeds, one comparison": (*_TAUGHT, 1),
                "five seeds, twenty comparisons": (*_TAUGHT, 20),
                "four seeds, three comparisons": (*_LEVEL, 3),
                "a loss that hurts": (*_WORSE, 2),
            }
        ),
        solution=judged,
        mistakes=_INTERVAL_MISTAKES,
        remark="lab.compare does it for every arm, and report.verdicts looks at the groups of seeds as well.",
    ),
    "18.2": Exercise(
        title="Build the winner's curse",
        hint="One column is chosen, by the mean of validation over its rows. Both numbers are of that column.",
        differs=calls({"three seeds of four methods that do nothing": (_VALIDATION, _FRESH)}),
        solution=winner,
        mistakes=_WINNER_MISTAKES,
        remark="The first number is what a paper would report, the second what its readers would find.",
    ),
    "18.3": Exercise(
        title="Choose for seven cases",
        hint="Turn each case into answers of the chooser, and read what stands under “Start with”.",
        differs=_choices_differ,
        solution=_RIGHT,
        mistakes=_CHOICE_MISTAKES,
        remark="So says the course, of its own small tasks. On yours it is what to try first, beside the baseline.",
    ),
    "18.4": Exercise(
        title="Design: how many runs?",
        hint="First the seeds: widened for 12, t · 2 / √n must be 1 at most. Then count: tuning, and what is reported.",
        further="Tuning: every arm, the baseline too, so many settings on so many seeds. Then every arm on n seeds.",
        differs=number(tolerance=1e-6),
        solution=float(_planned(_NEEDED)),
        mistakes={
            "not widened": (
                float(_planned(_seeds_needed(SPREAD, HALF, 1))),
                "twelve losses meet the baseline, and the best of them will be looked at: widen for twelve.",
            ),
            "the baseline not tuned": (
                float(_planned(_NEEDED, tuned=LOSSES)),
                "labels alone get the same tuning, or the losses win by theirs.",
            ),
            "no baseline": (
                float(_planned(_NEEDED, tuned=LOSSES, arms=LOSSES)),
                "twelve losses and labels alone are thirteen arms.",
            ),
            "tuned on the seeds that are reported": (
                float((LOSSES + 1) * SETTINGS * _NEEDED),
                "tuning needs few seeds, and seeds of its own.",
            ),
            "no tuning": (float((LOSSES + 1) * _NEEDED), "each arm first tries its five settings on three seeds."),
            "the normal curve": (
                float(_planned(_seeds_needed(SPREAD, HALF, LOSSES, student=False))),
                "with the spread estimated from the seeds it is Student's t, which asks for a few more.",
            ),
            "the seeds alone": (float(_NEEDED), "that is the number of seeds. How many runs is it?"),
        },
        remark="Ten minutes a run would make it five days of one core. Plan for it, or claim less.",
    ),
}

QUIZ = (
    Question(
        "Twenty methods that change nothing are each compared with the baseline, by an interval of 95 %, not widened. "
        "How likely is it that at least one seems to help (if they were independent)?",
        {
            "2.5 %": "That is the chance of each one.",
            "about 40 %": "1 - 0.975²⁰. Which is why the intervals are widened, and the number of arms is told.",
            "about 64 %": "That counts the ones that seem to hurt as well.",
        },
        right="about 40 %",
    ),
    Question(
        "A loss is first in a published table, by 0.2 points over the second, one run each, the best epoch on the test "
        "set reported. What do you know?",
        {
            "That it is the better of the two on that data set": "Runs there spread by ± 0.3 or so.",
            "That both belong on your list": "And what decides is your own comparison, with labels alone in it.",
            "That it will be first on your data": "Even a sure winner is one of that student, teacher and budget.",
        },
        right="That both belong on your list",
    ),
    Question(
        "The method's best setting is the largest weight that you tried, the baseline had no tuning, and the method "
        "wins. What is missing?",
        {
            "More seeds": "They make the wrong comparison surer.",
            "Larger weights, and the same search for the baseline": "At an end of the list the best may lie beyond; "
            "and an untuned baseline loses to anything tuned.",
            "A larger test set": "It helps with noise, and this is none.",
        },
        right="Larger weights, and the same search for the baseline",
    ),
)
