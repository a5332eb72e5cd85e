"""What the live experiment of lesson 03 needs beside its step: one training, as in ``feature_places``, and margins.

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


def learn(
    step: Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]],
    modules: Sequence[nn.Module],
    tensors: Sequence[Tensor],
    *,
    seed: int,
    decay: float,
) -> None:
    """320 steps of AdamW along a cosine, on batches of 50."""
    trained = [parameter for module in modules for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    batches = Batches(*tensors, batch_size=BATCH_SIZE, seed=seed)
    fit(step, modules, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
