"""Cut a small language model by importance: layers, heads, neurons, channels, as Minitron does before it distils.

Source: Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", NeurIPS 2024,
https://arxiv.org/abs/2407.14679. Lesson: notebooks/19_writing_models.ipynb.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.models.causal_transformer import CausalTransformer

__all__ = ["Importance", "cut", "importance", "shuffled"]


class Importance(NamedTuple):
    """How much each part of a model does on some text; more is more important."""

    layers: Tensor  # (layers,): one minus the cosine of what comes in and what goes out
    heads: Tensor  # (layers, heads): mean length of what a head hands on
    neurons: Tensor  # (layers, neurons): mean size of what a neuron hands on
    channels: Tensor  # (width,): mean size after a normalisation, over all of them


@torch.no_grad()
def importance(model: CausalTransformer, tokens: Tensor) -> Importance:
    """Measure the parts of a model by what they hand on as it reads some text; no gradient is needed.

    Args:
        model: Not changed.
        tokens: A few hundred rows, shape ``(B, L)``, int64.

    Returns:
        A score of every part.

    Example:
        >>> model = CausalTransformer(9, length=12, width=16, layers=2, heads=4, seed=0)
        >>> [tuple(scores.shape) for scores in importance(model, torch.zeros(2, 5, dtype=torch.int64))]
        [(2,), (2, 4), (2, 64), (16,)]
    """
    layers, heads, neurons, channels = [], [], [], []
    hidden = model.embed(tokens) + model.position[: tokens.shape[1]]
    for block in _blocks(model):
        came, read = hidden, block.norm1(hidden)
        taken = _attended(block.self_attn, read)  # (B, heads, L, D)
        hidden = hidden + block.self_attn.out_proj(taken.transpose(1, 2).flatten(2))
        read_again = block.norm2(hidden)
        fired = block.activation(block.linear1(read_again))
        hidden = hidden + block.linear2(fired)
        layers.append(1 - F.cosine_similarity(came, hidden, dim=-1).mean())
        heads.append(taken.norm(dim=-1).mean(dim=(0, 2)))
        neurons.append(fired.abs().mean(dim=(0, 1)))
        channels += [read.abs().mean(dim=(0, 1)), read_again.abs().mean(dim=(0, 1))]
    channels.append(model.norm(hidden).abs().mean(dim=(0, 1)))
    return Importance(torch.stack(layers), torch.stack(heads), torch.stack(neurons), torch.stack(channels).mean(dim=0))


def shuffled(scores: Importance, *, seed: int) -> Importance:
    """Scores drawn at random instead: a cut by these is the control."""
    generator = torch.Generator().manual_seed(seed)
    return Importance(*(torch.rand(part.shape, generator=generator) for part in scores))


@torch.no_grad()
def cut(model: CausalTransformer, scores: Importance, *, width: int, layers: int) -> CausalTransformer:
    """A smaller model of the most important parts, in their old order, with the weights that they had.

    Heads keep their size, so there are as many as the width has room for; each layer keeps four neurons a channel.

    Args:
        model: Not changed.
        scores: Of its parts.
        width: Channels to keep, a multiple of the head's size.
        layers: Layers to keep.

    Returns:
        The smaller model, with weights of its own.

    Raises:
        ValueError: If more is to be kept than there is, or the width is no multiple of the head's size.

    Example:
        >>> model = CausalTransformer(9, length=12, width=16, layers=2, heads=4, seed=0)
        >>> scores = importance(model, torch.zeros(2, 5, dtype=torch.int64))
        >>> cut(model, scores, width=8, layers=1)(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 9])
    """
    (count, heads), size = scores.heads.shape, len(scores.channels) // scores.heads.shape[1]
    if not 1 <= layers <= count or not size <= width <= size * heads or width % size:
        raise ValueError(
            f"width must be a multiple of {size}, the head's size, up to {size * heads}, and layers from 1 to {count}; "
            f"got {width} and {layers}"
        )
    smaller = CausalTransformer(
        model.embed.num_embeddings, length=len(model.position), width=width, layers=layers, heads=width // size
    )
    channels = _best(scores.channels, width)
    state = smaller.state_dict()
    for name in ("embed.weight", "position", "scores.weight"):
        state[name].copy_(model.get_parameter(name)[:, channels])
    state["scores.bias"].copy_(model.scores.bias)
    _norm(smaller.norm, model.norm, channels)
    for ours, number in zip(_blocks(smaller), _best(scores.layers, layers).tolist(), strict=True):
        theirs = _blocks(model)[number]
        dims = (_best(scores.heads[number], width // size)[:, None] * size + torch.arange(size)).flatten()
        neurons = _best(scores.neurons[number], 4 * width)
        _attention(ours.self_attn, theirs.self_attn, channels, dims)
        _linear(ours.linear1, theirs.linear1, neurons, channels)
        _linear(ours.linear2, theirs.linear2, channels, neurons)
        for own, other in ((ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2)):
            _norm(own, other, channels)
    return smaller.train(model.training)


def _blocks(model: CausalTransformer) -> list[nn.TransformerEncoderLayer]:
    return [block for block in model.blocks if isinstance(block, nn.TransformerEncoderLayer)]


def _attended(attention: nn.MultiheadAttention, read: Tensor) -> Tensor:
    """What each head hands on, before the heads are mixed."""
    mixed = F.linear(read, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = mixed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def _best(scores: Tensor, count: int) -> Tensor:
    """Numbers of the highest scores, in ascending order."""
    return scores.topk(count).indices.sort().values


def _attention(ours: nn.MultiheadAttention, theirs: nn.MultiheadAttention, channels: Tensor, dims: Tensor) -> None:
    whole = theirs.embed_dim
    rows = torch.cat([part * whole + dims for part in range(3)])  # queries, keys, values lie below each other
    ours.in_proj_weight.copy_(theirs.in_proj_weight[rows][:, channels])
    ours.in_proj_bias.copy_(theirs.in_proj_bias[rows])
    _linear(ours.out_proj, theirs.out_proj, channels, dims)


def _linear(ours: nn.Linear, theirs: nn.Linear, outputs: Tensor, inputs: Tensor) -> None:
    ours.weight.copy_(theirs.weight[outputs][:, inputs])
    ours.bias.copy_(theirs.bias[outputs])


def _norm(ours: nn.LayerNorm, theirs: nn.LayerNorm, channels: Tensor) -> None:
    ours.weight.copy_(theirs.weight[channels])
    ours.bias.copy_(theirs.bias[channels])
