"""A loss on logits with its two numbers, its own setting and weight decay, and how both are chosen, on MNIST-1D.

First the setting, without weight decay; then weight decay, at that setting. Cross-entropy has weight decay only.
Lesson: notebooks/02_response_based.ipynb.
"""

from collections.abc import Mapping

from kdref.lab.experiments._mnist1d import logits, taught
from kdref.lab.experiments._response import METHODS
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)  # used nowhere else
VALIDATION = 500


def trained(
    student: str,
    name: str,
    setting: float,
    decay: float,
    *,
    seed: int,
    validation: int = 0,
) -> dict[str, float]:
    """One run. With validation examples these are what it is measured on, and the training set lacks them."""
    loss, parameters = METHODS[name].build(setting)
    result = taught(
        student,
        loss,
        seed=seed,
        targets=logits(seed, validation=validation),
        validation=validation,
        weight_decay=decay,
        also=parameters,
    )
    return {**result, "setting": setting, "weight_decay": decay}


def best(arms: Mapping[float, str], *experiments: str) -> float:
    """The value whose arm has the highest mean validation accuracy, among the stored runs of the experiments."""
    means: dict[str, float] = {}
    for experiment in experiments:
        means |= load(experiment).groupby("arm")["accuracy"].mean().to_dict()
    return max(arms, key=lambda value: means[arms[value]])
