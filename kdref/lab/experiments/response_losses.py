"""Which loss on logits is worth having for a student that can overfit, at equal budget and tuning, on MNIST-1D.

Both numbers of each loss were chosen before these runs, by ``response_losses_tuning`` and then
``response_losses_decay``. The last two arms show what weight decay is worth.
Lesson: notebooks/02_response_based.ipynb.
"""

from kdref.lab.experiments import response_losses_decay, response_losses_tuning
from kdref.lab.experiments._response_tuned import trained

NO_DECAY = ", no weight decay"
ARMS = (*response_losses_tuning.SETTINGS, f"soft targets{NO_DECAY}", f"logit matching{NO_DECAY}")


def run(seed: int, arm: str) -> dict[str, float]:
    name = arm.removesuffix(NO_DECAY)
    decay = response_losses_decay.chosen(name) if name == arm else 0.0
    return trained(response_losses_tuning.STUDENT, name, response_losses_tuning.chosen(name), decay, seed=seed)
