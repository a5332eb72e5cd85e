"""The small language model looks back only, and text is drawn from it as it says."""

import pytest
import torch
from torch import Tensor

from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end

TOKENS = torch.randint(9, (4, 10), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("training", [True, False])
def test_no_position_sees_what_comes_after_it(training: bool) -> None:
    model = CausalTransformer(9, length=12, width=16, layers=2, heads=2, seed=1).train(training)
    with torch.no_grad():
        whole = model(TOKENS)
        assert whole.shape == (4, 10, 9)
        for length in (1, 4, 9):
            torch.testing.assert_close(model(TOKENS[:, :length]), whole[:, :length])
        other = TOKENS.clone()
        other[:, 6] = (other[:, 6] + 1) % 9
        changed = (model(other) - whole).abs().amax(dim=(0, 2)) > 1e-4
    assert changed.tolist() == [False] * 6 + [True] * 4


def test_positions_are_told_apart() -> None:
    model = CausalTransformer(9, length=12, width=16, layers=1, heads=2, seed=1)
    with torch.no_grad():
        logits = model(torch.zeros(1, 5, dtype=torch.int64))[0]
    assert (logits[0] - logits[4]).abs().max() > 1e-2


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, again, other = (CausalTransformer(9, length=4, width=8, heads=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.scores.weight, again.scores.weight)
    assert not torch.equal(first.scores.weight, other.scores.weight)
    layers = [block.linear1.weight for block in first.blocks]
    assert not torch.equal(*layers)


def fixed(tokens: Tensor) -> Tensor:
    """Token 0 with ¾, token 1 with ¼."""
    return torch.tensor([3.0, 1.0]).log().expand(*tokens.shape, 2)


def test_tokens_are_drawn_as_the_model_says_at_any_temperature() -> None:
    prompts = torch.zeros(20_000, 1, dtype=torch.int64)
    for temperature, expected in ((1.0, 0.25), (0.5, 0.1), (0.0, 0.0)):
        drawn = generate(
            fixed, prompts, max_new_tokens=1, end=9, temperature=temperature, generator=torch.Generator().manual_seed(0)
        )
        assert abs(drawn.double().mean().item() - expected) < 5 * (expected * (1 - expected) / 20_000) ** 0.5 + 1e-12


def test_after_the_end_there_is_only_the_end() -> None:
    drawn = generate(
        fixed,
        torch.zeros(500, 2, dtype=torch.int64),
        max_new_tokens=8,
        end=1,
        generator=torch.Generator().manual_seed(1),
    )
    written = up_to_end(drawn, end=1)
    assert (drawn[~written] == 1).all()
    assert torch.equal(written.sum(dim=1), (drawn == 0).sum(dim=1) + (drawn == 1).any(dim=1).long())
    assert written.sum(dim=1).unique().tolist() == list(range(1, 9))


def test_bad_input_is_named() -> None:
    for options in ({"temperature": -1.0, "max_new_tokens": 1}, {"temperature": 1.0, "max_new_tokens": 0}):
        with pytest.raises(ValueError, match="temperature must be at least 0 and max_new_tokens at least 1"):
            generate(fixed, TOKENS, end=9, **options)
