"""Choosing weight decay and each method's own hyper-parameter on a labelled person left out.

Labels alone have the weight decay only. Five folds of two seeds that are used nowhere else; two of a fold's three
labelled people are learned from, the third one is measured. Lesson: notebooks/07_cross_modal.ipynb.
"""

import functools
import itertools
from typing import NamedTuple

from kdref.lab.data.smartwatch import folds
from kdref.lab.experiments._cross_modal import (
    DECAYS,
    METHODS,
    by_person,
    people,
    taught_by_labels,
    train,
)
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
FOLDS = 5
TEACHER_DECAY = 1.0  # while its students are tuned; in the reported runs it has the one that was chosen
PAIRS = (
    *(f"{sensor} | nobody | labels" for sensor in ("accelerometer", "gyroscope")),
    *(f"gyroscope | accelerometer | {method}" for method in METHODS),
    "gyroscope | gyroscope | soft targets",
    "accelerometer | gyroscope | soft targets",
)


class Choice(NamedTuple):
    """What was tuned."""

    decay: float
    setting: float  # of the method; 0 for labels, which have none


def choices(pair: str) -> list[Choice]:
    """All that are tried."""
    method = pair.split(" | ")[2]
    settings = METHODS[method].settings if method in METHODS else (0.0,)
    return [Choice(*both) for both in itertools.product(DECAYS, settings)]


ARMS = tuple(f"{pair} | {choice.decay:g} | {choice.setting:g}" for pair in PAIRS for choice in choices(pair))


def run(seed: int, arm: str) -> dict[str, float]:
    sensor, teacher_sensor, method, decay, setting = arm.split(" | ")
    result = {}
    for number in range(FOLDS):
        fold = people(seed, number, tuning=True)
        if method in METHODS:
            teacher = taught_by_labels(teacher_sensor, seed, number, decay=TEACHER_DECAY, tuning=True)
            guide = (teacher, teacher_sensor, METHODS[method], float(setting))
            model = train(sensor, seed, fold, decay=float(decay), guide=guide)
        else:
            model = taught_by_labels(sensor, seed, number, decay=float(decay), tuning=True)
        result[f"fold_{number}"] = next(iter(by_person(model, sensor, fold.test).values()))
    return {"accuracy": sum(result.values()) / FOLDS, **result}


@functools.cache
def chosen(pair: str, test: tuple[int, ...]) -> Choice:
    """The choice of the highest mean accuracy, among stored folds that used no label of the people to test on."""
    stored = load("cross_modal_tuning").set_index(["arm", "seed"])
    clean = [
        (seed, number)
        for seed in SEEDS
        for number, fold in enumerate(folds(seed))
        if not set(fold.labelled) & set(test)
    ]

    def mean(choice: Choice) -> float:
        arm = f"{pair} | {choice.decay:g} | {choice.setting:g}"
        return sum(float(stored.loc[(arm, seed), f"fold_{number}"]) for seed, number in clean) / len(clean)

    return max(choices(pair), key=mean)
