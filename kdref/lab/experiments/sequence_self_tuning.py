"""Self-distillation: each way's learning rate, by the mean of new and old answers, on seeds that are used nowhere else.

Lesson: notebooks/12_reasoning.ipynb.
"""

import functools

from kdref.lab.experiments._sequence_self import WAYS, distilled, measured
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002, 5003)
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
SETTINGS = {f"{way} | {rate:g}": (way, rate) for way in WAYS for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate = SETTINGS[arm]
    return measured(distilled(WAYS[way], seed, rate=rate), seed)


@functools.cache
def chosen(way: str) -> float:
    """The rate of the best mean score."""
    mean = load("sequence_self_tuning").groupby("arm")["score"].mean()
    return min(RATES, key=lambda rate: -float(mean[f"{way} | {rate:g}"]))
