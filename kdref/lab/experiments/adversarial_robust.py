"""Robustness: what a robust teacher passes on, what a plain one does, and defensive distillation under two attacks.

Settings were chosen by ``adversarial_robust_tuning`` before these runs. Lesson: notebooks/09_adversarial.ipynb.
"""

from kdref.lab.experiments._adversarial_robust import tried
from kdref.lab.experiments.adversarial_robust_tuning import chosen

ARMS = (
    "labels",
    "labels, decay",
    "labels, smoothed",
    "labels, attacked",
    "plain teacher",
    "plain teacher, decay",
    "plain teacher, ARD",
    "robust teacher",
    "robust teacher, decay",
    "robust teacher, choices",
    "robust teacher, ARD",
    "defensive distillation",
    "plain teacher itself",
    "robust teacher itself",
)


def run(seed: int, arm: str) -> dict[str, float]:
    return tried(arm, seed, setting=chosen(arm))
