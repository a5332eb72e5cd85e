"""How hard each loss may pull beside 50 or 1,000 labels, chosen on validation images of seeds that no report uses.

The same effort for labels only: six weight decays. Lesson: notebooks/05_relation_based.ipynb.
"""

import functools

from kdref.lab.experiments._relation_labels import LABELS, NAMES, taught
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
PULLS = (0.04, 0.2, 1.0, 5.0, 25.0, 125.0, 625.0)
DECAYS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
COMPARED = {50: NAMES, 1000: (LABELS, "soft targets", "RKD distance", "SP")}  # by number of labels


def tried(name: str, labels: int) -> dict[str, float]:
    """Arms and their settings, of one loss beside so many labels."""
    return {f"{name} | {labels} labels | {k:g}": k for k in (DECAYS if name == LABELS else PULLS)}


PLANS = {
    arm: (name, labels, setting)
    for labels, names in COMPARED.items()
    for name in names
    for arm, setting in tried(name, labels).items()
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, labels, setting = PLANS[arm]
    return taught(name, setting, labels=labels, seed=seed, tuning=True)


@functools.cache
def chosen(name: str, labels: int) -> float:
    """The setting of the highest mean validation accuracy, among the stored runs."""
    mean = load("relation_labels_tuning").groupby("arm")["accuracy"].mean()
    plans = tried(name, labels)
    return plans[max(plans, key=lambda arm: float(mean[arm]))]
