"""Scaling laws: shapes, dtypes, extremes, and what they say of bad input."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.scaling import (
    APPLE_DISTILLATION,
    APPLE_SUPERVISED,
    capacity_gap_teacher_loss,
    distillation_loss_law,
    supervised_loss_law,
    training_flops,
)
from tests import checks

T, N, D = torch.tensor([1.9, 2.6]), torch.tensor([[1e8], [1e9], [7e9]]), torch.tensor([2e9, 3e11])
LAWS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "supervised_loss_law": (supervised_loss_law, (N, D)),
    "distillation_loss_law": (distillation_loss_law, (T, N, D)),
    "capacity_gap_teacher_loss": (capacity_gap_teacher_loss, (N, D)),
    "training_flops": (training_flops, (N, D)),
}
NAMES = {3: ("teacher_loss", "parameters", "tokens"), 2: ("parameters", "tokens")}


@pytest.mark.parametrize("name", LAWS)
def test_arguments_broadcast_to_what_each_pair_gives(name: str) -> None:
    function, given = LAWS[name]
    found = function(*given)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            one = [amount[i, 0] if amount is N else amount[j] for amount in given]
            assert_close(found[i, j], function(*one))
    teachers = training_flops(N, D, teacher_parameters=D, teacher_tokens=N)
    assert_close(teachers[1, 0], training_flops(N[1, 0], D[0], teacher_parameters=D[0], teacher_tokens=N[1, 0]))


@pytest.mark.parametrize("name", LAWS)
def test_float32_is_as_good_as_float64_and_whole_numbers_are_welcome(name: str) -> None:
    function, given = LAWS[name]
    exact = function(*(amount.double() for amount in given))
    assert exact.dtype == torch.float64
    single = function(*given)
    assert single.dtype == torch.float32
    assert_close(single.double(), exact, rtol=1e-6, atol=0)
    half = function(*(amount.bfloat16() for amount in given))
    assert half.dtype == torch.float32
    whole = function(*(amount if amount is T else amount.long() for amount in given))
    assert whole.dtype == torch.float32
    assert_close(whole, single)
    assert function(given[0].double(), *given[1:]).dtype == torch.float64
    assert training_flops(N, D, teacher_parameters=N.double()).dtype == torch.float64


def test_what_can_not_be_imitated_keeps_its_digits_in_float32() -> None:
    t, n = torch.tensor([3.2, 3.4, 3.6]), torch.tensor(143e6)
    many = APPLE_DISTILLATION._replace(A=1e30, B=1e30)  # lifts the tiny rest above the teacher's loss
    found = distillation_loss_law(t, n, 20 * n, law=many)
    exact = distillation_loss_law(t.double(), n.double(), 20 * n.double(), law=many)
    assert (exact > 1e3).all()
    assert_close(found.double(), exact, rtol=1e-6, atol=0)


def test_extreme_teachers_and_sharp_breaks_have_finite_values_and_gradients() -> None:
    for dtype in (*checks.DTYPES[:2], torch.float64):
        for f1 in (0.09, 0.001):
            leaves = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in ([0.5, 1e2, 1e4], [1e3] * 3, [1e9] * 3)]
            found = distillation_loss_law(*leaves, law=APPLE_DISTILLATION._replace(f1=f1))
            found.sum().backward()
            for value in (found, *(leaf.grad for leaf in leaves)):
                assert value.isfinite().all(), f"{value} in {dtype} with f1 {f1}"
            assert_close(found[1:], leaves[0][1:].to(found.dtype).detach())


@pytest.mark.parametrize("name", LAWS)
def test_what_is_no_tensor_of_positive_numbers_is_named(name: str) -> None:
    function, given = LAWS[name]
    for index, argument in enumerate(NAMES[len(given)]):

        def spoiled(value: Any, index: int = index) -> Tensor:
            return function(*(value if i == index else amount for i, amount in enumerate(given)))

        for value, found in ((3.0, "float"), (7, "int"), (None, "NoneType"), ([1.0], "list")):
            with pytest.raises(TypeError, match=rf"{argument} must be a tensor of numbers, got {found}: use torch"):
                spoiled(value)
        for value in (torch.ones(2) > 0, torch.ones(2, dtype=torch.complex64)):
            with pytest.raises(TypeError, match=f"{argument} must be a tensor of numbers, got {value.dtype}"):
                spoiled(value)
        for number in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"{argument} must be positive and finite, got {number}"):
                spoiled(torch.tensor([5.0, number]))
        with pytest.raises(ValueError, match=r"must broadcast, got shapes \[.*\(4, 5\)"):
            spoiled(torch.ones(4, 5))


def test_the_two_laws_can_not_be_mixed_up() -> None:
    with pytest.raises(TypeError, match="the law must be a SupervisedLaw, got DistillationLaw"):
        supervised_loss_law(N, D, law=APPLE_DISTILLATION)
    for function, given in (LAWS["distillation_loss_law"], LAWS["capacity_gap_teacher_loss"]):
        with pytest.raises(TypeError, match="the law must be a DistillationLaw, got SupervisedLaw"):
            function(*given, law=APPLE_SUPERVISED)
        with pytest.raises(TypeError, match="the law must be a SupervisedLaw, got tuple"):
            function(*given, supervised=tuple(APPLE_SUPERVISED))


def test_costs_that_can_not_be_are_named() -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"teacher_tokens": D}, ValueError, "teacher_tokens need teacher_parameters"),
        ({"teacher_parameters": 3.0}, TypeError, "teacher_parameters must be a tensor of numbers, got float"),
        ({"teacher_parameters": -N}, ValueError, r"teacher_parameters must be positive and finite, got -1"),
        ({"teacher_parameters": N, "teacher_tokens": 0 * D}, ValueError, "teacher_tokens must be positive"),
        ({"teacher_parameters": torch.ones(5)}, ValueError, r"must broadcast, got shapes \[\(3, 1\), \(2,\), \(5,\)\]"),
        ({"logits_share": 1.5}, ValueError, r"logits_share must be in \[0, 1\], got 1\.5"),
        ({"pretraining_share": -0.5}, ValueError, r"pretraining_share must be in \[0, 1\], got -0\.5"),
        ({"pretraining_share": "1"}, TypeError, "pretraining_share must be a number, got '1'"),
        ({"context": -1}, ValueError, r"context must be in \[0, inf\], got -1"),
        ({"vocabulary": None}, TypeError, "vocabulary must be a number, got None"),
    ]
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            training_flops(N, D, **settings)


def test_what_was_computed_in_inference_mode_can_be_used() -> None:
    with torch.inference_mode():
        teacher = T.clone()
    n = N.clone().requires_grad_()
    distillation_loss_law(teacher, n, D).sum().backward()
    assert n.grad is not None
    assert (n.grad < 0).all()
