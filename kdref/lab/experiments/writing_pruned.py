"""Prune, then distil: a student cut from the teacher by importance or at random, or begun from random weights.

The recipe of Minitron (Muralidharan et al. 2024, https://arxiv.org/abs/2407.14679), in small; all students have one
size and budget. Those begun anew are the ones of ``writing_divergences``, which are not trained again.
Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments import writing_divergences
from kdref.lab.experiments._writing import measured
from kdref.lab.experiments._writing_pruned import IMPORTANT, RANDOM, STARTS, pruned, student
from kdref.lab.experiments.writing_pruned_tuning import chosen

ANEW = {"anew | forward": "forward", "anew | labels": "labels"}
UNTAUGHT = {f"{way}, not taught": way for way in (IMPORTANT, RANDOM)}
ARMS = (*STARTS, *ANEW, *UNTAUGHT)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm in ANEW:
        return writing_divergences.stored(seed, ANEW[arm])
    if arm in UNTAUGHT:
        return measured(pruned(UNTAUGHT[arm], seed), seed)
    model, seconds = student(seed, arm, rate=chosen(arm))
    return measured(model, seed) | {"seconds": seconds}
