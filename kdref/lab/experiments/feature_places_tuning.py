"""Choosing each arm's setting on validation images, before the arms are compared.

The same effort for every arm, labels alone included: eight settings, three seeds that are used nowhere else.
Lesson: notebooks/03_feature_based.ipynb.
"""

import functools

from kdref.lab.experiments._feature_places import ARMS as PLANS
from kdref.lab.experiments._feature_places import TUNED, Setting, taught
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001, 5002)
PAIRS = {
    f"{name} | {setting.decay:g} | {setting.own:g}": (name, setting)
    for name, plan in TUNED.items()
    for setting in plan.settings
}
ARMS = tuple(PAIRS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, setting = PAIRS[arm]
    return taught(seed, name, setting, tuning=True)


@functools.cache
def chosen(name: str) -> Setting:
    """The setting of the highest mean validation accuracy, among the stored runs; a control takes its arm's."""
    name = PLANS[name].like or name
    means = load("feature_places_tuning").groupby("arm")["accuracy"].mean()
    of = {setting: float(means[arm]) for arm, (tuned, setting) in PAIRS.items() if tuned == name}
    return max(of, key=lambda setting: of[setting])
