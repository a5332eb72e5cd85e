"""What a stored experiment says of two arms, computed from its runs whenever it is asked: so no figure can go stale.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Evidence", "compared", "sentence"]

POINTS = ("accuracy", "habit")  # shares, whose differences are points
LESS = ("nll", "habit", "reverse", "bits")  # less of it is better
UNITS = {
    "accuracy": "points",
    "nll": "nats of NLL",
    "habit": "points of habit",
    "reverse": "nats of reverse KL",
    "bits": "bits per byte",
}


class Evidence(NamedTuple):
    """Two arms of a stored experiment, and what its lesson concludes from them."""

    experiment: str  # stored under this name; "a + b" where one baseline meets the arms of two
    arm: str
    baseline: str
    verdict: str  # over all seeds, as ``lab.compare`` says it
    where: str  # the task, in words
    among: str = ""  # the lesson compares the arms that begin so, and their names go on after it
    metric: str = "accuracy"
    words: str = ""  # in place of "ARM against BASELINE", where the names alone say little


def compared(evidence: Evidence) -> dict[str, Any]:
    """The paired comparison of both arms, from the stored runs: ``difference``, ``low``, ``high``, ``verdict`` ...

    The intervals are widened for as many arms as the lesson compares with that baseline.

    Raises:
        ValueError: If there is no such experiment, arm or metric.
    """
    table = _compared(evidence.experiment, evidence.among, evidence.baseline, evidence.metric)
    if evidence.arm not in table.index:
        raise ValueError(f"{evidence.experiment} has no arm {evidence.arm!r}: there are {list(table.index)}")
    return dict(table.loc[evidence.arm])


def sentence(evidence: Evidence) -> str:
    """The evidence in one line: where, who against whom, difference with its interval, seeds, verdict."""
    found = compared(evidence)
    scale, decimals = (100, 1) if evidence.metric in POINTS else (1, 2)
    middle, low, high = (
        f"{round(scale * found[key], decimals) + 0.0:{sign}.{decimals}f}"
        for key, sign in (("difference", "+"), ("low", ""), ("high", ""))
    )
    who = evidence.words or f"{evidence.arm} against {evidence.baseline}"
    amount = f"{middle} {UNITS.get(evidence.metric, evidence.metric)} [{low}, {high}]"
    return f"{evidence.where}: {who} {amount}, {found['seeds']} seeds: {found['verdict']}"


@functools.cache
def _compared(experiment: str, among: str, baseline: str, metric: str) -> "DataFrame":
    import pandas as pd

    from kdref.lab import experiments
    from kdref.lab.training.seeds import compare

    runs = pd.concat([experiments.load(name) for name in experiment.split(" + ")])
    mine = runs[runs["arm"].str.startswith(among)]
    mine = mine.assign(arm=mine["arm"].str.removeprefix(among))
    return compare(mine, baseline=baseline, metric=metric, higher_is_better=metric not in LESS)
