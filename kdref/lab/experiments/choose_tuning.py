"""Choosing every loss's settings on validation data, before all are compared.

Three seeds that are used nowhere else, 500 validation examples. A loss on logits tunes its own hyper-parameter without
weight decay, then weight decay; cross-entropy weight decay only. A loss from inside the network tunes its weight beside
cross-entropy as it was tuned, or beside soft targets as they were, with the weight decay of these.

Which arms there are follows from what is stored: three settings each, then a further one for as long as the best is at
an end. So this is run again and again until nothing is missing.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import functools
import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from kdref.lab.experiments import store
from kdref.lab.experiments._choose import MODES, STUDENTS, taught_inside, taught_outside
from kdref.lab.experiments._choose_features import METHODS as FEATURES
from kdref.lab.experiments._choose_features import WITHOUT_MAPS
from kdref.lab.experiments._choose_grids import DECAY, LADDERS, WEIGHT, Climb, climbed
from kdref.lab.experiments._choose_relations import METHODS as RELATIONS
from kdref.lab.experiments._response import METHODS as LOGITS

SEEDS = (5000, 5001, 5002)
INSIDE = {**FEATURES, **RELATIONS}
CROSS_ENTROPY, SOFT_TARGETS = "cross-entropy", "soft targets"
ORDER = (CROSS_ENTROPY, SOFT_TARGETS, *(name for name in LOGITS if name not in (CROSS_ENTROPY, SOFT_TARGETS)), *INSIDE)


class Pair(NamedTuple):
    """A student that learns by a loss: what one arm of the benchmark is."""

    student: str
    name: str
    mode: str = MODES[0]

    def __str__(self) -> str:
        """Give the arm's name."""
        return " | ".join(self)


class Choice(NamedTuple):
    """What is tuned of a loss."""

    setting: float  # its own: a weight, a temperature, a share; 0 for cross-entropy, which has none
    decay: float


PAIRS = tuple(
    Pair(student, name, mode)
    for student, plan in STUDENTS.items()
    for name in ORDER
    for mode in (MODES if name in INSIDE else MODES[:1])
    if name not in FEATURES or name in WITHOUT_MAPS or "late" in plan.sites  # a perceptron has no maps
)


class Search(NamedTuple):
    """How far the search for a pair's settings has come."""

    arms: tuple[str, ...]  # all that is or must be run
    climbs: tuple[Climb, ...]  # of its own setting, of weight decay, or of both in this order
    choice: Choice | None  # None while arms are missing


def arm_of(pair: Pair, setting: float, decay: float) -> str:
    return f"{pair} | {setting:g} | {decay:g}"


def beside(pair: Pair) -> Pair:
    """The loss that a loss from inside is added to."""
    return Pair(pair.student, CROSS_ENTROPY if pair.mode == MODES[0] else SOFT_TARGETS)


def searched(pair: Pair, means: Mapping[str, float]) -> Search:
    """What must be run for a pair, and what is chosen once that is done, by mean validation accuracy of the arms."""
    setting, decay, climbs = 0.0, 0.0, []
    arms: dict[str, None] = {}  # in order, each once
    if pair.name in INSIDE:
        base = searched(beside(pair), means).choice
        if base is None:
            return Search((), (), None)
        decay = base.decay
    if pair.name != CROSS_ENTROPY:
        ladder = WEIGHT if pair.name in INSIDE else LADDERS[pair.name]
        climb = climbed(ladder, _found({value: arm_of(pair, value, decay) for value in ladder.values}, means))
        climbs.append(climb)
        arms |= dict.fromkeys(arm_of(pair, value, decay) for value in climb.tried)
        if climb.best is None:
            return Search(tuple(arms), tuple(climbs), None)
        setting = climb.best
    if pair.name in LOGITS:
        climb = climbed(DECAY, _found({value: arm_of(pair, setting, value) for value in DECAY.values}, means))
        climbs.append(climb)
        arms |= dict.fromkeys(arm_of(pair, setting, value) for value in climb.tried)
        if climb.best is None:
            return Search(tuple(arms), tuple(climbs), None)
        decay = climb.best
    return Search(tuple(arms), tuple(climbs), Choice(setting, decay))


def _found(arms: Mapping[float, str], means: Mapping[str, float]) -> dict[float, float]:
    return {value: means[arm] for value, arm in arms.items() if arm in means}


def stored_means() -> dict[str, float]:
    """Mean validation accuracy of every arm that has been run with all seeds; empty where nothing sound is stored."""
    try:
        stored = store.read("choose_tuning")
    except store.StoredRunsError:
        stored = None  # the store says so, and what to do, to whoever loads the runs
    found = defaultdict(list)
    for run in stored["runs"] if stored else []:
        found[run["arm"]].append(run["accuracy"])
    return {arm: statistics.fmean(values) for arm, values in found.items() if len(values) == len(SEEDS)}


MEANS = stored_means()
ARMS = tuple(arm for pair in PAIRS for arm in searched(pair, MEANS).arms)


def taught(pair: Pair, choice: Choice, *, seed: int, tuning: bool = False) -> dict[str, float]:
    """One run of a student and a loss with its settings."""
    if pair.name in LOGITS:
        loss, also = LOGITS[pair.name].build(choice.setting)
        return taught_outside(pair.student, loss, seed=seed, decay=choice.decay, also=also, tuning=tuning)
    return taught_inside(
        pair.student,
        INSIDE[pair.name],
        seed=seed,
        weight=choice.setting,
        temperature=None if pair.mode == MODES[0] else chosen(beside(pair)).setting,
        decay=choice.decay,
        tuning=tuning,
    )


def run(seed: int, arm: str) -> dict[str, float]:
    student, name, mode, setting, decay = arm.split(" | ")
    result = taught(Pair(student, name, mode), Choice(float(setting), float(decay)), seed=seed, tuning=True)
    return {metric: result[metric] for metric in ("accuracy", "training_accuracy")}


@functools.cache
def chosen(pair: Pair) -> Choice:
    """The settings of the highest mean validation accuracy, among the stored runs.

    Raises:
        LookupError: If runs are missing.
    """
    choice = searched(pair, stored_means()).choice
    if choice is None:
        raise LookupError(f"no settings are chosen for {pair} yet: python -m kdref.lab.experiments choose_tuning")
    return choice
