"""Augmentation: must teacher and student see the same augmented input? On MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. An augmented signal is shifted in time, each example by its own random step.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._mnist1d import BATCH_SIZE, logits, parts, teacher
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.soft_targets import distillation_loss

ARMS = ("labels, augmented", "soft, not augmented", "soft, same augmented input", "soft, teacher saw the original")
EPOCHS, LARGEST_SHIFT = 100, 8


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each signal of a batch ``(B, 1, L)`` rolled by its own step, up to ``LARGEST_SHIFT`` either way."""
    steps = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (len(x), 1, 1), generator=generator)
    places = (torch.arange(x.shape[-1]) - steps) % x.shape[-1]
    return x.gather(-1, places.expand_as(x))


def run(seed: int, arm: str) -> dict[str, float]:
    split, guide, student = parts(), teacher(seed), make("mlp-100x100", seed=100 + seed)
    targets, test_logits = logits(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, t = batch
        if arm != "soft, not augmented":
            x = shifted(x, generator)
        if arm == "labels, augmented":
            return {"loss": F.cross_entropy(student(x), y)}
        if arm == "soft, same augmented input":
            with torch.no_grad():
                t = guide(x)
        return {"loss": distillation_loss(student(x), t, y, soft_weight=0.9, temperature=4.0)}

    batches = Batches(split.train_x, split.train_y, targets, batch_size=BATCH_SIZE, seed=seed)
    fit(step, student, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
    return measure(student, split.test_x, split.test_y, teacher_logits=test_logits)
