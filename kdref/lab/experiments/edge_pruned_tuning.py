"""The learning rate of a new network of eight channels: the grid of ``edge_tuning``, gone on with.

There the largest rate was the best for one that the teacher teaches. Chosen is the best of both files. Lesson:
notebooks/14_edge.ipynb.
"""

import functools

import pandas as pd

from kdref.lab.experiments import edge_tuning
from kdref.lab.experiments._edge import ANEW
from kdref.lab.experiments.store import load

SEEDS = edge_tuning.SEEDS
FURTHER = {f"anew, {ANEW} steps": (0.3,)}
ARMS = tuple(f"{kind} | {by} | {rate:g}" for kind in FURTHER for by in ("labels", "teacher") for rate in FURTHER[kind])


def run(seed: int, arm: str) -> dict[str, float]:
    return edge_tuning.run(seed, arm)


def rates(kind: str) -> tuple[float, ...]:
    """All that were tried."""
    return (*edge_tuning.rates(kind), *FURTHER.get(kind, ()))


@functools.cache
def chosen(kind: str, by: str) -> float:
    """The rate of the highest mean accuracy."""
    means = pd.concat([load("edge_tuning"), load("edge_pruned_tuning")]).groupby("arm")["accuracy"].mean()
    return max(rates(kind), key=lambda rate: float(means[f"{kind} | {by} | {rate:g}"]))
