"""Weights that say whom to trust, checked against CA-MKD and from the definition of entropy."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.multi_teacher import confidence_weights, entropy_weights
from tests import checks

TEACHERS, LABELS = checks.randn(3, 5, 4, seed=2, scale=2.0), checks.labels_for(5, 4)


def oracle_confidence(teachers: Tensor, labels: Tensor) -> list[list[float]]:
    """Equation 2 of the paper: one minus a teacher's share of the exponentials of the cross-entropies."""
    columns = []
    for i, label in enumerate(labels.tolist()):
        losses = [-math.log(checks.softmax(teacher[i])[label]) for teacher in teachers.tolist()]
        total = sum(math.exp(loss) for loss in losses)
        columns.append([(1 - math.exp(loss) / total) / (len(losses) - 1) for loss in losses])
    return [list(row) for row in zip(*columns, strict=True)]


def oracle_entropy(teachers: Tensor) -> list[list[float]]:
    columns = []
    for i in range(teachers.shape[1]):
        rows = [checks.softmax(teacher[i]) for teacher in teachers.tolist()]
        columns.append(checks.softmax([sum(p * math.log(p) for p in row) for row in rows]))
    return [list(row) for row in zip(*columns, strict=True)]


def test_both_match_their_definitions() -> None:
    expected = torch.tensor(oracle_confidence(TEACHERS, LABELS), dtype=torch.float64)
    assert_close(confidence_weights(TEACHERS, LABELS), expected, rtol=1e-10, atol=0)
    assert_close(
        entropy_weights(TEACHERS), torch.tensor(oracle_entropy(TEACHERS), dtype=torch.float64), rtol=1e-10, atol=0
    )


def test_known_values() -> None:
    # the label's probabilities 1/2, 1/4, 1/8: exponentials of the cross-entropies 2, 4, 8 of 14; (1 - 2/14) / 2 = 6/14
    rows = [[math.log(p), math.log(1 - p)] for p in (1 / 2, 1 / 4, 1 / 8)]
    teachers = torch.tensor(rows, dtype=torch.float64)[:, None]
    weights = confidence_weights(teachers, torch.tensor([0]))
    assert weights.squeeze(1).tolist() == pytest.approx([6 / 14, 5 / 14, 3 / 14])
    # two teachers: each its share of the label's probability, 1/2 to 1/4
    assert confidence_weights(teachers[:2], torch.tensor([0])).squeeze(1).tolist() == pytest.approx([2 / 3, 1 / 3])
    # entropies 0, log 2 and log 4: 1 : 1/2 : 1/4
    certain, two, four = [60.0, 0, 0, 0], [60.0, 60, 0, 0], [0.0, 0, 0, 0]
    teachers = torch.tensor([certain, two, four], dtype=torch.float64)[:, None]
    assert entropy_weights(teachers).squeeze(1).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), scale=st.floats(0.0, 100.0))
def test_weights_sum_to_one_and_stay_in_range(seed: int, count: int, scale: float) -> None:
    teachers, labels = checks.randn(count, 4, 5, seed=seed, scale=scale), checks.labels_for(4, 5, seed)
    confidence, by_entropy = confidence_weights(teachers, labels), entropy_weights(teachers)
    for weights in (confidence, by_entropy):
        assert weights.shape == (count, 4)
        assert_close(weights.sum(dim=0), torch.ones(4, dtype=torch.float64))
        assert (weights >= 0).all()
    assert (confidence <= 1 / max(1, count - 1) + 1e-12).all()
    assert (by_entropy.amax(dim=0) <= 5 * by_entropy.amin(dim=0) + 1e-12).all()


def test_one_teacher_gets_everything() -> None:
    assert_close(confidence_weights(TEACHERS[:1], LABELS), torch.ones(1, 5, dtype=torch.float64))
    assert_close(entropy_weights(TEACHERS[:1]), torch.ones(1, 5, dtype=torch.float64))


def test_equal_teachers_get_equal_weights() -> None:
    same = TEACHERS[:1].expand(4, -1, -1)
    assert_close(confidence_weights(same, LABELS), torch.full((4, 5), 0.25, dtype=torch.float64))
    assert_close(entropy_weights(same), torch.full((4, 5), 0.25, dtype=torch.float64))


def test_confidence_rewards_the_teacher_that_is_right() -> None:
    right, wrong = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[0.0, 5.0, 0.0]])
    weights = confidence_weights(torch.stack([wrong, right, wrong]), torch.tensor([0])).squeeze(1)
    assert weights[1] > 0.49
    # but the two wrong ones share the blame, and keep half of the say between them
    assert_close(weights[[0, 2]], torch.tensor([0.25, 0.25]), rtol=0, atol=0.01)


def test_the_worst_of_three_is_shut_out_and_the_other_two_are_not_told_apart() -> None:
    best, good, worst = ([z, 0.0] for z in (9.0, 3.0, -9.0))
    weights = confidence_weights(torch.tensor([[best], [good], [worst]]), torch.tensor([0])).squeeze(1)
    assert_close(weights, torch.tensor([0.5, 0.5, 0.0]), rtol=0, atol=1e-3)


def test_entropy_rewards_the_teacher_that_is_sure_even_if_it_is_wrong() -> None:
    right, sure_and_wrong = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 90.0, 0.0]])
    weights = entropy_weights(torch.stack([right, sure_and_wrong])).squeeze(1)
    assert weights[1] > weights[0]
    by_label = confidence_weights(torch.stack([right, sure_and_wrong]), torch.tensor([0])).squeeze(1)
    assert by_label[1] < 1e-6


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_shift_of_the_logits_changes_nothing_and_an_order_of_teachers_is_kept(seed: int, shift: float) -> None:
    teachers, labels = checks.randn(3, 4, 5, seed=seed), checks.labels_for(4, 5, seed)
    shifted = teachers + shift * checks.randn(3, 4, 1, seed=seed + 1)
    order = torch.tensor([2, 0, 1])
    assert_close(confidence_weights(shifted[order], labels), confidence_weights(teachers, labels)[order])
    assert_close(entropy_weights(shifted[order]), entropy_weights(teachers)[order])


def test_batch_permutation() -> None:
    batch_first = TEACHERS.transpose(0, 1).contiguous()
    checks.check_batch_permutation(
        lambda t, y: confidence_weights(t.transpose(0, 1), y).T, batch_first, LABELS, per_example=True
    )
    checks.check_batch_permutation(lambda t: entropy_weights(t.transpose(0, 1)).T, batch_first, per_example=True)


def test_no_gradient_reaches_a_teacher() -> None:
    teachers = TEACHERS.clone().requires_grad_()
    assert not confidence_weights(teachers, LABELS).requires_grad
    assert not entropy_weights(teachers).requires_grad


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [*checks.DTYPES, torch.float64])
def test_extreme_logits_stay_finite(scale: float, dtype: torch.dtype) -> None:
    teachers = (TEACHERS / TEACHERS.abs().max() * scale).to(dtype)
    for t, y in ((teachers, LABELS), (teachers[:, :1], LABELS[:1])):
        for weights in (confidence_weights(t, y), entropy_weights(t)):
            assert weights.dtype == torch.promote_types(dtype, torch.float32)
            assert_close(weights.sum(dim=0), torch.ones(t.shape[1], dtype=weights.dtype))


def test_bad_input_is_named() -> None:
    for function in (entropy_weights, lambda t: confidence_weights(t, LABELS)):
        with pytest.raises(ValueError, match=r"must be \(K, B, C\), not empty, got \(5, 4\): stack them"):
            function(TEACHERS[0])
        with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
            function(TEACHERS.long())
    with pytest.raises(ValueError, match=r"logits \(B, C\) and labels \(B,\), got \(5, 4\) and \(4,\)"):
        confidence_weights(TEACHERS, LABELS[:4])
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch\.float32"):
        confidence_weights(TEACHERS, LABELS.float())


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(
        lambda s, t: (s * confidence_weights(t, LABELS)).sum() + (s * entropy_weights(t)).sum(),
        checks.randn(3, 5),
        TEACHERS,
    )


def test_learning_moves_the_weight_to_the_teacher_that_learned() -> None:
    # two equal teachers; one descends on the labels: its confidence weight grows with every step
    torch.manual_seed(0)
    logits = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    idle, before = logits.detach().clone(), 0.5
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(logits, LABELS)
        logits = (logits - 5 * torch.autograd.grad(loss, logits)[0]).detach().requires_grad_()
        now = confidence_weights(torch.stack([logits, idle]), LABELS)[0].min().item()
        assert now > before
        before = now
