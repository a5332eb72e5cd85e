"""A grid of the soft term's weight and temperature, for lesson 02's loss-balance widget, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb.
"""

import functools

from kdref.lab.experiments._mnist1d import logits, taught
from kdref.soft_targets import distillation_loss

SEEDS = tuple(range(8))
WEIGHTS, TEMPERATURES = (0.0, 0.1, 0.5, 0.9, 1.0), (1.0, 2.0, 4.0, 8.0, 16.0)
ARMS = (  # without a soft term its temperature means nothing, so that row has one arm
    "0 | 1",
    *(f"{weight:g} | {temperature:g}" for weight in WEIGHTS[1:] for temperature in TEMPERATURES),
)


def run(seed: int, arm: str) -> dict[str, float]:
    weight, temperature = map(float, arm.split(" | "))
    loss = functools.partial(distillation_loss, soft_weight=weight, temperature=temperature)
    return taught("mlp-100x100", loss, seed=seed, targets=logits(seed))
