"""Text drawn from a small language model piece by piece, keeping what its layers have said of the pieces before.

Lesson: notebooks/19_writing_models.ipynb.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.models.causal_transformer import CausalTransformer

__all__ = ["write"]

CHUNK = 512  # rows drawn together


@torch.no_grad()
def write(
    model: CausalTransformer,
    count: int,
    *,
    seed: int,
    temperature: float = 1.0,
    end: int = 0,
    length: int | None = None,
) -> Tensor:
    """Rows of text drawn from a model that begins with the end token and says when it is done.

    The same as ``generate`` from a prompt of one end token, and several times as quick, since no piece is read twice.

    Args:
        model: In eval mode or not: it has no dropout.
        count: Rows to draw.
        seed: Draws the pieces.
        temperature: 1 draws as the model says, less is more sure, 0 takes the likeliest piece.
        end: The token that begins a row, ends it and pads it.
        length: Of a row, with the first token; as long as the model can read by default.

    Returns:
        Rows, shape ``(count, length)``, int64.

    Raises:
        ValueError: If the temperature is negative, nothing is to be written, or a row is longer than the model reads.

    Example:
        >>> rows = write(CausalTransformer(9, length=12, width=16, layers=1, seed=0), 3, seed=0)
        >>> rows.shape, rows[:, 0].tolist()
        (torch.Size([3, 12]), [0, 0, 0])
    """
    longest = len(model.position)
    length = longest if length is None else length
    if not 0 <= temperature < float("inf") or count < 1:
        raise ValueError(f"temperature must be at least 0 and count at least 1, got {temperature} and {count}")
    if not 2 <= length <= longest:
        raise ValueError(f"length must be from 2 to the {longest} tokens that this model reads, got {length}")
    generator = torch.Generator().manual_seed(seed)
    chunks = [min(CHUNK, count - begun) for begun in range(0, count, CHUNK)]
    return torch.cat([_rows(model, size, length, end, temperature, generator) for size in chunks])


def _rows(
    model: CausalTransformer, count: int, length: int, end: int, temperature: float, generator: torch.Generator
) -> Tensor:
    rows = torch.full((count, length), end)
    ended = torch.zeros(count, dtype=torch.bool)
    memory = [_Memory(block, count, length) for block in model.blocks]
    for place in range(length - 1):
        logits = _scores(model, rows[:, place], place, memory)
        if temperature == 0:
            drawn = logits.argmax(dim=-1)
        else:
            drawn = torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator).squeeze(-1)
        rows[:, place + 1] = drawn.masked_fill(ended, end)
        ended |= drawn == end
    return rows


def _scores(model: CausalTransformer, tokens: Tensor, place: int, memory: "list[_Memory]") -> Tensor:
    """Logits ``(B, V)`` of what follows the token at a place; the memory knows those before it."""
    hidden = model.embed(tokens) + model.position[place]
    for kept in memory:
        block = kept.block
        hidden = hidden + kept.attend(block.norm1(hidden), place)
        hidden = hidden + block.linear2(block.activation(block.linear1(block.norm2(hidden))))
    scores: Tensor = model.scores(model.norm(hidden))
    return scores


class _Memory:
    """Keys and values of one layer."""

    def __init__(self, block: nn.Module, count: int, length: int) -> None:
        assert isinstance(block, nn.TransformerEncoderLayer)
        self.block, attention = block, block.self_attn
        shape = (count, attention.num_heads, length, attention.head_dim)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def attend(self, hidden: Tensor, place: int) -> Tensor:
        """What the attention adds at a place, ``(B, D)``."""
        attention = self.block.self_attn
        mixed = F.linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = mixed.unflatten(-1, (3, attention.num_heads, -1)).unbind(dim=1)
        self.keys[:, :, place], self.values[:, :, place] = key, value
        seen = F.scaled_dot_product_attention(
            query.unsqueeze(2), self.keys[:, :, : place + 1], self.values[:, :, : place + 1]
        )
        added: Tensor = attention.out_proj(seen.squeeze(2).flatten(1))
        return added
