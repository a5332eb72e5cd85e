"""Which loss on logits helps a student that can overfit, at equal budget and tuning, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Both numbers of each loss were chosen before these runs, by
``response_losses_tuning`` and then ``response_losses_decay``. The arms "at decay 1" have the weight decay that a
baseline would choose for its NLL.
"""

from kdref.lab.experiments import response_losses_decay, response_losses_tuning
from kdref.lab.experiments._response_tuned import trained

DECAYED = ("soft targets", "logit matching")
ARMS = (*response_losses_tuning.SETTINGS, *(f"{name}, decay 1" for name in DECAYED))


def run(seed: int, arm: str) -> dict[str, float]:
    name, _, fixed = arm.partition(", decay ")
    decay = float(fixed) if fixed else response_losses_decay.chosen(name)
    return trained(response_losses_tuning.STUDENT, name, response_losses_tuning.chosen(name), decay, seed=seed)
