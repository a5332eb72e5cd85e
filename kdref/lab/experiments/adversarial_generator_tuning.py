"""The learning rate of each way to train a generator in the plane, chosen on seeds that are used nowhere else.

Lesson: notebooks/09_adversarial.ipynb.
"""

import functools

from kdref.lab.experiments._adversarial_generator import Plan, played
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)
RATES = (0.001, 0.003, 0.01, 0.03)
WAYS = ("distribution matching", "adversarial")
ARMS = tuple(f"{way} | {rate:g}" for way in WAYS for rate in RATES)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate = arm.split(" | ")
    return played(Plan(adversarial=way == "adversarial", rate=float(rate)), seed)


@functools.cache
def chosen(way: str) -> float:
    """The rate that came closest to the teacher's law: the least mean energy distance, among the stored runs."""
    mean = load("adversarial_generator_tuning").groupby("arm")["energy_distance"].mean()
    return min(RATES, key=lambda rate: float(mean[f"{way} | {rate:g}"]))
