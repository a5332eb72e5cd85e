"""Students of an embedding teacher by losses over pairs, on whole batches and on batches that processes share.

W processes that gather nothing minimise the mean of their local losses. That is computed here by one process; a test
compares it with processes. Teacher, data and measure are lesson 05's (``_relation_retrieval``). The student has no
BatchNorm, which would normalise each share by itself: so that the loss alone differs.

Lesson: notebooks/17_scale_out.ipynb.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.experiments._relation_retrieval import LOSSES, TEACHER_WIDTH, WIDTH, embedded, measured, search, teacher
from kdref.lab.models import cnn1d
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit

GLOBAL_SIZE, EPOCHS = 32, 8


class Settings(NamedTuple):
    """What is tuned."""

    rate: float = 0.01
    temperature: float = 0.1


def mean_of_shares(loss: Callable[..., Tensor], shares: int, *parts: Tensor) -> Tensor:
    """What so many processes minimise together that gather nothing: the mean of their local losses."""
    cut = zip(*(part.chunk(shares) for part in parts), strict=True)
    return torch.stack([loss(*own) for own in cut]).mean()


def networks(seed: int) -> tuple[nn.Module, nn.Linear]:
    """The student, and the head for InfoNCE, thrown away afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(100 + seed)
        return cnn1d(WIDTH, channels=16, batch_norm=False), nn.Linear(WIDTH, TEACHER_WIDTH)


def taught(name: str, shares: int, settings: Settings, *, seed: int, tuning: bool = False) -> dict[str, float]:
    """Train a student by one loss on batches of 32, cut into so many shares, and measure it on new classes."""
    found, (student, head) = search(seed, tuning=tuning), networks(seed)

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return LOSSES[name](s, t, y, head, settings.temperature)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, t = batch
        return {"loss": mean_of_shares(loss, shares, F.normalize(student(x), dim=1), t, y)}

    batches = Batches(found.x, found.y, embedded(teacher(seed), found.x), batch_size=GLOBAL_SIZE, seed=seed)
    trained = nn.ModuleList([student, head])
    optimizer = torch.optim.Adam(trained.parameters(), lr=settings.rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    fit(step, trained, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
    return measured(embedded(student, found.new_x), embedded(student, found.x), found)
