"""Robustness: one setting of each way to teach, chosen on validation images of other seeds.

Chosen is the largest mean of accuracy on clean and on attacked images; for defensive distillation, which is to be shown
at its best before the better attack, on clean ones alone. Lesson: notebooks/09_adversarial.ipynb.
"""

import functools

from kdref.lab.experiments._adversarial_robust import tried
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
DECAYS = (0.1, 0.3, 1.0, 3.0)
SETTINGS: dict[str, tuple[float, ...]] = {
    "labels, decay": DECAYS,
    "labels, smoothed": (0.01, 0.02, 0.05, 0.1, 0.2),
    "labels, attacked": (0.003, 0.01, 0.03, 0.1, 0.3),  # weight decay here too
    "plain teacher": (1.0, 2.0, 4.0, 8.0),  # temperatures
    "plain teacher, decay": DECAYS,
    "plain teacher, ARD": (0.25, 0.5, 1.0, 2.0, 4.0),
    "robust teacher": (1.0, 2.0, 4.0, 8.0, 16.0),
    "robust teacher, decay": DECAYS,
    "robust teacher, ARD": (0.25, 0.5, 1.0, 2.0, 4.0),
    "defensive distillation": (0.1, 0.3, 1.0),  # learning rates: the logits have a long way to go
}
ARMS = tuple(f"{way} | {setting:g}" for way, settings in SETTINGS.items() for setting in settings)


def run(seed: int, arm: str) -> dict[str, float]:
    way, setting = arm.split(" | ")
    return tried(way, seed, setting=float(setting), tuning=True)


@functools.cache
def chosen(way: str) -> float:
    """The best setting by the rule above; 0 for what has none."""
    if way not in SETTINGS:
        return 0.0
    mean = load("adversarial_robust_tuning").groupby("arm")[["accuracy", "robust_accuracy"]].mean()
    score = mean["accuracy"] + (0 if way == "defensive distillation" else mean["robust_accuracy"])
    return max(SETTINGS[way], key=lambda setting: float(score[f"{way} | {setting:g}"]))
