"""Retrieval with four times the steps: four rounds, each with a schedule of its own, for the labels and for relations.

Did the labels only need more time? Everything else is as in ``relation_retrieval``.
Lesson: notebooks/05_relation_based.ipynb.
"""

import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._relation_retrieval import (
    BATCH_SIZE,
    STUDENT,
    WIDTH,
    _train,
    embedded,
    measured,
    search,
    supervised_contrastive_loss,
    teacher,
)
from kdref.lab.experiments.relation_retrieval_beyond import given
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.relation import rkd_angle_loss, rkd_distance_loss

ROUNDS = 4
ARMS = ("labels", "RKD both")


def run(seed: int, arm: str) -> dict[str, float]:
    found, settings = search(seed, tuning=False), given(arm)
    student = make(STUDENT, num_classes=WIDTH, seed=100 + seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, t = batch
        s = F.normalize(student(x), dim=1)
        if arm == "labels":
            return {"loss": supervised_contrastive_loss(s, y, temperature=settings.temperature)}
        return {"loss": rkd_distance_loss(s, t) + 2 * rkd_angle_loss(s, t)}

    batches = Batches(found.x, found.y, embedded(teacher(seed), found.x), batch_size=BATCH_SIZE, seed=seed)
    for _ in range(ROUNDS):
        _train(step, student, batches, settings)
    return measured(embedded(student, found.new_x), embedded(student, found.x), found)
