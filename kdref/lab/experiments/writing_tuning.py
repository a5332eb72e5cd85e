"""Writing students: each way's learning rate, by the nats of validation sentences, on seeds that are used nowhere else.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools

from kdref.lab.experiments._writing import WAYS, student, validated
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
RATES = (0.008, 0.016, 0.032, 0.064)
SETTINGS = {f"{way} | {rate:g}": (way, rate) for way in WAYS for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate = SETTINGS[arm]
    model, seconds = student(seed, way, rate=rate)
    return {**validated(model), "seconds": seconds}


@functools.cache
def chosen(way: str) -> float:
    """The rate of the fewest nats per validation token."""
    mean = load("writing_tuning").groupby("arm")["nll"].mean()
    return min(RATES, key=lambda rate: float(mean[f"{way} | {rate:g}"]))
