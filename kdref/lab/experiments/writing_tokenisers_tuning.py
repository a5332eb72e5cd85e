"""Two tokenisers: learning rates and weights, by the bits per byte of validation sentences, on seeds of their own.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools

from kdref.lab.experiments._writing_tokenisers import MATCHING, SORTED, WAYS, student, validated
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
RATES = (0.008, 0.016, 0.032, 0.064)
RATE = 0.032  # beside labels, whose own rate it is
WEIGHTS = {SORTED: (0.01, 0.03, 0.1, 0.3), MATCHING: (100.0, 300.0, 1000.0)}
SETTINGS = {f"{way} | {rate:g}": (way, rate, 0.0) for way in WAYS if way not in WEIGHTS for rate in RATES}
SETTINGS |= {f"{way} | {weight:g}": (way, RATE, weight) for way, weights in WEIGHTS.items() for weight in weights}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate, weight = SETTINGS[arm]
    model, found = student(seed, way, rate=rate, weight=weight)
    return {"bits": validated(model), **found}


@functools.cache
def chosen(way: str) -> tuple[float, float]:
    """Rate and weight of the fewest bits per validation byte."""
    mean = load("writing_tokenisers_tuning").groupby("arm")["bits"].mean()
    best = min((arm for arm in ARMS if SETTINGS[arm][0] == way), key=lambda arm: float(mean[arm]))
    return SETTINGS[best][1:]
