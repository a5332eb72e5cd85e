"""CKA: its definition in loops, what it ignores, and what it does not."""

import math

import pytest
import torch
from torch import Tensor

from kdref.lab.training.similarity import cka, cka_table
from tests.lab.apple import on_apple


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(x: Tensor, y: Tensor) -> float:
    """The squared covariances of all pairs of features, over those of each side with itself (Kornblith et al. 2019)."""

    def squared_covariances(a: Tensor, b: Tensor) -> float:
        total = 0.0
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                mean_a, mean_b = (sum(v.tolist()) / len(v) for v in (a[:, i], b[:, j]))
                pairs = zip(a[:, i].tolist(), b[:, j].tolist(), strict=True)
                total += sum((p - mean_a) * (q - mean_b) for p, q in pairs) ** 2
        return total

    return squared_covariances(x, y) / math.sqrt(squared_covariances(x, x) * squared_covariances(y, y))


def test_equals_its_definition_by_features_in_loops() -> None:
    x, y = features(7, 3), features(7, 5, seed=1)
    y[:, :2] += x[:, :2]
    assert cka(x, y) == pytest.approx(by_loops(x, y), abs=1e-12)


def test_worked_by_hand() -> None:
    # one feature each: the squared correlation. x: -1, 0, 1; y: -1, 1, 0 after centring; covariance 1, norms √2 and √2
    assert cka(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])) == pytest.approx(0.25)


def test_ignores_rotation_shift_and_scale_but_not_a_general_linear_map() -> None:
    x = features(20, 4)
    rotation = torch.linalg.qr(features(4, 4, seed=1))[0]
    assert cka(x, 7 * x @ rotation + 100) == pytest.approx(1, abs=1e-12)
    assert cka(x, x @ torch.diag(torch.tensor([1, 10, 100, 1000], dtype=torch.float64))) < 0.9


def test_is_symmetric_and_between_zero_and_one() -> None:
    x, y = features(9, 2, 3), features(9, 5, seed=1)
    assert cka(x, y) == pytest.approx(cka(y, x), abs=1e-12)
    assert 0 <= cka(x, y) <= 1
    assert cka(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])) == 0


def test_order_of_examples_matters() -> None:
    x = features(20, 4)
    assert cka(x, x.flip(0)) < 0.9


def test_constant_features_are_like_nothing() -> None:
    assert cka(torch.ones(4, 2), features(4, 2)) == 0


def test_float32_far_from_zero_is_precise() -> None:
    x, y = features(30, 4), features(30, 4, seed=1)
    assert cka((x + 1000).float(), (y + 1000).float()) == pytest.approx(cka(x, y), abs=1e-4)


def test_two_examples_lie_on_a_line_so_all_features_of_them_are_alike() -> None:
    assert cka(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0, 1.0], [3.0, -7.0]])) == pytest.approx(1)
    assert cka(torch.tensor([[0.0], [1.0]]), torch.ones(2, 3)) == 0


def test_an_apple_needs_no_float64() -> None:
    x, y = features(9, 4).float(), features(9, 3, seed=1).float()
    assert cka(on_apple(x), on_apple(y)) == cka(x, y)
    assert cka_table({"a": on_apple(x)}, {"b": on_apple(y)}).loc["a", "b"] == cka(x, y)


def test_takes_no_gradient() -> None:
    assert isinstance(cka(features(4, 2).requires_grad_(), features(4, 2)), float)


@pytest.mark.parametrize("sizes", [(3, 4), (1, 1)])
def test_refuses_other_examples_or_too_few(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"two or more, got {sizes[0]} and {sizes[1]}"):
        cka(*(torch.zeros(size, 2) for size in sizes))


def test_table_has_rows_of_the_first_and_columns_of_the_second() -> None:
    x, y = features(9, 4), features(9, 3, seed=1)
    table = cka_table({"a": x, "b": y}, {"c": y})
    assert (list(table.index), list(table.columns)) == (["a", "b"], ["c"])
    assert table.loc["b", "c"] == pytest.approx(1)
    assert table.loc["a", "c"] == pytest.approx(cka(x, y))
