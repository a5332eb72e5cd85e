"""Every loss of lessons 01 to 05 with 500 labels, alone and with soft targets, on MNIST-1D.

Lesson: notebooks/05_relation_based.ipynb. Settings were chosen by ``few_labels_tuning`` before these runs.
"""

from kdref.lab.experiments.relation_few_labels_tuning import PAIRS, chosen, taught

ARMS = PAIRS


def run(seed: int, arm: str) -> dict[str, float]:
    setting = chosen(arm)
    return {**taught(arm, setting, seed=seed), "setting": setting}
