"""Choosing each loss's own setting on validation data, before weight decay is.

Three seeds that are used nowhere else, 500 validation examples out of the training set, no weight decay.
Lesson: notebooks/02_response_based.ipynb.
"""

import functools

from kdref.lab.experiments._response_tuned import SEEDS, VALIDATION, best, trained

__all__ = ["ARMS", "SEEDS", "SETTINGS", "STUDENT", "chosen", "run"]

STUDENT = "mlp-100x100"
SETTINGS = {  # the last argument of the loss in ``_response.METHODS``
    "cross-entropy": (0.0,),  # it has none
    "label smoothing": (0.03, 0.1, 0.3),
    "hard labels of the teacher": (0.3, 0.6, 1.0),
    "soft targets": (1.0, 2.0, 4.0, 10.0),
    "logit matching": (0.03, 0.1, 0.3, 1.0, 3.0),
    "decoupled (DKD)": (0.1, 0.3, 1.0, 4.0, 8.0),
    "normalised (NKD)": (1.0, 2.0, 4.0),
    "correlation (DIST)": (0.2, 0.5, 1.0, 2.0),
    "standardised logits": (1.0, 3.0, 9.0),
}
ARMS = tuple(f"{name} | {setting:g} | 0" for name, settings in SETTINGS.items() for setting in settings)


def run(seed: int, arm: str) -> dict[str, float]:
    name, setting, decay = arm.split(" | ")
    return trained(STUDENT, name, float(setting), float(decay), seed=seed, validation=VALIDATION)


@functools.cache
def chosen(name: str) -> float:
    """The setting of the highest mean validation accuracy, among the stored runs."""
    return best({setting: f"{name} | {setting:g} | 0" for setting in SETTINGS[name]}, "response_losses_tuning")
