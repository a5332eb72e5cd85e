"""Pruning: importance in plain loops, and cuts of parts that do nothing leave what a model says."""

import functools

import pytest
import torch
from torch import nn

from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.lab.models.pruning import Importance, cut, importance, shuffled

TOKENS = torch.randint(9, (6, 10), generator=torch.Generator().manual_seed(0))
WIDTH, HEADS, LAYERS = 16, 4, 3


def model(seed: int = 1) -> CausalTransformer:
    made = CausalTransformer(9, length=12, width=WIDTH, layers=LAYERS, heads=HEADS, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def everything() -> Importance:
    """Scores that rank parts by their number."""
    return Importance(
        torch.arange(float(LAYERS)),
        torch.arange(float(HEADS)).repeat(LAYERS, 1),
        torch.arange(4.0 * WIDTH).repeat(LAYERS, 1),
        torch.arange(float(WIDTH)),
    )


def test_a_cut_that_keeps_everything_says_the_same() -> None:
    same = cut(model(), everything(), width=WIDTH, layers=LAYERS)
    with torch.no_grad():
        torch.testing.assert_close(same(TOKENS), model()(TOKENS))
    assert not same.training


def test_a_layer_that_adds_nothing_is_least_important_and_can_go() -> None:
    idle = model()
    with torch.no_grad():
        for linear in (idle.blocks[1].self_attn.out_proj, idle.blocks[1].linear2):
            linear.weight.zero_()
            linear.bias.zero_()
    scores = importance(idle, TOKENS)
    assert scores.layers.argmin() == 1
    assert scores.layers[1].abs() < 1e-6
    with torch.no_grad():
        torch.testing.assert_close(cut(idle, scores, width=WIDTH, layers=2)(TOKENS), idle(TOKENS))


def test_heads_neurons_and_channels_that_say_nothing_can_go() -> None:
    half, idle = WIDTH // 2, model()
    dead = torch.arange(WIDTH) >= half
    with torch.no_grad():
        for weights in (idle.embed.weight, idle.position):
            weights[:, dead] = 0
        for block in idle.blocks:
            values = block.self_attn.in_proj_weight[2 * WIDTH :]
            values[half:] = 0  # the last two heads
            block.self_attn.in_proj_bias[2 * WIDTH + half :] = 0
            block.linear1.weight[: 2 * WIDTH] = 0  # the first half of the neurons
            block.linear1.bias[: 2 * WIDTH] = 0
            for linear in (block.self_attn.out_proj, block.linear2):
                linear.weight[dead] = 0
                linear.bias[dead] = 0
        for norm in [part for part in idle.modules() if isinstance(part, nn.LayerNorm)]:
            norm.weight[dead] = 0
            norm.bias[dead] = 0
    scores = importance(idle, TOKENS)
    assert scores.heads.argsort(dim=1)[:, :2].sort().values.tolist() == [[2, 3]] * LAYERS
    assert (scores.neurons[:, : 2 * WIDTH] == 0).all()
    assert scores.channels.topk(half).indices.sort().values.tolist() == list(range(half))
    smaller = cut(idle, scores, width=half, layers=LAYERS)
    # With half of the channels at zero the wide normalisation sees another mean and spread: the small one shall too
    for norm in [part for part in smaller.modules() if isinstance(part, nn.LayerNorm)]:
        norm.forward = functools.partial(wide_norm, norm)
    with torch.no_grad():  # in train mode, or a quick path goes round the new normalisation
        torch.testing.assert_close(smaller.train()(TOKENS), idle(TOKENS))


def wide_norm(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    wide = nn.functional.layer_norm(torch.cat([x, torch.zeros_like(x)], dim=-1), (WIDTH,))
    return wide[..., : x.shape[-1]] * norm.weight + norm.bias


def test_importance_is_its_definition() -> None:
    made, seen = model(), importance(model(), TOKENS)
    future = nn.Transformer.generate_square_subsequent_mask(TOKENS.shape[1])
    with torch.no_grad():
        hidden, sizes = made.embed(TOKENS) + made.position[: TOKENS.shape[1]], []
        for number, block in enumerate(made.blocks):
            out, read = block(hidden, src_mask=future, is_causal=True), block.norm1(hidden)
            cosine = nn.functional.cosine_similarity(hidden, out, dim=-1).mean()
            assert seen.layers[number].item() == pytest.approx(1 - cosine.item(), abs=1e-5)
            attention = block.self_attn
            lengths = []
            for head in range(HEADS):
                part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                query, key, value = (
                    read @ weight[part].T + bias[part]
                    for weight, bias in zip(
                        attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
                    )
                )
                weights = (query @ key.mT / (WIDTH // HEADS) ** 0.5 + future).softmax(-1)
                lengths.append((weights @ value).norm(dim=-1).mean())
            torch.testing.assert_close(seen.heads[number], torch.stack(lengths))
            middle = hidden + attention(read, read, read, attn_mask=future)[0]
            again = block.norm2(middle)
            fired = nn.functional.gelu(block.linear1(again))
            torch.testing.assert_close(seen.neurons[number], fired.abs().mean(dim=(0, 1)))
            sizes += [read.abs().mean(dim=(0, 1)), again.abs().mean(dim=(0, 1))]
            hidden = out
        sizes.append(made.norm(hidden).abs().mean(dim=(0, 1)))
        torch.testing.assert_close(seen.channels, sum(sizes) / len(sizes))


def test_what_is_kept_stands_in_its_old_order_with_its_old_weights() -> None:
    whole = model()
    smaller = cut(whole, everything(), width=8, layers=2)
    channels, neurons = torch.arange(8, 16), torch.arange(32, 64)
    assert torch.equal(smaller.embed.weight, whole.embed.weight[:, 8:])
    for ours, theirs in zip(smaller.blocks, whole.blocks[1:], strict=True):
        assert ours.self_attn.num_heads == 2
        assert torch.equal(ours.linear1.weight, theirs.linear1.weight[neurons][:, channels])
        for part in range(3):
            kept = theirs.self_attn.in_proj_weight[part * 16 + 8 : part * 16 + 16, 8:]
            assert torch.equal(ours.self_attn.in_proj_weight[part * 8 : part * 8 + 8], kept)
    before = whole.embed.weight.clone()
    with torch.no_grad():
        smaller.embed.weight.zero_()
    assert torch.equal(whole.embed.weight, before)


def test_random_scores_follow_their_seed_and_have_the_shapes_of_the_others() -> None:
    scores = importance(model(), TOKENS)
    one, again, other = (shuffled(scores, seed=seed) for seed in (0, 0, 1))
    assert [part.shape for part in one] == [part.shape for part in scores]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.channels, other.channels)


@pytest.mark.parametrize(("width", "layers"), [(6, 1), (20, 1), (0, 1), (8, 4), (8, 0)])
def test_cuts_that_cannot_be_are_named(width: int, layers: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4, the head's size, up to 16, and layers from 1 to 3; got"):
        cut(model(), everything(), width=width, layers=layers)
