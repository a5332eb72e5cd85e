"""Ridge self-distillation, checked against Mobahi et al. 2020 and Borup and Andersen 2021."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.self_distillation import ridge_self_distillation
from tests import checks

FEATURES, TARGETS = checks.randn(7, 4, seed=4), checks.randn(7, 2, seed=5)
GRAM = FEATURES @ FEATURES.T  # of rank 4


def shrinkage(gram: Tensor, penalty: float) -> Tensor:
    """S = G (G + cI)⁻¹, from the eigenvalues."""
    values, vectors = torch.linalg.eigh(gram)
    return vectors @ torch.diag(values / (values + penalty)) @ vectors.T


@pytest.mark.parametrize("penalty", [0.1, 1.0, 30.0])
def test_without_labels_round_t_is_the_power_t_of_the_shrinkage(penalty: float) -> None:
    fits = ridge_self_distillation(GRAM, TARGETS, penalty=penalty, rounds=5)
    s = shrinkage(GRAM, penalty)
    for t in range(5):
        assert_close(fits[t], torch.linalg.matrix_power(s, t + 1) @ TARGETS, rtol=0, atol=1e-12)


def test_each_round_is_the_minimum_of_its_ridge_problem() -> None:
    # in the features' own space: argmin_W Σ‖x W - t‖² + c‖W‖² = (XᵀX + cI)⁻¹ Xᵀ T, targets mixed by hand
    penalty, share = 0.7, 0.25
    targets = TARGETS
    for fit in ridge_self_distillation(GRAM, TARGETS, penalty=penalty, rounds=4, label_weight=share):
        eye = torch.eye(4, dtype=torch.float64)
        weights = torch.linalg.solve(FEATURES.T @ FEATURES + penalty * eye, FEATURES.T @ targets)
        assert_close(fit, FEATURES @ weights, rtol=0, atol=1e-12)
        # elsewhere: k(x, X) (T - Y)/c is x W
        assert_close(FEATURES @ FEATURES.T @ (targets - fit) / penalty, FEATURES @ weights, rtol=0, atol=1e-11)
        targets = (1 - share) * fit + share * TARGETS


def test_known_value_of_two_examples() -> None:
    # S = diag(3/4, 1/2); round 2 with half labels: (¾ (½ · ¾ + ½), ½ (½ · ½ + ½)) = (21/32, 3/8)
    gram, labels = torch.diag(torch.tensor([3.0, 1.0])), torch.ones(2, 1)
    fits = ridge_self_distillation(gram, labels, penalty=1.0, rounds=2, label_weight=0.5)
    assert_close(fits, torch.tensor([[[0.75], [0.5]], [[21 / 32], [0.375]]]))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_with_labels_it_converges_to_ridge_with_a_larger_penalty(share: float) -> None:
    fits = ridge_self_distillation(GRAM, TARGETS, penalty=2.0, rounds=400, label_weight=share)
    assert_close(fits[-1], shrinkage(GRAM, 2.0 / share) @ TARGETS, rtol=0, atol=1e-12)


def test_without_labels_everything_vanishes_small_eigenvalues_first() -> None:
    values, vectors = torch.linalg.eigh(GRAM)
    fits = ridge_self_distillation(GRAM, TARGETS, penalty=1.0, rounds=2000)
    assert fits[-1].abs().max() < 1e-10
    along = (vectors.T @ fits[:6]).norm(dim=-1)[:, 3:]  # (rounds, the four that are not zero)
    kept = along[5] / along[0]
    assert (kept.diff() > 0).all()
    assert_close(kept, (values[3:] / (values[3:] + 1)) ** 5, rtol=1e-9, atol=0)


def test_full_labels_are_ridge_regression_in_every_round() -> None:
    fits = ridge_self_distillation(GRAM, TARGETS, penalty=0.5, rounds=3, label_weight=1.0)
    assert_close(fits, fits[:1].expand_as(fits), rtol=0, atol=1e-14)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_the_order_of_examples_and_the_scale_of_targets_pass_through(seed: int, scale: float) -> None:
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    plain = ridge_self_distillation(GRAM, TARGETS, penalty=0.3, rounds=3, label_weight=0.2)
    moved = ridge_self_distillation(
        GRAM[order][:, order], scale * TARGETS[order], penalty=0.3, rounds=3, label_weight=0.2
    )
    assert_close(moved, scale * plain[:, order], rtol=1e-9, atol=1e-12)


def test_ridge_is_differentiable_and_takes_every_precision() -> None:
    for which in (lambda t: (GRAM, t), lambda t: (t @ t.T, TARGETS)):
        leaf = (TARGETS if which(TARGETS)[0] is GRAM else FEATURES).clone().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda t, which=which: ridge_self_distillation(*which(t), penalty=0.4, rounds=3, label_weight=0.1), (leaf,)
        )
    for dtype in checks.DTYPES:
        zero, huge = torch.zeros(7, 7, dtype=dtype), (100 * GRAM).to(dtype)
        for gram in (zero, huge, torch.ones(7, 7, dtype=dtype)):
            fits = ridge_self_distillation(gram, TARGETS.to(dtype), penalty=0.5, rounds=3)
            assert fits.dtype == torch.float32
            assert fits.isfinite().all()
        assert_close(ridge_self_distillation(zero, TARGETS.to(dtype), penalty=1.0, rounds=2), torch.zeros(2, 7, 2))


def test_bad_input_to_ridge_is_named() -> None:
    good = {"penalty": 1.0, "rounds": 2}
    for gram, targets in ((GRAM[:6], TARGETS), (GRAM, TARGETS[:6]), (GRAM, TARGETS[:, 0]), (GRAM[:0, :0], TARGETS[:0])):
        with pytest.raises(ValueError, match=r"expected gram \(N, N\) and targets \(N, D\), got"):
            ridge_self_distillation(gram, targets, **good)
    with pytest.raises(TypeError, match=r"must be floating point, got torch.float64 and torch.int64"):
        ridge_self_distillation(GRAM, TARGETS.long(), **good)
    for penalty in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"penalty must be positive and finite, got {penalty}"):
            ridge_self_distillation(GRAM, TARGETS, penalty=penalty, rounds=1)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        ridge_self_distillation(GRAM, TARGETS, penalty=1.0, rounds=0)
    with pytest.raises(ValueError, match=r"label_weight must be in \[0, 1\], got 1.5"):
        ridge_self_distillation(GRAM, TARGETS, label_weight=1.5, **good)


def test_ridge_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda t: ridge_self_distillation(GRAM, t, penalty=0.5, rounds=3, label_weight=0.1), TARGETS)
