"""What the live experiments of lesson 03 need beside their steps: one training, as in ``feature_places``, margins, and
a strong regressor.

Lesson: notebooks/03_feature_based.ipynb.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdref.lab.experiments._feature_places import BATCH_SIZE, EPOCHS
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit


def margins(responses: Tensor) -> Tensor:  # (B, C) -> (C,)
    """Each channel's mean negative response, which the overhaul takes for its margin; 0 where there is none."""
    negative = responses < 0
    return (responses * negative).sum(dim=0) / negative.sum(dim=0).clamp(min=1)


def strong_regressor(student_channels: int, teacher_channels: int) -> nn.Sequential:
    """Two convolutions of 3 × 3: it can make much of features that mean little."""
    first = nn.Conv2d(student_channels, 32, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, teacher_channels, 3, padding=1))


def learn(
    step: Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]],
    modules: Sequence[nn.Module],
    tensors: Sequence[Tensor],
    *,
    seed: int,
    decay: float,
) -> None:
    """320 steps of AdamW along a cosine, on batches of 50."""
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    batches = Batches(*tensors, batch_size=BATCH_SIZE, seed=seed)
    fit(step, modules, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
