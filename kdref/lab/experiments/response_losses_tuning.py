"""Choosing each loss's hyper-parameter on validation data. Lesson: notebooks/02_response_based.ipynb.

The same effort for every loss, cross-entropy included: three settings, three seeds that are used nowhere else, 500
validation examples out of the training set.
"""

import functools

from kdref.lab.experiments._mnist1d import logits, taught
from kdref.lab.experiments._response import METHODS, STUDENTS, weight_decay_of
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)
VALIDATION = 500
ARMS = tuple(
    f"{student} | {name} | {setting:g}"
    for student in STUDENTS
    for name, method in METHODS.items()
    for setting in method.settings
)


def run(seed: int, arm: str) -> dict[str, float]:
    student, name, setting = arm.split(" | ")
    loss, parameters = METHODS[name].build(float(setting))
    return taught(
        student,
        loss,
        seed=seed,
        targets=logits(seed, validation=VALIDATION),
        validation=VALIDATION,
        weight_decay=weight_decay_of(name, float(setting)),
        also=parameters,
    )


@functools.cache
def chosen(student: str, name: str) -> float:
    """The setting of the highest mean validation accuracy, among the stored runs."""
    means = load("response_losses_tuning").groupby("arm")["accuracy"].mean()
    return max(METHODS[name].settings, key=lambda setting: float(means[f"{student} | {name} | {setting:g}"]))
