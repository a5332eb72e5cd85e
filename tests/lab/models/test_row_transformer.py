"""The transformer of lesson 04 computes what PyTorch's own attention does, and shows it."""

import pytest
import torch
from torch import nn

from kdref.lab.models.row_transformer import RowTransformer


def test_attention_and_logits_are_those_of_the_module_of_pytorch() -> None:
    model = RowTransformer((1, 8, 6), width=12, heads=3, seed=3).double()
    oracle = nn.MultiheadAttention(12, 3, batch_first=True).double()
    oracle.load_state_dict(
        {
            "in_proj_weight": model.qkv.weight,
            "in_proj_bias": model.qkv.bias,
            "out_proj.weight": model.out.weight,
            "out_proj.bias": model.out.bias,
        }
    )
    images = torch.randn(5, 1, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = model.embed(images[:, 0]) + model.position
    mixed, attention = oracle(tokens, tokens, tokens, average_attn_weights=False)
    shown = model(images)
    torch.testing.assert_close(shown["attention"], attention, rtol=0, atol=1e-12)
    torch.testing.assert_close(shown["scores"].softmax(-1), attention, rtol=0, atol=1e-12)
    logits = model.classifier((tokens + mixed).relu().mean(1))
    torch.testing.assert_close(shown["logits"], logits, rtol=0, atol=1e-12)
    joined = (shown["attention"] @ shown["values"]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(model.out(joined), mixed, rtol=0, atol=1e-12)


def test_the_order_of_rows_matters() -> None:
    model = RowTransformer((1, 4, 4), width=8, heads=2, seed=0)
    images = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(model(images)["logits"], model(images.flip(2))["logits"], atol=1e-3)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (RowTransformer((1, 8, 8), width=8, heads=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.qkv.weight, again.qkv.weight)
    assert not torch.equal(first.qkv.weight, other.qkv.weight)


def test_refuses_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="multiple of the heads, got 10 and 4"):
        RowTransformer((1, 8, 8), width=10, heads=4)
