"""Does an assistant between a large teacher and a small student pay, at a short budget and at four times that?

Digits: 100 hidden units teach 8, directly or through 32. Assistant and student train for the same epochs; the fair
opponent spends the assistant's on the student. Nothing is tuned. ``train_accuracy`` is against the true labels.
Lesson: notebooks/06_multi_teacher.ipynb.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.soft_targets import distillation_loss

TEACHER, TEACHER_EPOCHS, RATE, TEMPERATURE = "mlp-100", 10, 0.01, 4.0


class Ladder(NamedTuple):
    """Who learns from whom: the teacher comes first, and each rung from the one before it."""

    rungs: tuple[str, ...]
    soft_weight: float
    epochs: int  # of each rung


PLANS = {
    f"{name} | {epochs} epochs": Ladder(rungs, soft_weight, times * epochs)
    for epochs in (60, 240)
    for name, rungs, soft_weight, times in (
        ("direct", ("mlp-8",), 1.0, 1),
        ("through an assistant", ("mlp-32", "mlp-8"), 1.0, 1),
        ("direct, twice as long", ("mlp-8",), 1.0, 2),
        ("labels", ("mlp-8",), 0.0, 1),
    )
}
ARMS = tuple(PLANS)


def taught(name: str, said: Tensor, *, seed: int, soft_weight: float, epochs: int) -> nn.Module:
    """A network taught by logits on the training images, or by the labels."""
    split = digits(seed)
    net = make(name, shape=split.shape, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, z = batch
        return {"loss": distillation_loss(net(x), z, y, soft_weight=soft_weight, temperature=TEMPERATURE)}

    batches = Batches(split.train_x, split.train_y, said, batch_size=100, seed=seed)
    fit(step, net, batches, torch.optim.Adam(net.parameters(), lr=RATE, fused=True), epochs=epochs, progress=False)
    return net


@functools.lru_cache(maxsize=1)
def teacher_logits(seed: int) -> Tensor:
    """What the teacher says of the training images."""
    x = digits(seed).train_x
    teacher = taught(TEACHER, torch.zeros(len(x), 10), seed=seed, soft_weight=0.0, epochs=TEACHER_EPOCHS)
    return teacher_outputs(teacher, x)


def run(seed: int, arm: str) -> dict[str, float]:
    ladder, split = PLANS[arm], digits(seed)
    said = teacher_logits(seed)
    for name in ladder.rungs:
        net = taught(name, said, seed=seed, soft_weight=ladder.soft_weight, epochs=ladder.epochs)
        said = teacher_outputs(net, split.train_x)
    found, seen = (measure(net, *pair) for pair in ((split.test_x, split.test_y), (split.train_x, split.train_y)))
    return {"accuracy": found["accuracy"], "train_accuracy": seen["accuracy"]}
