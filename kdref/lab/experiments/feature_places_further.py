"""A longer list for the one arm whose choice stood at the end of its list and not on a flat curve: the hint 2 → 2.

Six weights, six seeds that are used nowhere else, validation images. Lesson: notebooks/03_feature_based.ipynb.
"""

import functools

from kdref.lab.experiments._feature_places import ARMS as PLANS
from kdref.lab.experiments._feature_places import Setting, taught
from kdref.lab.experiments.feature_places_tuning import chosen
from kdref.lab.experiments.store import load

SEEDS = tuple(range(5003, 5009))
EXTENDED = "2 → 2"
SETTINGS = {f"{EXTENDED} | {weight:g}": Setting(0.1, weight) for weight in (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    return taught(seed, EXTENDED, SETTINGS[arm], tuning=True)


@functools.cache
def settled(name: str) -> Setting:
    """The setting that an arm is run with: of this list for the hint 2 → 2 and its controls, else as tuned."""
    if EXTENDED not in (name, PLANS[name].like):
        return chosen(name)
    means = load("feature_places_further").groupby("arm")["accuracy"].mean()
    return SETTINGS[max(ARMS, key=lambda arm: float(means[arm]))]
