"""SP, CC and PKT at the edge: any scale, far from zero, opposite examples, second derivatives."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from kdref.relation import correlation_congruence_loss, probabilistic_transfer_loss, similarity_preserving_loss
from tests import checks

STUDENT, TEACHER = checks.randn(7, 3, seed=1), checks.randn(7, 5, seed=2)


def every():
    """All losses, looked up when a test asks, so that the museum can put a wrong one in place."""
    return similarity_preserving_loss, correlation_congruence_loss, probabilistic_transfer_loss


@pytest.mark.parametrize("power", [-1, 1])
def test_float32_is_wide_enough_for_any_scale(power: int) -> None:
    for loss, exponent in zip(every(), (15, 30, 30), strict=True):
        plain, scale = loss(STUDENT, TEACHER).item(), 10.0 ** (power * exponent)
        for student_scale, teacher_scale in ((scale, 1.0), (1.0, scale), (scale, scale)):
            student = (student_scale * STUDENT).float().requires_grad_()
            value = loss(student, (teacher_scale * TEACHER).float())
            assert value.item() == pytest.approx(plain, rel=1e-5)
            assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_float32_is_wide_enough_for_rows_of_any_length() -> None:
    longer = STUDENT * torch.logspace(-30, 30, 7, dtype=torch.float64)[:, None]
    for loss in every()[1:]:
        assert loss(longer.float(), TEACHER.float()).item() == pytest.approx(loss(STUDENT, TEACHER).item(), rel=1e-5)


def gaps(rows: Tensor) -> Tensor:
    """One minus the cosines of rows that are nearly alike, in float64 from differences."""
    unit = F.normalize(rows.double())
    return torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").square() / 2


def stable_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """CC of order 2 without the difference of nearly equal kernels: a² - b² = (a - b)(a + b)."""
    less, less_t = gaps(student), gaps(teacher)
    return (math.exp(-0.8) * (less_t - less) * (0.8 + 0.32 * (2 - less - less_t))).square().mean()


def stable_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """PKT without the difference of nearly equal logarithms, its terms beyond the fourth power being nothing."""
    shares = [torch.log1p(-x / 2) - torch.log1p(-x.mean(1, keepdim=True) / 2) for x in map(gaps, (student, teacher))]
    ratio = shares[0] - shares[1]
    return (shares[1].exp() * (ratio.square() / 2 + ratio**3 / 6 + ratio**4 / 24)).mean()


def value_and_gradient(loss, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.clone().requires_grad_()
    value = loss(leaf, teacher)
    return value.detach().double(), torch.autograd.grad(value, leaf)[0].double()


def test_far_from_zero_float32_is_off_by_what_the_docstrings_say() -> None:
    cases = (
        (similarity_preserving_loss, 1000, 3e-4, 0.0),
        (correlation_congruence_loss, 10, 3e-4, 0.0),
        (correlation_congruence_loss, 100, 2e-2, 0.0),
        (probabilistic_transfer_loss, 10, 3e-4, 3e-8),
        (probabilistic_transfer_loss, 100, 3e-2, 3e-8),
    )
    for seed, (loss, mean, tolerance, rounding) in itertools.product(range(3), cases):
        pair = [(checks.randn(64, 128, seed=seed + s) + mean).float() for s in (0, 10)]
        (value, gradient), (exact, exact_gradient) = (
            value_and_gradient(loss, *(x.to(dtype) for x in pair)) for dtype in (torch.float32, torch.float64)
        )
        assert_close(value, exact, rtol=tolerance, atol=rounding)
        assert (gradient - exact_gradient).norm() < tolerance * exact_gradient.norm()


def test_far_from_zero_float64_is_right() -> None:
    pair = [checks.randn(64, 128, seed=seed) + 1000 for seed in (3, 4)]
    for loss, stable, tolerance in (
        (correlation_congruence_loss, stable_correlation, 1e-8),
        (probabilistic_transfer_loss, stable_transfer, 1e-2),
    ):
        (value, gradient), (exact, exact_gradient) = (value_and_gradient(x, *pair) for x in (loss, stable))
        assert_close(value, exact, rtol=tolerance, atol=0)
        assert (gradient - exact_gradient).norm() < 1e-8 * exact_gradient.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neighbour_that_the_teacher_alone_finds_opposite_stays_finite(dtype: torch.dtype) -> None:
    """Its p is the smallest there is and its q the largest: their ratio, less 1, rounds to -1."""
    teacher, student = torch.ones(512, 1, dtype=dtype), -torch.ones(512, 1, dtype=dtype)
    teacher[1], student[:2] = -1, 1
    student.requires_grad_()
    value = probabilistic_transfer_loss(student, teacher)
    value.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    own, others = (x.detach().double() for x in (student, teacher))
    q, p = (((1 + x @ x.mT) / 2).clamp(min=2.0**-20) for x in (own, others))
    q, p = (x / x.sum(dim=1, keepdim=True) for x in (q, p))
    assert_close(value.double(), (p * (p / q).log()).sum(dim=1).mean(), rtol=1e-4, atol=0)


def test_second_derivatives_are_those_of_finite_differences() -> None:
    for loss in every():
        assert torch.autograd.gradgradcheck(lambda s, loss=loss: loss(s, TEACHER), (STUDENT.clone().requires_grad_(),))


def test_second_derivatives_stay_finite() -> None:
    some_zero, opposite = STUDENT.clone(), torch.cat([STUDENT[:1], -STUDENT[:1], STUDENT[2:]])
    some_zero[2] = 0
    for loss, rows in itertools.product(every(), (some_zero, opposite, STUDENT[:1].expand_as(STUDENT), 0 * STUDENT)):
        student = rows.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(student, TEACHER), student, create_graph=True)
        assert torch.autograd.grad((gradient * STUDENT).sum(), student)[0].isfinite().all()
