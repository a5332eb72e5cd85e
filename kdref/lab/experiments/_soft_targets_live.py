"""The teacher of lesson 01's live experiments, once per seed, as section 1 trains it.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit


@functools.lru_cache(maxsize=8)
def digits_teacher(seed: int) -> nn.Module:
    """A perceptron with 300 hidden units that learned the labels of the seed's training digits for 30 epochs."""
    split = digits(seed)
    teacher = make("mlp-300", shape=split.shape, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(teacher(x), y)}

    batches = Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    fit(step, teacher, batches, optimizer, epochs=30, progress=False)
    return teacher
