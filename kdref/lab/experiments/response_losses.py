"""Losses on logits for a student that can overfit, at equal budget and tuning, without weight decay, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Settings were chosen by ``response_losses_tuning`` before these runs;
``response_decay`` has weight decay too.
"""

from kdref.lab.experiments import response_losses_tuning as tuning
from kdref.lab.experiments._response_tuned import trained

ARMS = tuple(tuning.SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    return trained(tuning.STUDENT, arm, tuning.chosen(arm), 0.0, seed=seed)
