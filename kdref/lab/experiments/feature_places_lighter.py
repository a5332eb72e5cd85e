"""Hints at a tenth of their chosen weight, where that kept students from learning their labels in ``feature_places``.

The same seeds, images, first weights, order and steps. An arm is here if its students, or those of the hint that it
controls, know less than 95 % of their own training images. Lesson: notebooks/03_feature_based.ipynb.
"""

from kdref.lab.experiments._feature_places import taught
from kdref.lab.experiments.feature_places_further import settled

HEAVY = ("2 → 2", "1 → 3", "3 → 1", "2 → 2, teacher untrained", "2 → 2, regressor frozen")
NAMES = {f"{name}, lighter": name for name in HEAVY}
ARMS = tuple(NAMES)


def run(seed: int, arm: str) -> dict[str, float]:
    setting = settled(NAMES[arm])
    setting = setting._replace(own=setting.own / 10)
    return {**taught(seed, NAMES[arm], setting), "decay": setting.decay, "own": setting.own}
