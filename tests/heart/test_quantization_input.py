"""Quantisation: dtypes, extremes, and what it says of bad input."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.quantization import LearnedStepSize, calibrated_scale, fake_quantize
from tests import checks

X = checks.randn(4, 5, seed=1, dtype=torch.float32)
EXTREMES = (
    torch.tensor([[1e4, -1e4, 3.0], [0.0, 0.0, 0.0]]),
    torch.zeros(2, 3),
    torch.full((1, 3), -1e4),
    torch.tensor([[6e-8, -6e-8, 0.0]]),
)


@pytest.mark.parametrize("x", EXTREMES, ids=["large", "zero", "equal", "tiny"])
@pytest.mark.parametrize("bits", [2, 8])
def test_extreme_values_have_finite_results_and_gradients(x: Tensor, bits: int) -> None:
    for dim in (None, 0):
        for method in ("max", "mse"):

            def fitted(v: Tensor, dim: int | None = dim, method: str = method) -> Tensor:
                return fake_quantize(v, calibrated_scale(v, bits=bits, dim=dim, method=method), bits=bits, dim=dim)

            checks.check_extremes(fitted, x)
        checks.check_extremes(lambda v, dim=dim: LearnedStepSize(v, bits=bits, dim=dim)(v), x)
    for step in (1e-6, 1e6):
        checks.check_extremes(lambda v, step=step: fake_quantize(v, step, bits=bits), x)


@pytest.mark.parametrize("dtype", checks.DTYPES[1:])
def test_half_precision_is_computed_as_float32(dtype: torch.dtype) -> None:
    x = X.to(dtype)
    step = calibrated_scale(x, bits=4)
    assert step.dtype == torch.float32
    assert torch.equal(fake_quantize(x, step, bits=4), fake_quantize(x.float(), step, bits=4))
    assert torch.equal(fake_quantize(x, step.to(dtype), bits=4), fake_quantize(x.float(), step.to(dtype), bits=4))
    quantizer = LearnedStepSize(x, bits=4)
    assert quantizer.step.dtype == torch.float32
    assert torch.equal(quantizer(x), quantizer(x.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fake_quantize(X, 0.3), fake_quantize(X, torch.tensor(0.3)))
        assert fake_quantize(X, 0.3).dtype == torch.float32
    assert quantizer(x.double()).dtype == torch.float64


def test_a_single_value_and_none_are_values_too() -> None:
    assert fake_quantize(torch.tensor(0.7), 0.5).item() == 0.5
    assert fake_quantize(torch.empty(0, 3), 0.5).shape == (0, 3)
    assert fake_quantize(torch.empty(0, 3), torch.ones(3), dim=1).shape == (0, 3)
    for step in (0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]])):
        assert_close(fake_quantize(X, step), fake_quantize(X, 0.5))
    assert fake_quantize(X, 1).dtype == torch.float32
    assert calibrated_scale(X).shape == ()
    assert calibrated_scale(X, dim=1).shape == calibrated_scale(X, dim=1, method="mse").shape == (5,)
    assert calibrated_scale(X[:1], dim=0).shape == (1,)
    quantizer = LearnedStepSize(X, batched=True)
    assert quantizer(X[:0]).shape == (0, 5)


def test_a_value_that_is_no_number_stays_none() -> None:
    x = X.clone()
    x[1, 2] = math.nan
    found = fake_quantize(x, 0.5)
    assert found.isnan().nonzero().tolist() == [[1, 2]]
    assert calibrated_scale(x).isnan()
    assert calibrated_scale(x, method="mse", dim=0).isnan().tolist() == [False, True, False, False]
    with pytest.raises(ValueError, match="scale must be positive and finite, got nan"):
        fake_quantize(x, calibrated_scale(x))
    quantizer = LearnedStepSize(X, bits=3)
    quantizer.step.data.fill_(math.nan)  # a run that has diverged: the loss says so, not we
    assert quantizer(X).isnan().all()


def test_infinite_values_go_to_the_ends() -> None:
    x = torch.tensor([math.inf, -math.inf, 0.2])
    assert_close(fake_quantize(x, 0.5, bits=2), torch.tensor([0.5, -1.0, 0.0]))


def test_what_was_computed_in_inference_mode_can_be_used() -> None:
    with torch.inference_mode():
        x, step = X.clone(), calibrated_scale(X, dim=0)
    leaf = X.clone().requires_grad_()
    fake_quantize(leaf, step, dim=0).sum().backward()
    assert leaf.grad is not None
    steps = torch.ones(4).requires_grad_()
    fake_quantize(x, steps, dim=0).sum().backward()
    assert steps.grad is not None
    quantizer = LearnedStepSize(x, dim=0)
    quantizer(x).sum().backward()
    assert quantizer.step.grad is not None


FUNCTIONS = {
    "fake_quantize": lambda x, **settings: fake_quantize(x, 0.5, **settings),
    "calibrated_scale": lambda x, **settings: calibrated_scale(x, **settings),
    "LearnedStepSize": lambda x, **settings: LearnedStepSize(x, **settings)(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_tensor_of_floats_is_named(name: str) -> None:
    function = FUNCTIONS[name]
    argument = "values" if name == "LearnedStepSize" else "x"
    for value in (None, [1.0], 3.0, X.numpy(), (X,)):
        with pytest.raises(TypeError, match=rf"{argument} must be a tensor, got {type(value).__name__}: "):
            function(value)
    for value in (X.long(), X > 0):
        with pytest.raises(TypeError, match=f"{argument} must be floating point, got {value.dtype}"):
            function(value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_out_of_range_are_named(name: str) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"bits": 1}, ValueError, "bits must be from 2 to 16, got 1"),
        ({"bits": 32}, ValueError, "bits must be from 2 to 16, got 32"),
        ({"bits": 4.0}, TypeError, r"bits must be a whole number, got 4\.0"),
        ({"bits": "8"}, TypeError, "bits must be a whole number, got '8'"),
    ]
    for dim in (2, -3):
        cases.append(({"dim": dim}, ValueError, f"dim must be from -2 to 1, got {dim}"))
    cases.append(({"dim": "0"}, TypeError, "dim must be a whole number, got '0'"))
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            FUNCTIONS[name](X, **settings)
    with pytest.raises(ValueError, match="a single value has no axis 0: leave dim out"):
        FUNCTIONS[name](torch.tensor(1.0), dim=0)


def test_a_scale_that_does_not_fit_is_named() -> None:
    for value, found in ((None, "NoneType"), ([0.5], "list"), ("1", "str"), (torch.tensor([1]), "torch.int64")):
        with pytest.raises(TypeError, match=f"scale must be a number or a floating-point tensor, got {found}"):
            fake_quantize(X, value)  # type: ignore[arg-type]
    for number in (0.0, -0.5, math.nan, math.inf):
        for scale in (number, torch.tensor(number)):
            with pytest.raises(ValueError, match=f"scale must be positive and finite, got {number}"):
                fake_quantize(X, scale)
    with pytest.raises(ValueError, match=r"scale must be positive and finite, got -1\.0"):
        fake_quantize(X, torch.tensor([1.0, 2.0, -1.0, 0.0]), dim=0)
    with pytest.raises(ValueError, match=r"scale must be one number, got shape \(4,\): name the channels' axis, dim"):
        fake_quantize(X, torch.ones(4))
    for scale in (torch.ones(4), torch.ones(1), torch.ones(5, 1), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"scale must have shape \(5,\), one step per channel of axis 1, got"):
            fake_quantize(X, scale, dim=1)
    with pytest.raises(ValueError, match=r"scale must have shape \(4,\), one step per channel of axis 0, got \(5,\)"):
        LearnedStepSize(X.T, dim=0)(X)


def test_other_settings_are_named() -> None:
    with pytest.raises(ValueError, match='method must be "max" or "mse", got \'kl\''):
        calibrated_scale(X, method="kl")
    with pytest.raises(ValueError, match="candidates must be from 2 to 1000000, got 1"):
        calibrated_scale(X, method="mse", candidates=1)
    with pytest.raises(TypeError, match=r"candidates must be a whole number, got 2\.5"):
        calibrated_scale(X, candidates=2.5)  # type: ignore[arg-type]
    for argument, function in (("x", calibrated_scale), ("values", LearnedStepSize)):
        with pytest.raises(ValueError, match=rf"{argument} must not be empty, got shape \(0, 3\): nothing has no step"):
            function(torch.empty(0, 3))
    for value, dim in ((X, 0), (X, -2), (torch.tensor(1.0), None)):
        with pytest.raises(ValueError, match="axis 0 of a batch holds examples, got shape"):
            LearnedStepSize(value, dim=dim, batched=True)
