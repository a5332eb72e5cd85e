"""Choosing the controls' learning rates and the smoothing of labels, on short sentences that nobody learned from.

Three learning rates with and without teacher, on seeds that are used nowhere else; the one of the highest accuracy is
taken, and what leaves out a term takes that of the whole loss, both as for the long runs. Smoothing is meant for the
probabilities: that of the lowest negative log-likelihood is taken.
Lesson: notebooks/11_language_models.ipynb.
"""

import functools

from kdref.lab.experiments._language_controls import LABELS, SMOOTHED, TERMS, TRIPLE, found, sentences, trained
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
TUNED = (LABELS, SMOOTHED, TRIPLE)
RATES = (1e-4, 3e-4, 1e-3)
RATE, SMOOTHING = 3e-4, 0.2  # while the other one is chosen
SMOOTHINGS = (0.1, 0.2, 0.4, 0.6)
ARMS = (
    *(f"{name} | {rate:g} | {SMOOTHING if name == SMOOTHED else 0:g}" for name in TUNED for rate in RATES),
    *(f"{SMOOTHED} | {RATE:g} | {smoothing:g}" for smoothing in SMOOTHINGS if smoothing != SMOOTHING),
)


def run(seed: int, arm: str) -> dict[str, float]:
    name, rate, smoothing = arm.split(" | ")
    data = sentences(seed)
    model = trained(seed, name, float(rate), float(smoothing))
    result = found(model, data.validation)
    return result | {"train_accuracy": found(model, data.train)["accuracy"]}


@functools.cache
def mean(metric: str, arm: str) -> float:
    """Of a stored arm, on the validation sentences."""
    stored = load("language_distilbert_controls_tuning")
    return float(stored.loc[stored["arm"] == arm, metric].mean())


def chosen(name: str) -> float:
    """The learning rate of the highest accuracy."""
    name = TRIPLE if TERMS[name] else name
    smoothing = SMOOTHING if name == SMOOTHED else 0
    return max(RATES, key=lambda rate: mean("accuracy", f"{name} | {rate:g} | {smoothing:g}"))


def chosen_smoothing() -> float:
    """The smoothing of the lowest negative log-likelihood."""
    return min(SMOOTHINGS, key=lambda smoothing: mean("nll", f"{SMOOTHED} | {RATE:g} | {smoothing:g}"))
