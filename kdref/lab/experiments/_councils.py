"""How much each of several teachers counts for each image, in lesson 06: a way to weigh them by its name.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdref.lab.data import Split
from kdref.multi_teacher import confidence_weights, entropy_weights


def weights_of(how: str, said: Sequence[Mapping[str, Tensor]], split: Split) -> Tensor:
    """Weights (K, N) for the training images, of K teachers' logits on the parts of the split."""
    z = torch.stack([logits["train"] for logits in said])
    if how == "entropy":
        return entropy_weights(z)
    if how == "confidence":
        return confidence_weights(z, split.train_y)
    if how == "trust from 50 labels":  # on images that no teacher was trained on
        new = torch.stack([logits["validation"][:50] for logits in said]).argmax(-1)
        above_chance = ((new == split.validation_y[:50]).float().mean(1) - 0.1).clamp(min=0)
        return (above_chance / above_chance.sum())[:, None].expand(z.shape[:2])
    return torch.full(z.shape[:2], 1 / len(z))  # equal
