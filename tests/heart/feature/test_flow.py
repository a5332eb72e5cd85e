"""Flow matrices and neuron selectivity, checked against FSP and NST and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.feature import fsp_loss, fsp_matrix, neuron_selectivity_loss
from tests import checks

FIRST, SECOND = checks.randn(3, 2, 4, 5, seed=1), checks.randn(3, 6, 4, 5, seed=2)
OTHER_FIRST, OTHER_SECOND = checks.randn(3, 2, 3, 3, seed=3), checks.randn(3, 6, 3, 3, seed=4)
# few places and many channels, and the other way round
WAYS = {"few places": ((2, 7, 2, 3), (2, 9, 2, 3)), "few channels": ((2, 3, 5, 6), (2, 2, 5, 6))}


def maps_for(way: str, seed: int = 5, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    student, teacher = WAYS[way]
    return checks.randn(*student, seed=seed) + mean, checks.randn(*teacher, seed=seed + 1) + mean


def rows(maps: Tensor) -> list[list[float]]:
    """One example's channels as lists."""
    return maps.flatten(1).tolist()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def oracle_fsp(first: Tensor, second: Tensor) -> Tensor:
    places = first[0, 0].numel()
    pairs = zip(map(rows, first), map(rows, second), strict=True)
    return torch.tensor([[[dot(a, b) / places for b in two] for a in one] for one, two in pairs], dtype=torch.float64)


def oracle_mmd(student: Tensor, teacher: Tensor) -> float:
    """The paper's squared MMD with the kernel (xᵀy)², pair of channels by pair of channels."""

    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(dot(row, row))
        return [x / length if length else 0.0 for x in row]

    def kernel(one: list[list[float]], other: list[list[float]]) -> float:
        return sum(dot(a, b) ** 2 for a in one for b in other) / (len(one) * len(other))

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        s_rows, t_rows = [unit(row) for row in rows(s)], [unit(row) for row in rows(t)]
        total += kernel(s_rows, s_rows) + kernel(t_rows, t_rows) - 2 * kernel(s_rows, t_rows)
    return total / len(student)


def test_fsp_matrix_matches_the_definition() -> None:
    assert_close(fsp_matrix(FIRST, SECOND), oracle_fsp(FIRST, SECOND))


def test_fsp_loss_matches_the_definition_also_where_sizes_differ() -> None:
    gaps = (oracle_fsp(FIRST, SECOND) - oracle_fsp(OTHER_FIRST, OTHER_SECOND)).flatten().tolist()
    loss = fsp_loss((FIRST, SECOND), (OTHER_FIRST, OTHER_SECOND))
    assert loss.item() == pytest.approx(sum(gap**2 for gap in gaps) / len(gaps), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_neuron_selectivity_is_the_mmd_of_the_channels(way: str) -> None:
    student, teacher = maps_for(way)
    assert neuron_selectivity_loss(student, teacher).item() == pytest.approx(oracle_mmd(student, teacher), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_neuron_selectivity_is_a_distance_of_gram_matrices(way: str) -> None:
    def gram(maps: Tensor) -> Tensor:
        unit = maps.flatten(2) / maps.flatten(2).norm(dim=2, keepdim=True)
        return torch.einsum("bci,bcj->bij", unit, unit) / maps.shape[1]

    student, teacher = maps_for(way)
    expected = (gram(student) - gram(teacher)).square().sum() / len(student)
    assert_close(neuron_selectivity_loss(student, teacher), expected)


def test_known_values() -> None:
    # (1·3 + 2·4)/2 = 5.5 and (1·1 + 2·0)/2 = 0.5
    first, second = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    assert_close(fsp_matrix(first, second), torch.tensor([[[5.5, 0.5]]]))
    # a second map of zeros gives 0: (5.5² + 0.5²) / 2
    assert fsp_loss((first, second), (first, 0 * second)).item() == pytest.approx(15.25, rel=1e-6)
    # orthogonal patterns: 1 + 1 - 0 in each of two examples, and the mean of two is 2
    left, right = torch.tensor([[[5.0, 0.0]], [[0.0, 1.0]]]), torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]])
    assert neuron_selectivity_loss(left, right).item() == pytest.approx(2.0, rel=1e-6)


def test_a_larger_second_or_first_map_is_max_pooled() -> None:
    small, large = checks.randn(2, 3, 2, 2, seed=6), checks.randn(2, 4, 4, 6, seed=7)
    pooled = large.unflatten(3, (2, 3)).unflatten(2, (2, 2)).amax(dim=(3, 5))
    assert_close(fsp_matrix(small, large), oracle_fsp(small, pooled))
    assert_close(fsp_matrix(large, small), oracle_fsp(pooled, small))


def test_neuron_selectivity_averages_larger_maps_down() -> None:
    small, large = checks.randn(2, 3, 2, 4, seed=6), checks.randn(2, 4, 4, 8, seed=7)
    averaged = large.unflatten(3, (4, 2)).unflatten(2, (2, 2)).mean(dim=(3, 5))
    expected = oracle_mmd(small, averaged)
    assert neuron_selectivity_loss(small, large).item() == pytest.approx(expected, rel=1e-12)
    assert neuron_selectivity_loss(large, small).item() == pytest.approx(expected, rel=1e-12)
    tall, wide = checks.randn(2, 3, 4, 2, seed=8), checks.randn(2, 4, 2, 4, seed=9)  # each is the larger along one axis
    halves = (tall.unflatten(2, (2, 2)).mean(dim=3), wide.unflatten(3, (2, 2)).mean(dim=4))
    assert neuron_selectivity_loss(tall, wide).item() == pytest.approx(oracle_mmd(*halves), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_zero_where_they_agree_and_positive_elsewhere(way: str) -> None:
    student, teacher = maps_for(way)
    assert neuron_selectivity_loss(teacher, teacher) == 0
    assert 0 < neuron_selectivity_loss(student, teacher) <= 2
    assert fsp_loss((FIRST, SECOND), (FIRST, SECOND)) == 0
    assert fsp_loss((FIRST, SECOND), (OTHER_FIRST, OTHER_SECOND)) > 0


@pytest.mark.parametrize("way", WAYS)
@given(seed=st.integers(0, 10**6))
def test_channels_are_a_set_without_sign_or_scale(way: str, seed: int) -> None:
    student, teacher = maps_for(way, seed)
    plain = neuron_selectivity_loss(student, teacher)
    channels = student.shape[1]
    order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
    factors = checks.randn(2, channels, 1, 1, seed=seed + 2) + 1e-3
    assert_close(neuron_selectivity_loss(student[:, order] * factors, teacher), plain)
    assert_close(neuron_selectivity_loss(torch.cat([student, student], 1), teacher), plain)  # nor does a copy count
    assert not torch.isclose(neuron_selectivity_loss(student.flip(-1), teacher), plain)  # places do have an order
    assert not torch.isclose(neuron_selectivity_loss(student + 1, teacher), plain)  # and a level is part of a pattern


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_fsp_forgets_where_and_keeps_how_much(seed: int, scale: float) -> None:
    first, second = checks.randn(2, 3, 6, seed=seed), checks.randn(2, 4, 6, seed=seed + 1)
    matrix = fsp_matrix(first, second)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert_close(fsp_matrix(first[..., order], second[..., order]), matrix)
    assert_close(fsp_matrix(scale * first, second), scale * matrix)
    assert_close(fsp_matrix(second, first), matrix.mT)
    assert not torch.allclose(fsp_matrix(first.flip(1), second), matrix)  # channels do have an order


def test_signals_and_volumes_are_maps_too() -> None:
    for places in ((12,), (3, 4), (2, 2, 3)):
        first, second, third = (checks.randn(2, c, 12, seed=c).view(2, c, *places) for c in (2, 3, 4))
        assert_close(fsp_matrix(first, second), fsp_matrix(first.flatten(2), second.flatten(2)))
        flat = neuron_selectivity_loss(first.flatten(2), third.flatten(2))
        assert_close(neuron_selectivity_loss(first, third), flat)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda a, b: fsp_matrix(a, b), FIRST, SECOND, per_example=True)
    checks.check_batch_permutation(
        lambda a, b, c, d: fsp_loss((a, b), (c, d)), FIRST, SECOND, OTHER_FIRST, OTHER_SECOND, per_example=False
    )
    checks.check_batch_permutation(
        lambda s, t: neuron_selectivity_loss(s, t), FIRST, OTHER_SECOND[..., :3, :3], per_example=False
    )


def test_gradients_reach_the_student_only() -> None:
    for way in WAYS:
        checks.check_gradient(lambda s, t: neuron_selectivity_loss(s, t), *maps_for(way))
    checks.check_gradient(lambda a: fsp_matrix(a, SECOND), FIRST)
    checks.check_gradient(lambda a, c, d: fsp_loss((a, SECOND), (c, d)), FIRST, OTHER_FIRST, OTHER_SECOND)
    checks.check_gradient(lambda b, c, d: fsp_loss((FIRST, b), (c, d)), SECOND, OTHER_FIRST, OTHER_SECOND)
    checks.check_gradient(lambda a, c: fsp_loss((a, OTHER_SECOND), (c, OTHER_SECOND)), FIRST, OTHER_FIRST)  # pooled


def test_a_channel_of_zeros_stays_zero() -> None:
    student, teacher = maps_for("few places")
    student[:, 0], teacher[0, :4] = 0, 0
    assert neuron_selectivity_loss(student, teacher).item() == pytest.approx(oracle_mmd(student, teacher), rel=1e-12)
    silent = torch.zeros_like(student, requires_grad=True)
    neuron_selectivity_loss(silent, teacher).backward()
    assert silent.grad.abs().max() == 0


def test_far_from_zero_float64_is_exact() -> None:
    student, teacher = maps_for("few channels", mean=1000.0)
    assert neuron_selectivity_loss(student, teacher).item() == pytest.approx(oracle_mmd(student, teacher), rel=1e-6)
    first, second, other = (maps + 1000 for maps in (FIRST, SECOND, OTHER_FIRST))
    gaps = oracle_fsp(first, second) - oracle_fsp(other, OTHER_SECOND + 1000)
    loss = fsp_loss((first, second), (other, OTHER_SECOND + 1000))
    assert_close(loss, gaps.square().mean(), rtol=1e-9, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_of_all_channel_pairs_times_all_places_is_made() -> None:
    batch, channels, side = 2, 16, 6
    maps = [checks.randn(batch, channels, side, side, seed=s).requires_grad_() for s in (1, 2, 3, 4)]
    for loss in (lambda: neuron_selectivity_loss(*maps[:2]), lambda: fsp_loss((maps[0], maps[1]), (maps[2], maps[3]))):
        with LargestTensor() as largest:
            loss().backward()
        assert largest.elements <= batch * max(channels, side**2) * side**2


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"equal batches and channels, got \[\(3, 2, 4, 5\), .*HintRegressor.*neuron_sel"
    ):
        fsp_loss((FIRST, SECOND), (OTHER_FIRST, OTHER_FIRST))
    with pytest.raises(ValueError, match="equal batches and channels"):
        fsp_loss((FIRST, SECOND), (OTHER_FIRST[:2], OTHER_SECOND[:2]))
    with pytest.raises(
        ValueError, match=r"first and second maps need the same examples .* got \(3, 2, 4, 5\) and \(2, 6"
    ):
        fsp_matrix(FIRST, SECOND[:2])
    with pytest.raises(ValueError, match=r"student and teacher maps need the same examples and number of axes"):
        neuron_selectivity_loss(FIRST, SECOND.flatten(2))
    with pytest.raises(ValueError, match=r"the student maps must be .* got shape \(3, 2\): vectors .* hint_loss"):
        neuron_selectivity_loss(FIRST[..., 0, 0], SECOND[..., 0, 0])
    with pytest.raises(ValueError, match=r"the second maps must be .*not empty, got shape \(0, 6, 4, 5\)"):
        fsp_matrix(FIRST, SECOND[:0])
    with pytest.raises(TypeError, match=r"the teacher maps must be floating point, got torch\.int64"):
        neuron_selectivity_loss(FIRST, SECOND.long())


def test_compiles_to_one_graph() -> None:
    for way in WAYS:
        checks.check_compiles(lambda s, t: neuron_selectivity_loss(s, t), *maps_for(way))
    checks.check_compiles(lambda a, b, c, d: fsp_loss((a, b), (c, d)), FIRST, SECOND, OTHER_FIRST, OTHER_SECOND)


@pytest.mark.parametrize("kind", ["flow", "selectivity"])
def test_a_tiny_student_learns_a_tiny_teacher(kind: str) -> None:
    torch.manual_seed(10)
    x = checks.randn(16, 1, 12, seed=11)
    teacher = [checks.randn(16, 4, 12, seed=12).tanh(), checks.randn(16, 3, 12, seed=13).tanh()]
    layers = nn.ModuleList([nn.Linear(12, 48, dtype=torch.float64), nn.Linear(12, 36, dtype=torch.float64)])

    def loss() -> Tensor:
        maps = [layer(x).view(16, -1, 12) for layer in layers]
        if kind == "flow":
            return fsp_loss((maps[0], maps[1]), (teacher[0], teacher[1]))
        return sum(neuron_selectivity_loss(s, t) for s, t in zip(maps, teacher, strict=True))

    optimizer = torch.optim.Adam(layers.parameters(), lr=0.05)
    first = loss().item()
    for _ in range(300):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < first / 5
