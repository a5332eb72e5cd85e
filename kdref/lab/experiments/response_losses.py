"""Which loss on logits helps which student, at equal budget and equal tuning, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Settings were chosen by ``response_losses_tuning`` before these runs.
"""

from kdref.lab.experiments._mnist1d import logits, taught
from kdref.lab.experiments._response import METHODS, STUDENTS, weight_decay_of
from kdref.lab.experiments.response_losses_tuning import chosen

ARMS = tuple(f"{student} | {name}" for student in STUDENTS for name in METHODS)


def run(seed: int, arm: str) -> dict[str, float]:
    student, name = arm.split(" | ")
    setting = chosen(student, name)
    loss, parameters = METHODS[name].build(setting)
    decay = weight_decay_of(name, setting)
    result = taught(student, loss, seed=seed, targets=logits(seed), weight_decay=decay, also=parameters)
    return {**result, "setting": setting}
