"""Which loss on relations helps which student, alone and with soft targets, on MNIST-1D.

Lesson: notebooks/05_relation_based.ipynb. Weights were chosen by ``relations_tuning`` before these runs; the baselines
are the arms of ``response`` with the same seeds.
"""

from kdref.lab.experiments._inside import taught_inside
from kdref.lab.experiments._relations import METHODS, PAIRS
from kdref.lab.experiments.relations_tuning import chosen

ARMS = PAIRS


def run(seed: int, arm: str) -> dict[str, float]:
    student, name, mode = arm.split(" | ")
    weight = chosen(arm)
    return {**taught_inside(student, METHODS[name], seed=seed, weight=weight, mode=mode), "weight": weight}
