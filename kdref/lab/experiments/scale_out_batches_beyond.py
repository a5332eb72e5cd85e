"""More settings where ``scale_out_batches_tuning`` has its best at the end of a list, and what each student gets.

The same signals and seeds. Lesson: notebooks/17_scale_out.ipynb.
"""

import functools

import pandas as pd

from kdref.lab.experiments import scale_out_batches_tuning
from kdref.lab.experiments._scale_out import Settings, taught
from kdref.lab.experiments.scale_out_batches_tuning import CONTRASTIVE, STUDENTS, chosen
from kdref.lab.experiments.store import load

SEEDS = scale_out_batches_tuning.SEEDS
TEMPERATURES, RATE = (0.0125, 0.025), 0.001


def name_of(student: str, what: str, value: float) -> str:
    """An arm's name, of one student with one setting varied."""
    settings = Settings()._replace(**{what: value})
    return f"{student} | rate {settings.rate:g} | temperature {settings.temperature:g}"


PLANS = {
    name_of(student, what, value): (student, what, value)
    for student, (loss, _) in STUDENTS.items()
    for what, values in (("temperature", TEMPERATURES if loss in CONTRASTIVE else ()), ("rate", (RATE,)))
    for value in values
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    student, what, value = PLANS[arm]
    return taught(*STUDENTS[student], Settings()._replace(**{what: value}), seed=seed, tuning=True)


@functools.cache
def given(student: str) -> Settings:
    """What the tuning chose, unless one of the further settings has more recall on new classes."""
    both = pd.concat([load("scale_out_batches_tuning"), load("scale_out_batches_beyond")])
    mean, best = both.groupby("arm")["accuracy"].mean(), chosen(student)
    for arm, (other, what, value) in PLANS.items():
        if other == student and mean[arm] > mean[name_of(student, what, getattr(best, what))]:
            best = best._replace(**{what: value})
    return best
