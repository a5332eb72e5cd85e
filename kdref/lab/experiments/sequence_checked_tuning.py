"""Distillation and reinforcement learning: each method's learning rate, by right answers, on seeds used nowhere else.

Lesson: notebooks/12_reasoning.ipynb.
"""

import functools

from kdref.lab.experiments._sequence_checked import BUDGETS, METHODS, after, measured
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002, 5003)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SETTINGS = {
    f"{method} | {budget} | {rate:g}": (method, budget, rate)
    for method in METHODS
    for budget in BUDGETS
    for rate in RATES
}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    method, budget, rate = SETTINGS[arm]
    return measured(after(method, seed, texts=BUDGETS[budget], rate=rate)().detach())


@functools.cache
def chosen(method: str, budget: str) -> float:
    """The rate of the most right answers."""
    mean = load("sequence_checked_tuning").groupby("arm")["accuracy"].mean()
    return min(RATES, key=lambda rate: -float(mean[f"{method} | {budget} | {rate:g}"]))
