"""Choosing the weight of each loss on relations on validation data. Lesson: notebooks/05_relation_based.ipynb.

The same effort for every loss, and the same as in lessons 02 to 04: three weights, three seeds that are used nowhere
else, 500 validation examples out of the training set.
"""

import functools

from kdref.lab.experiments._inside import WEIGHTS, taught_inside
from kdref.lab.experiments._relations import METHODS, PAIRS
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)
ARMS = tuple(f"{pair} | {weight:g}" for pair in PAIRS for weight in WEIGHTS)


def run(seed: int, arm: str) -> dict[str, float]:
    student, name, mode, weight = arm.split(" | ")
    return taught_inside(student, METHODS[name], seed=seed, weight=float(weight), mode=mode, validation=500)


@functools.cache
def chosen(pair: str) -> float:
    """The weight of the highest mean validation accuracy, among the stored runs."""
    means = load("relations_tuning").groupby("arm")["accuracy"].mean()
    return max(WEIGHTS, key=lambda weight: float(means[f"{pair} | {weight:g}"]))
