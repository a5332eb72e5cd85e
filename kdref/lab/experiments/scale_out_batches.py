"""Losses over pairs on a global batch of 32, and on the shares that four processes have of it: recall on new classes.

Settings were chosen before these runs: ``scale_out_batches_tuning``. Lesson: notebooks/17_scale_out.ipynb.
"""

from kdref.lab.experiments._scale_out import taught
from kdref.lab.experiments.scale_out_batches_tuning import STUDENTS, chosen

ARMS = tuple(STUDENTS)


def run(seed: int, arm: str) -> dict[str, float]:
    settings = chosen(arm)
    found = taught(*STUDENTS[arm], settings, seed=seed)
    return {**found, "rate": settings.rate, "temperature": settings.temperature}
