"""Relations beside 50 labels and beside 1,000, against labels only and against soft targets, on digits.

Settings were chosen by ``relation_labels_tuning`` before these runs. Lesson: notebooks/05_relation_based.ipynb.
"""

from kdref.lab.experiments._relation_labels import taught
from kdref.lab.experiments.relation_labels_tuning import COMPARED, chosen

PLANS = {f"{name}, {labels} labels": (name, labels) for labels, names in COMPARED.items() for name in names}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, labels = PLANS[arm]
    return taught(name, chosen(name, labels), labels=labels, seed=seed)
