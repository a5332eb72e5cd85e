"""Hard labels against soft targets at growing training length, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Each length is a run of its own, its learning rate going down to zero.
"""

import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._mnist1d import Loss, logits, taught
from kdref.soft_targets import soft_target_loss


def hard(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(s, y)


def soft(temperature: float) -> Loss:
    return lambda s, t, y: soft_target_loss(s, t, temperature=temperature)


LOSSES = {"hard labels": hard, "τ = 2": soft(2.0), "τ = 10": soft(10.0)}
LENGTHS = (5, 20, 80, 320)
ARMS = tuple(f"{name} | {epochs}" for name in LOSSES for epochs in LENGTHS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, epochs = arm.split(" | ")
    return taught("mlp-100x100", LOSSES[name], seed=seed, targets=logits(seed), epochs=int(epochs))
