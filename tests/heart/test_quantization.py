"""Fake quantisation, checked against the nearest level, PyTorch's own, and the straight-through gradient."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.testing import assert_close

from kdref.quantization import LearnedStepSize, calibrated_scale, fake_quantize
from tests import checks

GRIDS = [(bits, signed) for bits in range(2, 9) for signed in (True, False)]
KINDS = pytest.mark.parametrize(("bits", "signed"), GRIDS)


def levels(bits: int, signed: bool) -> list[int]:
    """The whole numbers of b bits."""
    return list(range(-(2 ** (bits - 1)), 2 ** (bits - 1))) if signed else list(range(2**bits))


def spread(bits: int, *shape: int, seed: int = 0) -> Tensor:
    """Values inside and outside the clip of a grid of step 1."""
    return checks.randn(*shape, seed=seed, scale=0.6 * 2 ** (bits - 1))


def nearest(x: float, step: float, bits: int, signed: bool) -> float:
    """The level that is nearest to x, found by trying all of them."""
    return min((k * step for k in levels(bits, signed)), key=lambda level: abs(level - x))


# What it is


@KINDS
def test_each_value_goes_to_the_nearest_level(bits: int, signed: bool) -> None:
    x = spread(bits, 60, seed=bits)
    expected = [nearest(value, 0.7, bits, signed) for value in x.tolist()]
    assert_close(fake_quantize(x, 0.7, bits=bits, signed=signed), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_each_channel_has_its_own_step_whichever_its_axis(dim: int) -> None:
    x = spread(3, 4, 4, 4)  # equal sizes: a step on the wrong axis would fit as well
    steps = torch.tensor([0.3, 0.7, 1.1, 2.0], dtype=torch.float64)
    found = fake_quantize(x, steps, bits=3, dim=dim)
    for place in itertools.product(range(4), repeat=3):
        expected = nearest(x[place].item(), steps[place[dim]].item(), 3, True)
        assert found[place].item() == pytest.approx(expected, rel=1e-9)


def test_known_values() -> None:
    # 2 bits, step ½: levels -1, -½, 0, ½; 0.6 is over the last, and -0.8/½ = -1.6 rounds to -2
    x = torch.tensor([-5.0, -0.8, -0.3, -0.2, 0.2, 0.3, 0.6, 9.0])
    expected = torch.tensor([-1.0, -1.0, -0.5, 0.0, 0.0, 0.5, 0.5, 0.5])
    assert torch.equal(fake_quantize(x, 0.5, bits=2), expected)
    # unsigned: levels 0, ½, 1, 1½; 0.8/½ = 1.6 rounds to 2
    x, expected = torch.tensor([-5.0, 0.2, 0.8, 1.3, 9.0]), torch.tensor([0.0, 0.0, 1.0, 1.5, 1.5])
    assert torch.equal(fake_quantize(x, 0.5, bits=2, signed=False), expected)
    # 8 bits reach from -128 to 127, and halves go to the even level
    x, expected = torch.tensor([-200.0, 200.0, 0.5, 1.5, -2.5]), torch.tensor([-128.0, 127.0, 0.0, 2.0, -2.0])
    assert torch.equal(fake_quantize(x, 1.0), expected)


@KINDS
def test_values_are_those_of_pytorchs_own(bits: int, signed: bool) -> None:
    x = spread(bits, 50, 3, seed=bits).float()
    low, high = levels(bits, signed)[0], levels(bits, signed)[-1]
    for step in (0.25, 1.0, 4.0):  # powers of two: PyTorch multiplies by the reciprocal
        expected = torch.fake_quantize_per_tensor_affine(x, step, 0, low, high)
        assert torch.equal(fake_quantize(x, step, bits=bits, signed=signed), expected)
    steps, zeros = torch.tensor([0.25, 1.0, 4.0]), torch.zeros(3, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(x, steps, zeros, 1, low, high)
    assert torch.equal(fake_quantize(x, steps, bits=bits, signed=signed, dim=1), expected)


# The grid


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_on_the_grid_comes_out_to_the_last_bit(bits: int, signed: bool, dtype: torch.dtype) -> None:
    steps = torch.rand(200, 1, generator=torch.Generator().manual_seed(bits), dtype=dtype) + 0.01
    grid = torch.tensor(levels(bits, signed), dtype=dtype) * steps
    assert torch.equal(fake_quantize(grid, steps[:, 0], bits=bits, signed=signed, dim=0), grid)
    leaf = grid.clone().requires_grad_()
    fake_quantize(leaf, steps[:, 0], bits=bits, signed=signed, dim=0).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad == 1).all(), "on the border too, whatever its rounding error"


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), signed=st.booleans())
def test_it_is_idempotent_monotone_and_has_no_more_levels_than_bits_can_name(
    seed: int, bits: int, signed: bool
) -> None:
    x = spread(bits, 400, seed=seed).float().sort().values
    step = 0.1 + torch.rand((), generator=torch.Generator().manual_seed(seed))
    found = fake_quantize(x, step, bits=bits, signed=signed)
    assert torch.equal(fake_quantize(found, step, bits=bits, signed=signed), found)
    assert (found.diff() >= 0).all()
    assert len(found.unique()) <= 2**bits
    inside = (x >= levels(bits, signed)[0] * step) & (x <= levels(bits, signed)[-1] * step)
    assert ((found - x)[inside].abs() <= step * (0.5 + 1e-5)).all()


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8))
def test_it_keeps_order_units_and_sign_and_not_what_is_added(seed: int, bits: int) -> None:
    x = spread(bits, 6, 5, seed=seed)
    checks.check_batch_permutation(lambda v: fake_quantize(v, 0.7, bits=bits), x, per_example=True)
    found = fake_quantize(x, 0.7, bits=bits)
    assert torch.equal(fake_quantize(8 * x, 8 * 0.7, bits=bits), 8 * found)
    both = x.clamp(*(sign * (2 ** (bits - 1) - 1) * 0.7 for sign in (-1, 1)))  # the lowest level has no counterpart
    assert torch.equal(fake_quantize(-both, 0.7, bits=bits), -fake_quantize(both, 0.7, bits=bits))
    assert not torch.allclose(fake_quantize(x + 0.3, 0.7, bits=bits), found + 0.3, atol=1e-3)


@pytest.mark.parametrize("signed", [True, False])
def test_with_a_coarse_step_nothing_is_left_and_with_a_fine_one_two_levels(signed: bool) -> None:
    x = checks.randn(50, seed=3)
    assert (fake_quantize(x, 1e3, bits=4, signed=signed) == 0).all()
    found = fake_quantize(x, 1e-6, bits=4, signed=signed)
    ends = torch.where(x > 0, levels(4, signed)[-1], levels(4, signed)[0]).double() * 1e-6
    assert_close(found, ends, rtol=1e-12, atol=0)
    errors = [(fake_quantize(x, 3 / 2 ** (bits - 1), bits=bits) - x).abs().mean().item() for bits in range(3, 13)]
    assert all(1.6 < a / b < 2.5 for a, b in itertools.pairwise(errors)), "each bit halves the error"


# The gradient


@KINDS
def test_the_gradient_passes_inside_the_clip_and_on_its_border_only(bits: int, signed: bool) -> None:
    low, high = levels(bits, signed)[0], levels(bits, signed)[-1]
    middle = [k + offset for k in levels(bits, signed)[1:-1] for offset in (-0.3, 0.0, 0.4)]
    inside = torch.tensor([low, low + 0.2, *middle, high - 0.2, high], dtype=torch.float64)
    outside = torch.tensor([low - 9, low - 0.6, low - 0.1, high + 0.1, high + 0.6, high + 9], dtype=torch.float64)
    for values, expected in ((inside, 1.0), (outside, 0.0)):
        leaf = (0.5 * values).requires_grad_()
        weights = checks.randn(len(values), seed=1)
        (fake_quantize(leaf, 0.5, bits=bits, signed=signed) * weights).sum().backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, expected * weights)


@KINDS
def test_the_gradient_is_that_of_clipping_without_rounding(bits: int, signed: bool) -> None:
    low, high = levels(bits, signed)[0] * 0.7, levels(bits, signed)[-1] * 0.7
    x = spread(bits, 40, seed=bits).requires_grad_()
    loss = (fake_quantize(x, 0.7, bits=bits, signed=signed) * 3).sum()
    (found,) = torch.autograd.grad(loss, x)
    slope = (((x + 1e-6).clamp(low, high) - (x - 1e-6).clamp(low, high)) / 2e-6 * 3).sum()
    (expected,) = torch.autograd.grad(((x.clamp(low, high)) * 3).sum(), x)
    assert_close(found, expected)
    assert found.sum().item() == pytest.approx(slope.item(), rel=1e-6)


@KINDS
def test_pytorchs_own_lets_the_gradient_pass_half_a_step_further(bits: int, signed: bool) -> None:
    low, high = levels(bits, signed)[0], levels(bits, signed)[-1]
    x = spread(bits, 200, seed=bits).float()
    gradients = []
    for function in (
        lambda v: fake_quantize(v, 1.0, bits=bits, signed=signed),
        lambda v: torch.fake_quantize_per_tensor_affine(v, 1.0, 0, low, high),
    ):
        leaf = x.clone().requires_grad_()
        function(leaf).sum().backward()
        gradients.append(leaf.grad)
    beyond = ((x > high) & (x <= high + 0.5)) | ((x < low) & (x >= low - 0.5))
    assert torch.equal(gradients[0] + beyond, gradients[1])


def slope_of_the_step(x: float, step: float, bits: int, signed: bool) -> float:
    """Equation 3, with the border inside."""
    v = x / step
    low, high = levels(bits, signed)[0], levels(bits, signed)[-1]
    return float(low if v < low else high if v > high else round(v) - v)


@KINDS
def test_the_gradient_of_the_step_matches_the_definition(bits: int, signed: bool) -> None:
    x = spread(bits, 4, 15, seed=bits)
    steps = torch.tensor([0.6, 0.8, 1.0, 1.3], dtype=torch.float64).requires_grad_()
    weights = checks.randn(4, 15, seed=2)
    (fake_quantize(x, steps, bits=bits, signed=signed, dim=0) * weights).sum().backward()
    for row, step in enumerate(steps.tolist()):
        pairs = zip(x[row].tolist(), weights[row].tolist(), strict=True)
        expected = sum(weight * slope_of_the_step(value, step, bits, signed) for value, weight in pairs)
        assert steps.grad is not None
        assert steps.grad[row].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_gradient_of_the_step_is_the_slope_when_no_value_changes_its_level_error() -> None:
    # straight through, the rounding error in levels counts as a constant: differences of s (clip(x/s) + error)
    x, step = spread(3, 30, seed=4), torch.tensor(0.9, dtype=torch.float64).requires_grad_()
    error = ((x / 0.9).clamp(-4, 3).round() - (x / 0.9).clamp(-4, 3)).detach()
    fake_quantize(x, step, bits=3).sum().backward()
    above, below = ((s * ((x / s).clamp(-4, 3) + error)).sum().item() for s in (0.9 + 1e-6, 0.9 - 1e-6))
    assert step.grad is not None
    assert step.grad.item() == pytest.approx((above - below) / 2e-6, rel=1e-5)


def test_a_scale_that_wants_no_gradient_gets_none() -> None:
    x, steps = spread(4, 3, 5).requires_grad_(), torch.ones(3, dtype=torch.float64)
    fake_quantize(x, steps, bits=4, dim=0).sum().backward()
    assert steps.grad is None
    assert x.grad is not None
    assert not calibrated_scale(x).requires_grad


# In use


def test_it_compiles_to_one_graph() -> None:
    x, steps = spread(4, 6, 5).float(), torch.tensor([0.3, 0.5, 0.7, 0.9, 1.1])
    checks.check_compiles(lambda v: fake_quantize(v, 0.7, bits=4), x)
    checks.check_compiles(lambda s: fake_quantize(x, s, bits=4, dim=1), steps)
    quantizer = LearnedStepSize(x, bits=4, signed=False, batched=True)
    checks.check_compiles(lambda v: quantizer(v), x)
    checks.check_compiles(lambda v: v * calibrated_scale(v, bits=3, method="mse", candidates=2), x)


def divergence(student: nn.Module, teacher: nn.Module, x: Tensor) -> Tensor:
    """How far a network's probabilities are from its teacher's."""
    p = teacher(x).detach().log_softmax(-1)
    return nn.functional.kl_div(student(x).log_softmax(-1), p, reduction="batchmean", log_target=True)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 5)).double()


def test_a_network_of_two_bits_learns_from_itself_before_rounding() -> None:
    x, teacher, student = 2 * checks.randn(256, 6, seed=5), network(6), network(6)
    for layer in (student[0], student[2]):
        parametrize.register_parametrization(layer, "weight", LearnedStepSize(layer.weight, bits=2, dim=0))
    first = divergence(student, teacher, x).item()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        divergence(student, teacher, x).backward()
        optimizer.step()
    assert divergence(student, teacher, x).item() < first / 4
    for layer in (student[0], student[2]):
        steps = layer.parametrizations.weight[0].step.abs().detach()
        parametrize.remove_parametrizations(layer, "weight")
        assert torch.equal(fake_quantize(layer.weight, steps, bits=2, dim=0), layer.weight), "left on the grid"
        assert all(len(channel.unique()) <= 4 for channel in layer.weight)
    assert divergence(student, teacher, x).item() < first / 4
