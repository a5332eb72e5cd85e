"""How often a draft is accepted and what that saves, checked against the definitions."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref.sequence import expected_tokens_per_call, speculative_acceptance
from tests import checks

P, Q = checks.randn(5, 3, seed=2, scale=1.5).softmax(-1), checks.randn(5, 3, seed=1, scale=1.5).softmax(-1)


def test_known_values() -> None:
    half = speculative_acceptance(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5]))
    assert half.item() == pytest.approx(0.5)
    assert expected_tokens_per_call(torch.tensor([0.5]), num_drafts=3).item() == pytest.approx(1.875)


def test_every_acceptance_is_one_minus_the_total_variation() -> None:
    acceptance = speculative_acceptance(Q, P)
    for i in range(5):
        apart = sum(abs(a - b) for a, b in zip(P[i].tolist(), Q[i].tolist(), strict=True)) / 2
        assert acceptance[i].item() == pytest.approx(1 - apart, rel=1e-12)
        # Pinsker's inequality
        assert 1 - acceptance[i].item() <= math.sqrt(checks.kl(P[i].tolist(), Q[i].tolist()) / 2)
    assert_close(speculative_acceptance(P, Q), acceptance)
    assert_close(speculative_acceptance(P, P), torch.ones(5, dtype=torch.float64))
    apart = speculative_acceptance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert apart == 0
    checks.check_gradient(lambda q, p: speculative_acceptance(q, p), Q, P)


def test_the_formulas_limits_and_gradient() -> None:
    ends = expected_tokens_per_call(torch.tensor([0.0, 1.0]), num_drafts=6)
    assert ends.tolist() == [1.0, 7.0]
    assert expected_tokens_per_call(torch.tensor(0.3), num_drafts=0) == 1.0
    checks.check_gradient(lambda a: expected_tokens_per_call(a, num_drafts=4), torch.tensor([0.0, 0.4, 1.0]))
    assert expected_tokens_per_call(torch.tensor(0.5).half(), num_drafts=1).dtype == torch.float32


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(5, 2\) and \(5, 3\)"):
        speculative_acceptance(Q[:, :2], P)
    for pair in ((Q.long(), P), (Q, P.long())):
        with pytest.raises(TypeError, match=r"probabilities must be floating point, got torch.int64"):
            speculative_acceptance(*pair)
    with pytest.raises(ValueError, match=r"vocabulary axis at the end, got shape \(\)"):
        speculative_acceptance(Q[0, 0], P[0, 0])
    with pytest.raises(TypeError, match=r"acceptance must be floating point, got torch.int64"):
        expected_tokens_per_call(torch.tensor([1]), num_drafts=1)
    with pytest.raises(ValueError, match="num_drafts must be at least 0, got -1"):
        expected_tokens_per_call(torch.tensor([0.5]), num_drafts=-1)


def test_extremes_and_one_graph() -> None:
    checks.check_extremes(lambda q, p: speculative_acceptance(q, p), Q, P)
    checks.check_compiles(lambda q, p: speculative_acceptance(q, p), Q, P)
    checks.check_compiles(lambda a: expected_tokens_per_call(a, num_drafts=3), torch.tensor([0.2, 0.9]))
