"""What the live experiments of lesson 06 share: training on labels, and the weights of teachers by a way's name.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.multi_teacher import confidence_weights, entropy_weights


def fitted(net: nn.Module, x: Tensor, y: Tensor, *, batch_size: int, epochs: int, seed: int) -> nn.Module:
    """Train a network on labels, by cross-entropy; the seed gives the order. Returns the network."""

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(net(batch[0]), batch[1])}

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    fit(step, net, Batches(x, y, batch_size=batch_size, seed=seed), optimizer, epochs=epochs, progress=False)
    return net


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
