"""Labels alone with three times the budget, beside ``relation_retrieval``.

Lesson: notebooks/05_relation_based.ipynb.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._relation_retrieval import (
    BATCH_SIZE,
    EPOCHS,
    STUDENT,
    WIDTH,
    embedded,
    measured,
    search,
    supervised_contrastive_loss,
)
from kdref.lab.experiments.relation_retrieval_beyond import given
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit

LONGER = 3
ARMS = (f"labels, {LONGER} times as long",)


def run(seed: int, _: str) -> dict[str, float]:
    found, student = search(seed, tuning=False), make(STUDENT, num_classes=WIDTH, seed=100 + seed)
    settings, epochs = given("labels"), LONGER * EPOCHS

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        own = F.normalize(student(x), dim=1)
        return {"loss": supervised_contrastive_loss(own, y, temperature=settings.temperature)}

    optimizer = torch.optim.Adam(student.parameters(), lr=settings.rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    batches = Batches(found.x, found.y, batch_size=BATCH_SIZE, seed=seed)
    fit(step, student, batches, optimizer, epochs=epochs, scheduler=scheduler, progress=False)
    return measured(embedded(student, found.new_x), embedded(student, found.x), found)
