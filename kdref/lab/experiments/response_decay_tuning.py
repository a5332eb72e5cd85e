"""Choosing weight decay on validation data, for labels alone and for three taught students.

Each loss at the setting that was chosen without weight decay; the same list of values, seeds and examples for all.
Lesson: notebooks/02_response_based.ipynb.
"""

import functools

from kdref.lab.experiments import response_losses_tuning as first
from kdref.lab.experiments._response_tuned import SEEDS, VALIDATION, best, trained

__all__ = ["ARMS", "DECAYS", "LOSSES", "SEEDS", "chosen", "run"]

LOSSES = ("cross-entropy", "soft targets", "logit matching", "decoupled (DKD)")
DECAYS = (0.0, 0.3, 1.0, 3.0)  # 0 was run with the settings
ARMS = tuple(f"{name} | {decay:g}" for name in LOSSES for decay in DECAYS[1:])


def run(seed: int, arm: str) -> dict[str, float]:
    name, decay = arm.split(" | ")
    return trained(first.STUDENT, name, first.chosen(name), float(decay), seed=seed, validation=VALIDATION)


@functools.cache
def chosen(name: str) -> float:
    """The weight decay of the highest mean validation accuracy, among the stored runs."""
    arms = {decay: f"{name} | {decay:g}" for decay in DECAYS[1:]}
    arms[0.0] = f"{name} | {first.chosen(name):g} | 0"
    return best(dict(sorted(arms.items())), "response_losses_tuning", "response_decay_tuning")
