"""Attention whose matrix is a product of features, so that it need never be built.

The feature map is that of Zhang et al. 2024 (https://arxiv.org/abs/2402.04347), which LoLCATs uses, one for each head.
Queries and keys of some hundreds make features that share nothing, and 0/0.

Lesson: notebooks/04_attention_based.ipynb.
"""

import torch
from torch import Tensor, nn

__all__ = ["LinearAttention"]


class LinearAttention(nn.Module):
    """Attention rows φ(q)·φ(k), divided by their sum, with a learnt feature map φ(x) = [softmax(Wx), softmax(-Wx)].

    Args:
        heads: Number of attention heads, A.
        width: Features of one head, D.
        features: Half the length of φ.
        seed: Draws the weights, leaving torch's global generator as it was.

    Example:
        >>> LinearAttention(4, 8, features=8)(torch.zeros(2, 4, 3, 8), torch.zeros(2, 4, 3, 8))[0, 0, 0]
        tensor([0.3333, 0.3333, 0.3333], grad_fn=<SelectBackward0>)
    """

    def __init__(self, heads: int, width: int, *, features: int, seed: int = 0) -> None:
        """See the class."""
        super().__init__()
        drawn = torch.randn(heads, width, features, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(drawn / width**0.5)

    def phi(self, x: Tensor) -> Tensor:
        """Features, all positive: ``(B, A, L, D)`` to ``(B, A, L, 2 * features)``."""
        z = x @ self.weight
        return torch.cat([z.softmax(dim=-1), (-z).softmax(dim=-1)], dim=-1)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The L × L matrix, which is built here only to be compared."""
        products = self.phi(queries) @ self.phi(keys).mT
        return products / products.sum(dim=-1, keepdim=True)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same rows times the values, in time and memory that grow with L, not with its square."""
        q, k = self.phi(queries), self.phi(keys)
        result: Tensor = (q @ (k.mT @ values)) / (q @ k.sum(dim=-2).unsqueeze(-1))
        return result
