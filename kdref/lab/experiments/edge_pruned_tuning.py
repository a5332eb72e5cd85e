"""The learning rates of pruned networks, and of new ones with few steps: the grid of ``edge_tuning``, gone on with.

There the largest rate was the best. Chosen is the best of both files. Lesson: notebooks/14_edge.ipynb.
"""

import functools

import pandas as pd

from kdref.lab.experiments import edge_tuning
from kdref.lab.experiments._edge import ANEW, How
from kdref.lab.experiments.edge_tuning import SHORT, TEMPERATURE
from kdref.lab.experiments.store import load

SEEDS = edge_tuning.SEEDS
FURTHER = {
    f"pruned, {SHORT} steps": (0.1, 0.3),
    f"pruned, {ANEW} steps": (0.1, 0.3),
    f"anew, {SHORT} steps": (0.3, 1.0),
    f"anew, {ANEW} steps": (),
}
ARMS = tuple(f"{kind} | {by} | {rate:g}" for kind in FURTHER for by in ("labels", "teacher") for rate in FURTHER[kind])


def run(seed: int, arm: str) -> dict[str, float]:
    return edge_tuning.run(seed, arm)


def rates(kind: str) -> tuple[float, ...]:
    """All that were tried."""
    return (*edge_tuning.rates(kind), *FURTHER[kind])


@functools.cache
def chosen(kind: str, by: str) -> How:
    """The rate of the highest mean accuracy, with the temperature."""
    means = pd.concat([load("edge_tuning"), load("edge_pruned_tuning")]).groupby("arm")["accuracy"].mean()
    return How(max(rates(kind), key=lambda rate: float(means[f"{kind} | {by} | {rate:g}"])), TEMPERATURE)
