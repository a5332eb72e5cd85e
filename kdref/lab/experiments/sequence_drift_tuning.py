"""Drift: each way's learning rate, by the divergence of what the walker writes, on seeds that are used nowhere else.

Lesson: notebooks/12_reasoning.ipynb.
"""

import functools

from kdref.lab.experiments._sequence_drift import WAYS, compared, train
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002, 5003)
RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
BUDGETS = {"short": 50, "long": 200}  # steps of eight walks
SETTINGS = {f"{way} | {budget} | {rate:g}": (way, budget, rate) for way in WAYS for budget in BUDGETS for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    way, budget, rate = SETTINGS[arm]
    return compared(train(WAYS[way], seed, steps=BUDGETS[budget], rate=rate)().detach(), seed)


@functools.cache
def chosen(way: str, budget: str) -> float:
    """The rate of the smallest mean divergence of own text."""
    mean = load("sequence_drift_tuning").groupby("arm")["reverse"].mean()
    return min(RATES, key=lambda rate: float(mean[f"{way} | {budget} | {rate:g}"]))
