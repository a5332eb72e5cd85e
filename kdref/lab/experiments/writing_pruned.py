"""Prune, then distil: a student cut from the teacher by importance or at random, or begun from random weights.

The recipe of Minitron (Muralidharan et al. 2024, https://arxiv.org/abs/2407.14679), in small; all students have one
size and budget. Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments import _writing, writing_tuning
from kdref.lab.experiments._writing import measured
from kdref.lab.experiments._writing_pruned import IMPORTANT, RANDOM, STARTS, pruned, student
from kdref.lab.experiments.writing_pruned_tuning import chosen

ANEW = ("anew | forward", "anew | labels")
UNTAUGHT = (f"{IMPORTANT}, not taught", f"{RANDOM}, not taught")
ARMS = (*STARTS, *ANEW, *UNTAUGHT)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm in UNTAUGHT:
        return measured(pruned(arm.split(", ")[0], seed), seed)
    if arm in ANEW:
        way = arm.split(" | ")[1]
        model, seconds = _writing.student(seed, way, rate=writing_tuning.chosen(way))
    else:
        model, seconds = student(seed, arm, rate=chosen(arm))
    return {**measured(model, seed), "seconds": seconds}
