"""Students of stored teachers: each keeping's learning rate, by the nats of validation sentences, on other seeds.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools

from kdref.lab.experiments._writing import validated
from kdref.lab.experiments._writing_stored import SPARSE, student
from kdref.lab.experiments.store import load
from kdref.lab.experiments.writing_tuning import RATES
from kdref.lab.experiments.writing_tuning import SEEDS as TUNING_SEEDS

SEEDS = TUNING_SEEDS
SETTINGS = {f"{keeping} | {rate:g}": (keeping, rate) for keeping in SPARSE for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    keeping, rate = SETTINGS[arm]
    model, seconds = student(seed, keeping, rate=rate)
    return {**validated(model), "seconds": seconds}


@functools.cache
def chosen(keeping: str) -> float:
    """The rate of the fewest nats per validation token."""
    mean = load("writing_stored_tuning").groupby("arm")["nll"].mean()
    return min(RATES, key=lambda rate: float(mean[f"{keeping} | {rate:g}"]))
