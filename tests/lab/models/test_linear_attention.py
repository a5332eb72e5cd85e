"""Linear attention is what its formula says, and the matrix that it need not build gives the same output."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.models.linear_attention import LinearAttention
from kdref.lab.models.row_transformer import RowTransformer
from tests import checks

QUERIES, KEYS, VALUES = (checks.randn(2, 3, 5, 4, seed=seed) for seed in (1, 2, 3))


def model() -> LinearAttention:
    return LinearAttention(3, 4, features=6, seed=1).double()


def test_rows_match_the_definition() -> None:
    linear = model()

    def phi(head: int, x: list[float]) -> list[float]:
        weight = linear.weight[head].tolist()
        z = [sum(x[d] * weight[d][f] for d in range(4)) for f in range(6)]
        halves = [math.exp(value) for value in z], [math.exp(-value) for value in z]
        return [power / sum(half) for half in halves for power in half]

    found = linear(QUERIES, KEYS)
    for example, head, row in ((0, 0, 0), (1, 2, 4), (0, 1, 3)):
        q = phi(head, QUERIES[example, head, row].tolist())
        keys = [phi(head, key) for key in KEYS[example, head].tolist()]
        products = [sum(a * b for a, b in zip(q, k, strict=True)) for k in keys]
        expected = torch.tensor([product / sum(products) for product in products], dtype=torch.float64)
        assert_close(found[example, head, row], expected)


def test_mixing_without_the_matrix_is_mixing_with_it() -> None:
    linear = model()
    assert_close(linear.mix(QUERIES, KEYS, VALUES), linear(QUERIES, KEYS) @ VALUES)


def test_rows_are_probabilities() -> None:
    linear = LinearAttention(3, 4, features=6)
    rows = linear(10 * QUERIES.float(), 10 * KEYS.float())
    assert (rows >= 0).all()
    assert_close(rows.sum(dim=-1), torch.ones(2, 3, 5))


def test_without_weights_every_token_gets_the_same_share() -> None:
    linear = model()
    torch.nn.init.zeros_(linear.weight)
    assert_close(linear(QUERIES, KEYS), torch.full((2, 3, 5, 5), 0.2, dtype=torch.float64))


def test_heads_have_weights_of_their_own_and_a_seed_gives_the_same() -> None:
    assert torch.equal(
        LinearAttention(2, 4, features=3, seed=5).weight, LinearAttention(2, 4, features=3, seed=5).weight
    )
    weight = LinearAttention(2, 4, features=3, seed=5).weight
    assert not torch.equal(weight[0], weight[1])


@pytest.mark.parametrize("width", [8, 16])
def test_a_transformer_answers_with_its_own_attention_as_it_always_does(width: int) -> None:
    network = RowTransformer((1, 8, 8), width=width, heads=4, seed=0)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens, queries, keys, values = network.project(images)
    shown = network(images)
    assert_close(network.answer(tokens, shown["attention"], values), shown["logits"])
    assert_close((queries @ keys.mT / math.sqrt(width / 4)), shown["scores"])
