"""One layer of self-attention that reads an image row by row, each row a token, and shows all it computes.

``nn.MultiheadAttention`` gives its attention, but neither the scores before the softmax nor the values, which methods
for transformers compare. Lesson: notebooks/04_attention_based.ipynb.
"""

import math

import torch
from torch import Tensor, nn

__all__ = ["RowTransformer"]


class RowTransformer(nn.Module):
    """Rows with a learnt position each, one attention layer with a residual, the mean over rows, a classifier.

    Args:
        shape: Of one image, ``(1, H, W)``: H tokens of W values.
        width: Features of a token, a multiple of the heads.
        heads: Number of attention heads.
        num_classes: Logits per image.
        seed: Draws the weights, leaving torch's global generator as it was.

    Raises:
        ValueError: If the width is not a multiple of the heads.

    Example:
        >>> shown = RowTransformer((1, 8, 8), width=16, heads=4, seed=0)(torch.zeros(2, 1, 8, 8))
        >>> {name: tuple(tensor.shape) for name, tensor in shown.items()}
        {'logits': (2, 10), 'scores': (2, 4, 8, 8), 'attention': (2, 4, 8, 8), 'values': (2, 4, 8, 4)}
    """

    def __init__(self, shape: tuple[int, ...], *, width: int, heads: int, num_classes: int = 10, seed: int = 0) -> None:
        """See the class."""
        super().__init__()
        if width % heads:
            raise ValueError(f"the width must be a multiple of the heads, got {width} and {heads}")
        self.heads = heads
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embed = nn.Linear(shape[2], width)
            self.position = nn.Parameter(0.5 * torch.randn(shape[1], width))
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images ``(B, 1, H, W)`` to logits, scores, attention and values, the last three head by head."""
        tokens, queries, keys, values = self.project(images)
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
        attention = scores.softmax(dim=-1)
        logits = self.answer(tokens, attention, values)
        return {"logits": logits, "scores": scores, "attention": attention, "values": values}

    def project(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images to tokens ``(B, H, width)``; to queries, keys, values ``(B, heads, H, width/heads)``."""
        tokens = self.embed(images.squeeze(1)) + self.position
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        return tokens, *parts

    def answer(self, tokens: Tensor, attention: Tensor, values: Tensor) -> Tensor:
        """Logits ``(B, C)`` from any attention ``(B, heads, H, H)``, the model's own or another."""
        mixed = self.out((attention @ values).transpose(1, 2).flatten(2))
        logits: Tensor = self.classifier((tokens + mixed).relu().mean(dim=1))
        return logits
