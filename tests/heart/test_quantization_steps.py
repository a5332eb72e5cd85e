"""Steps that are fitted to values, and steps that are learned (LSQ), checked against search, equations and torch."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.quantization import LearnedStepSize, calibrated_scale, fake_quantize
from tests import checks

GRIDS = [(bits, signed) for bits in range(2, 9) for signed in (True, False)]
KINDS = pytest.mark.parametrize(("bits", "signed"), GRIDS)


def bounds(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest level: the whole numbers of b bits."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def lost(x: Tensor, step: float, bits: int, signed: bool) -> float:
    """The sum of squared errors, in NumPy."""
    low, high = bounds(bits, signed)
    values = x.double().numpy()
    return float(np.square(np.clip(np.rint(values / step), low, high) * step - values).sum())


# Fitted


@KINDS
def test_the_step_of_the_largest_puts_it_on_the_last_level(bits: int, signed: bool) -> None:
    x = checks.randn(70, seed=bits)
    largest = max(abs(value) if signed else value for value in x.tolist())
    step = calibrated_scale(x, bits=bits, signed=signed)
    assert step.item() == pytest.approx(largest / bounds(bits, signed)[1], rel=1e-12)
    assert fake_quantize(x, step, bits=bits, signed=signed).abs().max().item() == pytest.approx(largest, rel=1e-12)


def test_known_steps() -> None:
    # 4 bits reach 7 steps upwards, 3 unsigned bits 7 as well; the largest is -1.4, of those above zero 0.7
    x = torch.tensor([-1.4, -0.1, 0.3, 0.7])
    assert calibrated_scale(x, bits=4).item() == pytest.approx(0.2)
    assert calibrated_scale(x, bits=3, signed=False).item() == pytest.approx(0.1)
    # a hundred ones and a ten on levels -2s, -s, 0, s: with s = 10 all ones are lost; 100 (1 - s)² + (10 - s)² is least
    # at 110/101, and one of 400 steps within a factor of 100^(1/399) is as near as 0.6 %
    x = torch.cat([torch.ones(100), torch.tensor([10.0])])
    assert calibrated_scale(x, bits=2, method="mse", candidates=400).item() == pytest.approx(110 / 101, rel=0.006)


@KINDS
def test_the_step_of_the_least_error_is_found(bits: int, signed: bool) -> None:
    for heavy in (False, True):
        x = checks.randn(400, seed=10 * bits, dtype=torch.float32)
        x = x**3 if heavy else x
        largest = calibrated_scale(x, bits=bits, signed=signed).item()
        best = min(lost(x, largest * k / 4000, bits, signed) for k in range(20, 4001))
        found = lost(x, calibrated_scale(x, bits=bits, signed=signed, method="mse").item(), bits, signed)
        assert found <= 1.1 * best
        assert found <= lost(x, largest, bits, signed) * (1 + 1e-6)


@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8))
def test_the_largest_clips_nothing_not_even_by_a_rounding_error(seed: int, bits: int) -> None:
    x = checks.randn(200, 3, seed=seed, dtype=torch.float32).requires_grad_()
    fake_quantize(x, calibrated_scale(x, bits=bits, dim=0), bits=bits, dim=0).sum().backward()
    assert x.grad is not None
    assert (x.grad == 1).all()


@pytest.mark.parametrize("method", ["max", "mse"])
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_each_channel_is_fitted_as_if_it_were_alone(method: str, dim: int) -> None:
    x = checks.randn(4, 4, 4, seed=1) * torch.tensor([0.1, 1.0, 3.0, 9.0], dtype=torch.float64)
    x = x * torch.tensor([1.0, 2.0, 0.5, 7.0], dtype=torch.float64)[:, None, None]
    found = calibrated_scale(x, bits=3, method=method, dim=dim)
    alone = [calibrated_scale(x.select(dim, channel), bits=3, method=method) for channel in range(4)]
    assert_close(found, torch.stack(alone), rtol=1e-12, atol=0)
    fine, coarse = (
        (fake_quantize(x, steps, bits=3, dim=axis) - x).square().sum()
        for steps, axis in ((found, dim), (calibrated_scale(x, bits=3, method=method), None))
    )
    assert fine < coarse


@pytest.mark.parametrize("method", ["max", "mse"])
@pytest.mark.parametrize("signed", [True, False])
def test_it_has_the_unit_of_the_values_and_no_order(method: str, signed: bool) -> None:
    x = checks.randn(6, 40, seed=2)
    found = calibrated_scale(x, bits=4, method=method, signed=signed)
    assert_close(calibrated_scale(4 * x, bits=4, method=method, signed=signed), 4 * found, rtol=1e-12, atol=0)
    assert_close(calibrated_scale(x[[3, 1, 5, 0, 2, 4]], bits=4, method=method, signed=signed), found)
    if signed:
        assert_close(calibrated_scale(-x, bits=4, signed=signed), calibrated_scale(x, bits=4, signed=signed))


@pytest.mark.parametrize("method", ["max", "mse"])
def test_channels_of_zeros_stay_zeros(method: str) -> None:
    x = torch.zeros(3, 5)
    x[1] = torch.linspace(-1, 1, 5)
    steps = calibrated_scale(x, method=method, dim=0)
    assert_close(steps[[0, 2]], torch.ones(2))
    assert_close(fake_quantize(x, steps, dim=0), x, rtol=0, atol=0.01)
    assert (fake_quantize(x, steps, dim=0)[0] == 0).all()
    assert calibrated_scale(-torch.ones(4), signed=False, method=method).item() == 1
    assert calibrated_scale(torch.zeros(()), method=method).item() == 1


def test_values_below_zero_do_not_count_without_a_sign() -> None:
    x = torch.tensor([-100.0, 0.5, 3.0])
    for method in ("max", "mse"):
        found = calibrated_scale(x, bits=4, signed=False, method=method)
        assert_close(found, calibrated_scale(x.relu(), bits=4, signed=False, method=method))


def test_rare_large_values_are_clipped_where_bits_are_few() -> None:
    x = torch.cat([checks.randn(10000, seed=3), torch.tensor([40.0, -40.0], dtype=torch.float64)])
    shares = {bits: (calibrated_scale(x, bits=bits, method="mse") / calibrated_scale(x, bits=bits)) for bits in (2, 8)}
    assert shares[2] < 0.1
    assert shares[8] > 0.9
    for bits in (2, 3, 4):
        errors = [lost(x, calibrated_scale(x, bits=bits, method=m).item(), bits, True) for m in ("max", "mse")]
        assert errors[1] < errors[0] / 2


# Learned


def learned(values: Tensor, steps: Tensor, **settings: int | bool) -> LearnedStepSize:
    """A quantiser with these steps."""
    quantizer = LearnedStepSize(values, **settings)
    quantizer.step.data = steps
    return quantizer


@KINDS
def test_it_starts_at_twice_the_mean_size_over_the_root_of_the_levels(bits: int, signed: bool) -> None:
    x = checks.randn(3, 8, seed=bits) * torch.tensor([[1.0], [4.0], [0.2]], dtype=torch.float64)
    high = bounds(bits, signed)[1]
    flat = [abs(value) for value in x.flatten().tolist()]
    quantizer = LearnedStepSize(x, bits=bits, signed=signed)
    assert quantizer.step.shape == ()
    assert quantizer.step.item() == pytest.approx(2 * sum(flat) / len(flat) / math.sqrt(high), rel=1e-12)
    rows = LearnedStepSize(x, bits=bits, signed=signed, dim=0).step
    expected = [2 * sum(abs(v) for v in row) / 8 / math.sqrt(high) for row in x.tolist()]
    assert_close(rows.detach(), torch.tensor(expected, dtype=torch.float64))


def test_a_known_start_and_gradient() -> None:
    # 3 bits: Q_P = 3; the mean of |x| is 1.5, so s = 2 · 1.5 / √3 = √3
    x = torch.tensor([-1.0, 2.0, 1.0, -2.0], dtype=torch.float64)
    quantizer = LearnedStepSize(x, bits=3)
    assert quantizer.step.item() == pytest.approx(math.sqrt(3), rel=1e-12)
    # with s = 1 and values -9, -0.4, 0.8, 9: -4, 0 + 0.4, 1 - 0.8 and 3 make -0.4, over √(4 · 3)
    quantizer = learned(x, torch.tensor(1.0, dtype=torch.float64), bits=3)
    quantizer(torch.tensor([-9.0, -0.4, 0.8, 9.0], dtype=torch.float64)).sum().backward()
    assert quantizer.step.grad is not None
    assert quantizer.step.grad.item() == pytest.approx(-0.4 / math.sqrt(12), rel=1e-9)


@pytest.mark.parametrize("dim", [None, 0, 1])
def test_values_and_their_gradient_are_those_of_fake_quantisation_to_the_last_bit(dim: int | None) -> None:
    for seed in range(10):
        x = checks.randn(400, 7, seed=seed, dtype=torch.float32)
        steps = torch.rand(() if dim is None else x.shape[dim], generator=torch.Generator().manual_seed(seed)) + 0.1
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        found = learned(x, steps, bits=3, dim=-2 if dim == 0 else dim)(leaves[0])
        expected = fake_quantize(leaves[1], steps, bits=3, dim=dim)
        assert torch.equal(found, expected)
        (found.square().sum() + expected.square().sum()).backward()
        assert torch.equal(leaves[0].grad, leaves[1].grad)


@KINDS
def test_the_gradient_of_a_step_is_scaled_by_what_shares_it(bits: int, signed: bool) -> None:
    x, weights = checks.randn(6, 4, 5, seed=bits, scale=2.0), checks.randn(6, 4, 5, seed=1)
    high = bounds(bits, signed)[1]
    for dim, batched, sharing in ((None, False, 120), (None, True, 20), (1, False, 30), (1, True, 5), (-1, True, 4)):
        quantizer = LearnedStepSize(x, bits=bits, signed=signed, dim=dim, batched=batched)
        (quantizer(x) * weights).sum().backward()
        steps = quantizer.step.detach().clone().requires_grad_()
        (fake_quantize(x, steps, bits=bits, signed=signed, dim=dim) * weights).sum().backward()
        assert_close(quantizer.step.grad, steps.grad / math.sqrt(sharing * high), rtol=1e-9, atol=1e-12)


def test_a_step_below_zero_counts_by_its_size() -> None:
    x = checks.randn(4, 5, seed=4)
    results = []
    for sign in (1, -1):
        quantizer = learned(x, torch.tensor(sign * 0.4, dtype=torch.float64), bits=3)
        value = quantizer(x)
        value.square().sum().backward()
        results.append((value.detach(), sign * quantizer.step.grad))
    assert_close(results[0], results[1])


def test_a_channel_of_zeros_can_start() -> None:
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    weights[1] = 0
    quantizer = LearnedStepSize(weights, bits=4, dim=0)
    assert quantizer.step[1].item() == 1
    assert (quantizer(weights)[1] == 0).all()
    quantizer(weights).sum().backward()
    assert quantizer.step.grad is not None
    assert quantizer.step.grad.isfinite().all()


def test_the_learned_step_goes_where_the_error_is_least() -> None:
    x = torch.cat([checks.randn(2000, seed=5), torch.tensor([25.0], dtype=torch.float64)])
    for start in (0.1, 8.0):
        quantizer = learned(x, torch.tensor(start, dtype=torch.float64), bits=3)
        optimizer = torch.optim.Adam([quantizer.step], lr=0.02)
        for _ in range(600):
            optimizer.zero_grad()
            (quantizer(x) - x).square().mean().backward()
            optimizer.step()
        found = lost(x, quantizer.step.item(), 3, True)
        assert found < 1.05 * lost(x, calibrated_scale(x, bits=3, method="mse").item(), 3, True)


def test_it_is_a_module_with_one_parameter_that_is_saved_and_printed() -> None:
    quantizer = LearnedStepSize(torch.ones(3, 2), bits=4, signed=False, dim=0)
    assert [name for name, _ in quantizer.named_parameters()] == ["step"]
    assert isinstance(quantizer, nn.Module)
    assert repr(quantizer) == "LearnedStepSize(bits=4, signed=False, dim=0, batched=False)"
    other = LearnedStepSize(torch.rand(3, 2), bits=4, signed=False, dim=0)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.step, quantizer.step)
    pairs = itertools.pairwise(LearnedStepSize(torch.ones(3, 2), bits=bits).step.item() for bits in range(2, 9))
    assert all(a > b for a, b in pairs), "more bits, smaller steps"
