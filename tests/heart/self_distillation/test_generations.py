"""Learning from an earlier self, checked against the papers and against what others got wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.self_distillation import (
    confidence_weighted_loss,
    permuted_dark_knowledge,
    progressive_targets,
    progressive_weight,
)
from kdref.soft_targets import soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(6, 4, seed=2, scale=2.0)
LABELS = checks.labels_for(6, 4, seed=3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def oracle_confidence(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    sure = [max(checks.softmax(row)) for row in teacher.tolist()]
    losses = [-math.log(checks.softmax(s)[y]) for s, y in zip(student.tolist(), labels.tolist(), strict=True)]
    return sum(a * b for a, b in zip(sure, losses, strict=True)) / sum(sure)


def test_confidence_weighting_matches_the_definition() -> None:
    loss = confidence_weighted_loss(STUDENT, TEACHER, LABELS)
    assert loss.item() == pytest.approx(oracle_confidence(STUDENT, TEACHER, LABELS), rel=1e-12)


def test_known_value_of_a_sure_and_an_unsure_teacher() -> None:
    # certainties 1 and ½, so weights ⅔ and ⅓; the student is a fair coin, then sure and right: ⅔ log 2
    student, teacher = torch.tensor([[0.0, 0.0], [60.0, 0.0]]), torch.tensor([[60.0, 0.0], [0.0, 0.0]])
    assert_close(confidence_weighted_loss(student, teacher, torch.tensor([1, 0])), torch.tensor(2 / 3 * math.log(2)))


def test_equal_confidence_is_plain_cross_entropy() -> None:
    shuffled = torch.stack(
        [row[torch.randperm(4, generator=generator(i))] for i, row in enumerate(TEACHER[:1].expand(6, 4))]
    )
    expected = F.cross_entropy(STUDENT, LABELS)
    assert_close(confidence_weighted_loss(STUDENT, shuffled, LABELS), expected, rtol=1e-12, atol=0)
    assert not torch.isclose(confidence_weighted_loss(STUDENT, TEACHER, LABELS), expected, rtol=1e-3)


def test_which_wrong_class_the_teacher_finds_likely_does_not_matter_to_confidence() -> None:
    permuted = permuted_dark_knowledge(TEACHER, generator=generator(7))
    assert not torch.equal(permuted, TEACHER)
    plain = confidence_weighted_loss(STUDENT, TEACHER, LABELS)
    assert_close(confidence_weighted_loss(STUDENT, permuted, LABELS), plain, rtol=1e-12, atol=0)


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_confidence_ignores_shifts_and_the_order_of_the_batch(seed: int, shift: float) -> None:
    student, teacher = checks.randn(6, 4, seed=seed), checks.randn(6, 4, seed=seed + 1)
    plain = confidence_weighted_loss(student, teacher, LABELS)
    assert_close(confidence_weighted_loss(student + shift, teacher - shift, LABELS), plain, rtol=1e-9, atol=1e-12)
    checks.check_batch_permutation(lambda *t: confidence_weighted_loss(*t), student, teacher, LABELS, per_example=False)


def test_confidence_gradient_reaches_the_student_only() -> None:
    checks.check_gradient(lambda s, t, y: confidence_weighted_loss(s, t, y), STUDENT, TEACHER, LABELS)
    student = STUDENT.clone().requires_grad_()
    confidence_weighted_loss(student, TEACHER, LABELS).backward()
    sure = TEACHER.softmax(-1).amax(-1)  # the gradient of example i is w_i (q - onehot)
    expected = (sure / sure.sum())[:, None] * (STUDENT.softmax(-1) - F.one_hot(LABELS, 4))
    assert_close(student.grad, expected, rtol=1e-10, atol=1e-14)


def test_the_permutation_keeps_the_first_choice_and_the_values() -> None:
    many = checks.randn(3, 50, 5, seed=8)
    permuted = permuted_dark_knowledge(many, generator=generator())
    assert_close(permuted.argmax(-1), many.argmax(-1))
    assert_close(permuted.sort(-1).values, many.sort(-1).values, rtol=0, atol=0)
    assert_close(permuted.amax(-1), many.amax(-1), rtol=0, atol=0)
    assert (permuted != many).any(-1).float().mean() > 0.8  # 1 of 24 permutations changes nothing


def test_every_permutation_of_the_others_is_equally_likely_and_examples_differ() -> None:
    rows = torch.tensor([1.0, 9.0, 2.0, 3.0]).expand(6000, 4)
    permuted = permuted_dark_knowledge(rows, generator=generator(1))
    assert (permuted[:, 1] == 9).all()
    seen, counts = permuted[:, [0, 2, 3]].unique(dim=0, return_counts=True)
    assert len(seen) == 6  # 3! orders, 1000 times each: sd 29
    assert (counts - 1000).abs().max() < 5 * 29


def test_the_permutation_handles_ties_two_classes_and_a_generator() -> None:
    assert_close(
        permuted_dark_knowledge(torch.tensor([[1.0, 2.0], [3.0, 0.0]])), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    )
    tied = torch.tensor([[5.0, 5.0, 1.0]])
    assert permuted_dark_knowledge(tied)[0, 0] == 5
    first, again = (permuted_dark_knowledge(TEACHER, generator=generator(3)) for _ in range(2))
    assert_close(first, again, rtol=0, atol=0)
    leaf = TEACHER.clone().requires_grad_()
    assert not permuted_dark_knowledge(leaf).requires_grad
    for dtype in checks.DTYPES:
        assert permuted_dark_knowledge(1e4 * TEACHER.to(dtype)).dtype == dtype


# Progressive targets


def test_progressive_targets_match_the_definition() -> None:
    targets = progressive_targets(TEACHER, LABELS, weight=0.3)
    for row, z, y in zip(targets.tolist(), TEACHER.tolist(), LABELS.tolist(), strict=True):
        expected = [0.3 * p + (0.7 if c == y else 0.0) for c, p in enumerate(checks.softmax(z))]
        assert row == pytest.approx(expected, rel=1e-12)


def test_known_value_of_progressive_targets() -> None:
    # previous (3/4, 1/4), label 1, weight 0.8: (0.6, 0.2 + 0.2)
    targets = progressive_targets(torch.tensor([[3.0, 1.0]]).log(), torch.tensor([1]), weight=0.8)
    assert_close(targets, torch.tensor([[0.6, 0.4]]))


def test_limits_of_progressive_targets() -> None:
    assert_close(progressive_targets(TEACHER, LABELS, weight=0.0), F.one_hot(LABELS, 4).double(), rtol=0, atol=0)
    assert_close(progressive_targets(TEACHER, LABELS, weight=1.0), TEACHER.softmax(-1), rtol=1e-12, atol=0)
    for weight in (0.0, 0.4, 1.0):
        assert_close(progressive_targets(TEACHER, LABELS, weight=weight).sum(-1), torch.ones(6, dtype=torch.float64))


def test_the_loss_on_progressive_targets_mixes_the_two_losses() -> None:
    # cross-entropy is linear in its target: (1 - a) CE(label) + a [KL(previous‖now) + entropy of the previous]
    mixed = F.cross_entropy(STUDENT, progressive_targets(TEACHER, LABELS, weight=0.6))
    entropy = -(TEACHER.softmax(-1) * TEACHER.log_softmax(-1)).sum(-1).mean()
    own = soft_target_loss(STUDENT, TEACHER, temperature=1.0) + entropy
    assert_close(mixed, 0.4 * F.cross_entropy(STUDENT, LABELS) + 0.6 * own)


def test_progressive_targets_are_constants_in_every_precision() -> None:
    previous = TEACHER.clone().requires_grad_()
    assert not progressive_targets(previous, LABELS, weight=0.5).requires_grad
    checks.check_gradient(lambda s, t: F.cross_entropy(s, progressive_targets(t, LABELS, weight=0.5)), STUDENT, TEACHER)
    for dtype in checks.DTYPES:
        targets = progressive_targets((TEACHER / TEACHER.abs().max() * 1e4).to(dtype), LABELS, weight=0.5)
        assert targets.dtype == torch.float32
        assert targets.isfinite().all()


def test_the_schedule_grows_in_proportion_to_the_epoch() -> None:
    assert [progressive_weight(epoch=t, epochs=4) for t in (1, 2, 3, 4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert progressive_weight(epoch=300, epochs=300) == pytest.approx(0.8)
    assert progressive_weight(epoch=1, epochs=2, final_weight=1.0) == 0.5


# For all


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    rows = STUDENT / STUDENT.abs().max() * scale
    for student in (rows, rows * 0, rows[:1].expand_as(rows), rows[:1]):
        for teacher in (-rows, rows * 0, rows[:1].expand_as(rows)):
            checks.check_extremes(
                lambda s, t, y: confidence_weighted_loss(s, t, y),
                student,
                teacher[: len(student)],
                LABELS[: len(student)],
            )


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(6, 4\) and \(5, 4\)"):
        confidence_weighted_loss(STUDENT, TEACHER[:5], LABELS)
    with pytest.raises(ValueError, match=r"expected logits \(B, C\) and labels \(B,\), got \(6, 4\) and \(5,\)"):
        confidence_weighted_loss(STUDENT, TEACHER, LABELS[:5])
    with pytest.raises(ValueError, match="the batch is empty"):
        confidence_weighted_loss(STUDENT[:0], TEACHER[:0], LABELS[:0])
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch.int64"):
        confidence_weighted_loss(STUDENT, TEACHER.long(), LABELS)
    with pytest.raises(TypeError, match=r"floating point, got torch.int64"):
        permuted_dark_knowledge(LABELS)
    with pytest.raises(ValueError, match=r"need a class axis at the end, got shape \(\)"):
        permuted_dark_knowledge(torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch.float64"):
        progressive_targets(TEACHER, LABELS.double(), weight=0.5)
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\], got -0.1"):
        progressive_targets(TEACHER, LABELS, weight=-0.1)
    for epoch in (0, 5):
        with pytest.raises(ValueError, match=f"epoch must be from 1 to epochs = 4, got {epoch}"):
            progressive_weight(epoch=epoch, epochs=4)
    with pytest.raises(ValueError, match=r"final_weight must be in \[0, 1\], got 2"):
        progressive_weight(epoch=1, epochs=4, final_weight=2.0)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t, y: confidence_weighted_loss(s, t, y), STUDENT, TEACHER, LABELS)
    checks.check_compiles(
        lambda s, t, y: F.cross_entropy(s, progressive_targets(t, y, weight=0.3)), STUDENT, TEACHER, LABELS
    )


def test_a_tiny_student_learns_from_the_labels_of_a_confident_teacher_and_from_itself() -> None:
    torch.manual_seed(9)
    x = checks.randn(64, 3, seed=10, dtype=torch.float32)
    labels = (x @ checks.randn(3, 4, seed=11, dtype=torch.float32)).argmax(dim=1)
    student = nn.Linear(3, 4)
    optimizer, previous = torch.optim.Adam(student.parameters(), lr=0.1), torch.zeros(64, 4)
    for epoch in range(1, 61):
        optimizer.zero_grad()
        logits = student(x)
        weight = 0.0 if epoch == 1 else progressive_weight(epoch=epoch, epochs=60)
        loss = F.cross_entropy(logits, progressive_targets(previous, labels, weight=weight))
        (loss + confidence_weighted_loss(logits, previous, labels)).backward()
        optimizer.step()
        previous = logits.detach()
    assert (student(x).argmax(dim=1) == labels).float().mean() > 0.9
