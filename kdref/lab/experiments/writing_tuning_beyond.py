"""Writing students: lower rates for the one way whose best lay at the end of ``writing_tuning``'s grid.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools

from kdref.lab.experiments import writing_tuning
from kdref.lab.experiments._writing import student, validated
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
WAYS = ("reverse",)
RATES = (0.001, 0.002, 0.004)
SETTINGS = {f"{way} | {rate:g}": (way, rate) for way in WAYS for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate = SETTINGS[arm]
    model, seconds = student(seed, way, rate=rate)
    return {**validated(model), "seconds": seconds}


@functools.cache
def chosen(way: str) -> float:
    """The rate of the fewest nats per validation token, in both grids together."""
    first = writing_tuning.chosen(way)
    if way not in WAYS:
        return first
    lower, upper = (load(name).groupby("arm")["nll"].mean() for name in ("writing_tuning_beyond", "writing_tuning"))
    best = min(RATES, key=lambda rate: float(lower[f"{way} | {rate:g}"]))
    return best if float(lower[f"{way} | {best:g}"]) < float(upper[f"{way} | {first:g}"]) else first
