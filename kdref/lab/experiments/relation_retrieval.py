"""Recall on classes that nobody trained on: a student of an embedding teacher, by labels, relations or features.

Settings were chosen before these runs: ``relation_retrieval_tuning`` and ``relation_retrieval_beyond``.
Lesson: notebooks/05_relation_based.ipynb.
"""

import torch.nn.functional as F

from kdref.lab.experiments._relation_retrieval import (
    LOSSES,
    STUDENT,
    WIDTH,
    embedded,
    measured,
    search,
    taught,
    teacher,
)
from kdref.lab.experiments.relation_retrieval_beyond import given
from kdref.lab.models import make

FLOORS = ("signals as they are", "untrained student")
ARMS = ("teacher", *FLOORS, *LOSSES)


def run(seed: int, arm: str) -> dict[str, float]:
    found = search(seed, tuning=False)
    if arm == "signals as they are":
        new, known = (F.normalize(x.flatten(1), dim=1) for x in (found.new_x, found.x))
        return measured(new, known, found)
    if arm in ("teacher", "untrained student"):
        network = teacher(seed) if arm == "teacher" else make(STUDENT, num_classes=WIDTH, seed=100 + seed)
        return measured(embedded(network, found.new_x), embedded(network, found.x), found)
    return taught(arm, given(arm), seed=seed)
