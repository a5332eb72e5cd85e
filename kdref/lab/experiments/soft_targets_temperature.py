"""Hard labels against soft targets at several temperatures, on MNIST-1D. Lesson: notebooks/01_soft_targets.ipynb.

Learning rate, epochs and sizes were chosen on validation data (3,500 + 500 of the canonical 4,000) with seeds that are
not used here; the runs train on all 4,000 and are measured, once, on the 1,000 test examples at the last epoch.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data import mnist1d
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.soft_targets import distillation_loss


class Arm(NamedTuple):
    """A student and how it is taught. Within a group of arms all but the last two fields are equal."""

    student: str
    epochs: int
    soft_weight: float  # 0: hard labels only; 1: no labels
    temperature: float


SETTINGS = {
    "hard": Arm("mlp-100x100", 200, 0.0, 1.0),
    **{f"soft-{t}": Arm("mlp-100x100", 200, 1.0, float(t)) for t in (1, 2, 4, 10, 20)},
    "mixed-10": Arm("mlp-100x100", 200, 0.9, 10.0),
    "short-hard": Arm("mlp-100x100", 20, 0.0, 1.0),
    "short-soft": Arm("mlp-100x100", 20, 1.0, 10.0),
    "tiny-hard": Arm("mlp-16", 200, 0.0, 1.0),
    "tiny-soft": Arm("mlp-16", 200, 1.0, 10.0),
}
ARMS = tuple(SETTINGS)


@functools.lru_cache(maxsize=1)
def teacher_logits(seed: int) -> tuple[Tensor, Tensor, float]:
    """Train the seed's teacher; its logits on the training and test examples, and its test accuracy."""
    split = mnist1d(validation=0)
    teacher = make("cnn1d-32", seed=seed)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=1e-2)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(teacher(x), y)}

    batches = Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    fit(step, teacher, batches, optimizer, epochs=40, scheduler=scheduler, progress=False)
    test = teacher_outputs(teacher, split.test_x)
    accuracy = (test.argmax(-1) == split.test_y).double().mean().item()
    return teacher_outputs(teacher, split.train_x), test, accuracy


def run(seed: int, arm: str) -> dict[str, float]:
    settings = SETTINGS[arm]
    split = mnist1d(validation=0)
    train_logits, test_logits, teacher_accuracy = teacher_logits(seed)
    student = make(settings.student, seed=100 + seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.0)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, t = batch
        weight, temperature = settings.soft_weight, settings.temperature
        return {"loss": distillation_loss(student(x), t, y, soft_weight=weight, temperature=temperature)}

    batches = Batches(split.train_x, split.train_y, train_logits, batch_size=100, seed=seed)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    fit(step, student, batches, optimizer, epochs=settings.epochs, scheduler=scheduler, progress=False)
    result = measure(student, split.test_x, split.test_y, teacher_logits=test_logits)
    training = measure(student, split.train_x, split.train_y)["accuracy"]
    return {**result, "training_accuracy": training, "teacher_accuracy": teacher_accuracy}
