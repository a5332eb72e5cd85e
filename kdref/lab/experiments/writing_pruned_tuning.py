"""Students cut from the teacher: each start's learning rate, by the nats of validation sentences, on other seeds.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools

from kdref.lab.experiments._writing import validated
from kdref.lab.experiments._writing_pruned import STARTS, student
from kdref.lab.experiments.store import load
from kdref.lab.experiments.writing_tuning import RATES as LARGER
from kdref.lab.experiments.writing_tuning import SEEDS as TUNING_SEEDS

SEEDS = TUNING_SEEDS
RATES = (0.001, *LARGER)
SETTINGS = {f"{start} | {rate:g}": (start, rate) for start in STARTS for rate in RATES}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    start, rate = SETTINGS[arm]
    model, seconds = student(seed, start, rate=rate)
    return {**validated(model), "seconds": seconds}


@functools.cache
def chosen(start: str) -> float:
    """The rate of the fewest nats per validation token."""
    mean = load("writing_pruned_tuning").groupby("arm")["nll"].mean()
    return min(RATES, key=lambda rate: float(mean[f"{start} | {rate:g}"]))
