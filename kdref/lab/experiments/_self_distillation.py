"""What the live experiments of lesson 08 share: partners of the same class, and two views of an image.

Lesson: notebooks/08_self_distillation.ipynb.
"""

import torch
from torch import Tensor


def mates(y: Tensor) -> Tensor:
    """For each example another of its class in the batch; itself, where there is no other."""
    same = (y[:, None] == y).float()
    others = same - torch.eye(len(y))
    return torch.where(others.sum(1, keepdim=True) > 0, others, same).multinomial(1)[:, 0]


def two_views(images: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The images (B, C, H, W) moved by at most a pixel and noised, twice."""
    moves = torch.randint(-1, 2, (2, 2), generator=generator).tolist()
    return [images.roll(move, (2, 3)) + 0.3 * torch.randn(images.shape, generator=generator) for move in moves]
