"""A teacher and data for ``python -m kdref.lab.store_teacher``, as a user's own module names them.

The teacher is untrained: how its outputs are kept does not hang on what they say.
Lesson: notebooks/17_scale_out.ipynb.
"""

import os

from torch import Tensor, nn
from torch.utils.data import Dataset

from kdref.lab import data
from kdref.lab.models import make


def teacher(seed: int = 2, *, words: int = 2000) -> nn.Module:
    """A network with as many outputs as a small vocabulary has words."""
    return make("mlp-100", num_classes=words, shape=(1, 8, 8), seed=seed)


def images() -> Tensor:
    """1,000 digits."""
    return data.digits(0).train_x


class Examples(Dataset[Tensor]):
    """Tensors by number; the process dies, as in a power cut, when one of them is read for the second time."""

    def __init__(self, tensors: Tensor, deadly: int | None) -> None:
        """See the class."""
        self.tensors, self.deadly, self.read = tensors, deadly, 0

    def __len__(self) -> int:
        """How many."""
        return len(self.tensors)

    def __getitem__(self, index: int) -> Tensor:
        """One of them; each is read once beforehand, for the hash."""
        if index == self.deadly:
            self.read += 1
            if self.read == 2:
                os._exit(1)
        return self.tensors[index]


def examples() -> Examples:
    """The digits, one by one."""
    return Examples(images(), deadly=None)


def examples_until_a_power_cut() -> Examples:
    """The same, but the process that runs the teacher on number 600 dies of it."""
    return Examples(images(), deadly=600)
