"""Choosing every loss's setting on validation data, before all are compared. Lesson: notebooks/05_relation_based.ipynb.

The same effort for every loss, cross-entropy included: three settings, three seeds that are used nowhere else, 500
validation examples out of the training set.
"""

import functools

from kdref.lab.experiments._inside import MODES, STUDENTS, WEIGHTS, taught_inside, taught_outside
from kdref.lab.experiments._response import METHODS as LOGITS
from kdref.lab.experiments._response import weight_decay_of
from kdref.lab.experiments._sites import INSIDE, fits
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)
VALIDATION = 500
PAIRS = tuple(
    f"{student} | {name} | {mode}"
    for student in STUDENTS
    for name in (*LOGITS, *INSIDE)
    for mode in (MODES[:1] if name in LOGITS else MODES)
    if fits(name, student)
)


def settings(name: str) -> tuple[float, ...]:
    """What is tried: the values of the loss's own hyper-parameter, or weights."""
    return LOGITS[name].settings if name in LOGITS else WEIGHTS


ARMS = tuple(f"{pair} | {setting:g}" for pair in PAIRS for setting in settings(pair.split(" | ")[1]))


def taught(pair: str, setting: float, *, seed: int, validation: int = 0) -> dict[str, float]:
    """One run of a student, a method and a mode."""
    student, name, mode = pair.split(" | ")
    if name in INSIDE:
        return taught_inside(student, INSIDE[name], seed=seed, weight=setting, mode=mode, validation=validation)
    loss, also = LOGITS[name].build(setting)
    decay = weight_decay_of(name, setting)
    return taught_outside(student, loss, seed=seed, validation=validation, weight_decay=decay, also=also)


def run(seed: int, arm: str) -> dict[str, float]:
    pair, _, setting = arm.rpartition(" | ")
    return taught(pair, float(setting), seed=seed, validation=VALIDATION)


@functools.cache
def chosen(pair: str) -> float:
    """The setting of the highest mean validation accuracy, among the stored runs."""
    means = load("relation_few_labels_tuning").groupby("arm")["accuracy"].mean()
    return max(settings(pair.split(" | ")[1]), key=lambda setting: float(means[f"{pair} | {setting:g}"]))
