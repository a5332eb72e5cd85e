"""Where a hint is attached, its controls, and the reused classifier, with 100 labels and time to learn them by heart.

Lesson: notebooks/03_feature_based.ipynb. Settings were chosen by ``feature_places_tuning`` and
``feature_places_further`` before these runs.
"""

from kdref.lab.experiments._feature_places import ARMS as PLANS
from kdref.lab.experiments._feature_places import taught
from kdref.lab.experiments.feature_places_further import settled

ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    setting = settled(arm)
    return {**taught(seed, arm, setting), "decay": setting.decay, "own": setting.own}
