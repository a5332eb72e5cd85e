"""Losses over pairs on a global batch of 32, and on the shares that four processes have of it: recall on new classes.

Settings were chosen before these runs, from ``scale_out_batches_tuning`` and ``scale_out_batches_beyond``. Their two
seeds differ by more than neighbouring settings do, so all have one rate, and whole and shared batches one temperature.
Lesson: notebooks/17_scale_out.ipynb.
"""

import functools
from collections.abc import Sequence

import pandas as pd

from kdref.lab.experiments._scale_out import Settings, taught
from kdref.lab.experiments.scale_out_batches_beyond import RATE, TEMPERATURES, name_of
from kdref.lab.experiments.scale_out_batches_tuning import CONTRASTIVE, STUDENTS, TRIED
from kdref.lab.experiments.store import load

ARMS = tuple(STUDENTS)
VALUES = {"rate": (*TRIED["rate"], RATE), "temperature": (*TRIED["temperature"], *TEMPERATURES)}


@functools.cache
def recall() -> pd.Series:
    """Mean recall of each setting tried."""
    both = pd.concat([load("scale_out_batches_tuning"), load("scale_out_batches_beyond")])
    return both.groupby("arm")["accuracy"].mean()


def best(what: str, students: Sequence[str]) -> float:
    """The value with the most recall on average over some students."""
    return max(VALUES[what], key=lambda value: sum(recall()[name_of(student, what, value)] for student in students))


def settings(student: str) -> Settings:
    """One rate for all students, and one temperature for those with the same loss."""
    loss, _ = STUDENTS[student]
    found = Settings(rate=best("rate", ARMS))
    if loss not in CONTRASTIVE:
        return found
    return found._replace(temperature=best("temperature", [arm for arm in ARMS if STUDENTS[arm][0] == loss]))


def run(seed: int, arm: str) -> dict[str, float]:
    rate, temperature = settings(arm)
    return {**taught(*STUDENTS[arm], settings(arm), seed=seed), "rate": rate, "temperature": temperature}
