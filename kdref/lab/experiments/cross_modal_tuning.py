"""Choosing each method's hyper-parameter on a labelled person left out. Lesson: notebooks/07_cross_modal.ipynb.

The same effort for every method, labels alone included: three settings, five folds of two seeds that are used nowhere
else. Two of a fold's three labelled people are learned from, the third one is measured.
"""

import functools

from kdref.lab.data.smartwatch import folds
from kdref.lab.experiments._cross_modal import (
    DECAYS,
    METHODS,
    WEIGHT_DECAY,
    by_person,
    people,
    taught_by_labels,
    taught_by_teacher,
)
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
FOLDS = 5
PAIRS = (
    *(f"{sensor} | nobody | labels" for sensor in ("accelerometer", "gyroscope")),
    *(f"gyroscope | accelerometer | {method}" for method in METHODS),
    "gyroscope | gyroscope | soft targets",
    "accelerometer | gyroscope | soft targets",
)


def settings(pair: str) -> tuple[float, ...]:
    method = pair.split(" | ")[2]
    return METHODS[method].settings if method in METHODS else DECAYS


ARMS = tuple(f"{pair} | {setting:g}" for pair in PAIRS for setting in settings(pair))


def run(seed: int, arm: str) -> dict[str, float]:
    sensor, teacher_sensor, method, setting = arm.split(" | ")
    result = {}
    for number in range(FOLDS):
        fold = people(seed, number, tuning=True)
        if method in METHODS:
            teacher = taught_by_labels(teacher_sensor, seed, number, decay=WEIGHT_DECAY, tuning=True)
            model = taught_by_teacher(sensor, teacher, teacher_sensor, method, float(setting), seed=seed, fold=fold)
        else:
            model = taught_by_labels(sensor, seed, number, decay=float(setting), tuning=True)
        result[f"fold_{number}"] = next(iter(by_person(model, sensor, fold.test).values()))
    return {"accuracy": sum(result.values()) / FOLDS, **result}


@functools.cache
def chosen(pair: str, test: tuple[int, ...]) -> float:
    """The setting of the highest mean accuracy, among stored folds that used no label of the people to test on."""
    stored = load("cross_modal_tuning").set_index(["arm", "seed"])
    clean = [
        (seed, number)
        for seed in SEEDS
        for number, fold in enumerate(folds(seed))
        if not set(fold.labelled) & set(test)
    ]

    def mean(setting: float) -> float:
        return sum(float(stored.loc[(f"{pair} | {setting:g}", seed), f"fold_{n}"]) for seed, n in clean) / len(clean)

    return max(settings(pair), key=mean)
