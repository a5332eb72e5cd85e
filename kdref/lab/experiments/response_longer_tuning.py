"""Choosing, for a small convolutional student, weight decay without a teacher and the temperature with one.

Three values each, three seeds that are used nowhere else, 500 validation examples out of the training set.
Lesson: notebooks/02_response_based.ipynb.
"""

import functools

from kdref.lab.experiments._response_tuned import SEEDS, VALIDATION, best, trained

__all__ = ["ARMS", "EPOCHS", "SEEDS", "SETTINGS", "STUDENT", "chosen", "run"]

STUDENT = "cnn1d-8"
EPOCHS = 200  # at 50 labels alone reach 89 % of their own training data, at 400 no more than at 200
SETTINGS = {  # of each loss: its own setting and weight decay
    "cross-entropy": ((0.0, 0.0), (0.0, 0.1), (0.0, 0.3)),
    "soft targets": ((1.0, 0.0), (2.0, 0.0), (4.0, 0.0)),
}


def arm(name: str, setting: float, decay: float) -> str:
    return f"{name} | {setting:g} | {decay:g}"


ARMS = tuple(arm(name, *pair) for name, pairs in SETTINGS.items() for pair in pairs)


def run(seed: int, arm: str) -> dict[str, float]:
    name, setting, decay = arm.split(" | ")
    return trained(STUDENT, name, float(setting), float(decay), seed=seed, validation=VALIDATION, epochs=EPOCHS)


@functools.cache
def chosen(name: str) -> tuple[float, float]:
    """Setting and weight decay of the highest mean validation accuracy, among the stored runs."""
    arms = {float(place): arm(name, *pair) for place, pair in enumerate(SETTINGS[name])}
    return SETTINGS[name][int(best(arms, "response_longer_tuning"))]
