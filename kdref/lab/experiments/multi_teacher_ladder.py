"""A small student of a large teacher, directly or through an assistant of middle size, and what else the epochs buy.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

import torch
from torch import Tensor

from kdref.lab.data import digits
from kdref.lab.experiments._councils import LEARNING_RATE, TEMPERATURE, seen_by, teacher
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.soft_targets import distillation_loss

LADDERS = {
    "labels": ("mlp-8",),
    "direct": ("mlp-8",),
    "through an assistant": ("mlp-32", "mlp-8"),
    "direct, twice as long": ("mlp-8",),
}
ARMS = tuple(LADDERS)
EPOCHS = {arm: 480 if arm == "direct, twice as long" else 240 for arm in ARMS}  # of each net of the ladder


def run(seed: int, arm: str) -> dict[str, float]:
    split, z = digits(seed), teacher(seed, "pixels")["train"]
    weight = 0.0 if arm == "labels" else 1.0

    def step(batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        x, y, z = batch
        return {"loss": distillation_loss(student(x), z, y, soft_weight=weight, temperature=TEMPERATURE)}

    for name in LADDERS[arm]:
        student = make(name, shape=split.shape, seed=seed)
        batches = Batches(split.train_x, split.train_y, z, batch_size=100, seed=seed)
        optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE, fused=True)
        fit(step, student, batches, optimizer, epochs=EPOCHS[arm], progress=False)
        z = teacher_outputs(student, split.train_x)
    return seen_by(student, split)
