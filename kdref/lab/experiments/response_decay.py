"""Labels alone and three taught students, each with weight decay chosen for it, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Settings were chosen by ``response_losses_tuning``, weight decay by
``response_decay_tuning``, before these runs.
"""

from kdref.lab.experiments import response_decay_tuning, response_losses_tuning
from kdref.lab.experiments._response_tuned import trained

ARMS = response_decay_tuning.LOSSES


def run(seed: int, arm: str) -> dict[str, float]:
    setting, decay = response_losses_tuning.chosen(arm), response_decay_tuning.chosen(arm)
    return trained(response_losses_tuning.STUDENT, arm, setting, decay, seed=seed)
