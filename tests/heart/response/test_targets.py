"""Response-based targets and temperatures, checked against their papers and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import (
    hard_label_loss,
    label_smoothing_loss,
    logit_matching_loss,
    virtual_teacher_logits,
)
from kdref.soft_targets import distillation_loss, kl_divergence, soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(5, 4, seed=1, scale=2.0), checks.randn(5, 4, seed=2, scale=2.0)
LABELS = checks.labels_for(5, 4)


def oracle_logit_matching(student: Tensor, teacher: Tensor) -> float:
    """Half the mean square of the centred difference, in plain Python."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = ([value - sum(row) / len(row) for value in row] for row in (s, t))
        total += sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / (2 * len(s))
    return total / len(student)


def oracle_cross_entropy(student: Tensor, targets: list[list[float]]) -> float:
    """Cross-entropy with rows of target probabilities, in plain Python."""
    rows = [checks.softmax(row) for row in student.tolist()]
    return -sum(
        p * math.log(q) for ps, qs in zip(targets, rows, strict=True) for p, q in zip(ps, qs, strict=True)
    ) / len(rows)


def one_hot(labels: list[int], classes: int, *, high: float = 1.0, low: float = 0.0) -> list[list[float]]:
    return [[high if c == label else low for c in range(classes)] for label in labels]


def test_logit_matching_matches_the_definition() -> None:
    expected = oracle_logit_matching(STUDENT, TEACHER)
    assert logit_matching_loss(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-12)


def test_known_value_of_logit_matching() -> None:
    # centred: (-2, 0, 2) and (1, -2, 1); differences -3, 2, 1; squares 9 + 4 + 1 = 14; / (2 * 3) = 7/3
    student, teacher = torch.tensor([[0.0, 2.0, 4.0]]).double(), torch.tensor([[11.0, 8.0, 11.0]]).double()
    assert logit_matching_loss(student, teacher).item() == pytest.approx(7 / 3, rel=1e-12)


def test_logit_matching_is_zero_up_to_a_constant_per_example_and_positive_elsewhere() -> None:
    shift = checks.randn(5, 1, seed=3, scale=10.0)
    assert logit_matching_loss(TEACHER + shift, TEACHER).item() == pytest.approx(0.0, abs=1e-24)
    assert logit_matching_loss(STUDENT, TEACHER).item() > 0.1
    assert logit_matching_loss(2 * TEACHER, TEACHER).item() > 0.1  # the scale counts: softmax sees it


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_logit_matching_ignores_what_softmax_ignores(seed: int, shift: float) -> None:
    student, teacher = checks.randn(3, 4, seed=seed), checks.randn(3, 4, seed=seed + 1)
    shifts = shift * checks.randn(3, 1, seed=seed + 2)
    assert_close(logit_matching_loss(student + shifts, teacher - shift), logit_matching_loss(student, teacher))


def test_logit_matching_is_soft_targets_at_an_infinite_temperature() -> None:
    student, teacher = checks.randn(8, 10, seed=3, scale=3.0), checks.randn(8, 10, seed=4, scale=3.0)
    limit = logit_matching_loss(student, teacher).item()
    errors = [abs(soft_target_loss(student, teacher, temperature=t).item() - limit) / limit for t in (1e2, 1e3, 1e4)]
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_the_gradient_of_logit_matching_is_the_centred_difference() -> None:
    student = STUDENT.clone().requires_grad_()
    logit_matching_loss(student, TEACHER).backward()
    difference = STUDENT - TEACHER
    assert student.grad is not None
    assert_close(student.grad, (difference - difference.mean(1, keepdim=True)) / (5 * 4))


def test_hard_label_loss_matches_the_definition() -> None:
    labels = [max(range(4), key=row.__getitem__) for row in TEACHER.tolist()]
    assert len(set(labels)) > 1
    expected = oracle_cross_entropy(STUDENT, one_hot(labels, 4))
    assert hard_label_loss(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-12)


def test_known_value_of_hard_labels() -> None:
    # student softmax(log 3, 0) = (3/4, 1/4); the teacher prefers the second class by a hair: log 4
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    assert hard_label_loss(student, torch.tensor([[0.0, 0.001]]).double()).item() == pytest.approx(math.log(4.0))
    assert hard_label_loss(student, torch.tensor([[7.0, 7.0]]).double()).item() == pytest.approx(math.log(4 / 3))


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_hard_labels_use_only_the_teachers_first_choice(seed: int, scale: float, shift: float) -> None:
    student, teacher = checks.randn(3, 4, seed=seed), checks.randn(3, 4, seed=seed + 1)
    plain = hard_label_loss(student, teacher)
    assert_close(hard_label_loss(student + shift, scale * teacher + shift), plain)
    assert hard_label_loss(teacher, teacher).item() > 0.0  # agreeing is not enough: it wants to be sure


def test_label_smoothing_matches_the_definition() -> None:
    targets = one_hot(LABELS.tolist(), 4, high=1 - 0.3 + 0.3 / 4, low=0.3 / 4)
    expected = oracle_cross_entropy(STUDENT, targets)
    assert label_smoothing_loss(STUDENT, LABELS, smoothing=0.3).item() == pytest.approx(expected, rel=1e-12)


def test_known_value_of_label_smoothing() -> None:
    # student softmax(log 3, 0) = (3/4, 1/4), label 0, ε = 0.2: 0.9 log(4/3) + 0.1 log 4
    student = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert label_smoothing_loss(student, LABELS[:1] * 0, smoothing=0.2).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_is_cross_entropy_and_a_uniform_teacher(smoothing: float) -> None:
    hard = oracle_cross_entropy(STUDENT, one_hot(LABELS.tolist(), 4))
    uniform = sum(checks.kl([0.25] * 4, checks.softmax(row)) for row in STUDENT.tolist()) / 5
    loss = label_smoothing_loss(STUDENT, LABELS, smoothing=smoothing).item()
    assert loss == pytest.approx((1 - smoothing) * hard + smoothing * (uniform + math.log(4)), rel=1e-12)
    taught = distillation_loss(
        STUDENT, torch.zeros_like(STUDENT), LABELS, soft_weight=smoothing, temperature=1.0
    ).item()
    assert loss == pytest.approx(taught + smoothing * math.log(4), rel=1e-12)


def test_label_smoothing_is_least_at_the_smoothed_label_and_above_zero_there() -> None:
    logits = virtual_teacher_logits(LABELS, num_classes=4, confidence=0.9 + 0.1 / 4).double()
    least = label_smoothing_loss(logits, LABELS, smoothing=0.1).item()
    entropy = -(0.925 * math.log(0.925) + 3 * 0.025 * math.log(0.025))
    assert least == pytest.approx(entropy, rel=1e-6)
    assert label_smoothing_loss(2 * logits, LABELS, smoothing=0.1).item() > least  # too sure is worse


def test_the_virtual_teacher_matches_the_definition() -> None:
    probabilities = virtual_teacher_logits(LABELS, num_classes=4, confidence=0.91).softmax(dim=-1)
    assert_close(probabilities, torch.tensor(one_hot(LABELS.tolist(), 4, high=0.91, low=0.03)))


def test_the_virtual_teachers_logits_are_log_probabilities() -> None:
    # confidence 4/5 and five classes: the others get 1/20 each
    logits = virtual_teacher_logits(torch.tensor([[1], [4]]), num_classes=5, confidence=0.8)
    assert logits.shape == (2, 1, 5)
    assert logits.dtype == torch.get_default_dtype()
    expected = [[[math.log(0.8) if c == label else math.log(0.05) for c in range(5)]] for label in (1, 4)]
    assert_close(logits, torch.tensor(expected))


def test_a_temperature_softens_the_virtual_teacher_as_in_the_paper() -> None:
    # equation 9: p^d is softened like any network; 0.99 against 0.01/99 of 100 classes at τ = 20 is (9801)^(1/20) : 1
    softened = (virtual_teacher_logits(torch.tensor([7]), num_classes=100) / 20).softmax(dim=-1)
    ratio = 9801 ** (1 / 20)
    assert softened[0, 7].item() == pytest.approx(ratio / (ratio + 99), rel=1e-4)


def test_a_virtual_teacher_of_the_right_confidence_is_label_smoothing() -> None:
    logits = virtual_teacher_logits(LABELS, num_classes=4, confidence=0.7 + 0.3 / 4).double()
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    taught = kl_divergence(STUDENT, logits).mean() + entropy
    assert_close(taught, label_smoothing_loss(STUDENT, LABELS, smoothing=0.3), rtol=1e-6, atol=0)


def test_batch_permutation() -> None:
    for loss in (lambda s, t: logit_matching_loss(s, t), lambda s, t: hard_label_loss(s, t)):
        checks.check_batch_permutation(loss, STUDENT, TEACHER, per_example=False)
    checks.check_batch_permutation(lambda s, y: label_smoothing_loss(s, y), STUDENT, LABELS, per_example=False)
    checks.check_batch_permutation(lambda y: virtual_teacher_logits(y, num_classes=4), LABELS, per_example=True)


def test_leading_axes_are_examples() -> None:
    student, teacher = STUDENT[:4].reshape(2, 2, 4), TEACHER[:4].reshape(2, 2, 4)
    for loss in (logit_matching_loss, hard_label_loss):
        assert_close(loss(student, teacher), loss(STUDENT[:4], TEACHER[:4]))
        assert loss(STUDENT[0], TEACHER[0]).shape == ()


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: logit_matching_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t: hard_label_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda s, y: label_smoothing_loss(s, y), STUDENT, LABELS)


@pytest.mark.parametrize("scale", [60.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher, labels = checks.randn(4, 5, seed=5), checks.randn(4, 5, seed=6), checks.labels_for(4, 5)
    student, teacher = (z / z.abs().max() * scale for z in (student, teacher))
    checks.check_extremes(lambda s, t: logit_matching_loss(s, t), student, teacher)
    checks.check_extremes(lambda s, t: hard_label_loss(s, t), student, teacher)
    checks.check_extremes(lambda s, y: label_smoothing_loss(s, y), student, labels)


def test_zero_and_equal_rows_and_a_batch_of_one_stay_finite() -> None:
    for student in (torch.zeros(3, 4), torch.ones(1, 4), STUDENT[:1].expand(3, 4)):
        checks.check_extremes(lambda s, t: logit_matching_loss(s, t), student, torch.zeros_like(student))
        checks.check_extremes(lambda s, t: hard_label_loss(s, t), student, torch.zeros_like(student))
        checks.check_extremes(lambda s, y: label_smoothing_loss(s, y), student, LABELS[: len(student)])


@pytest.mark.parametrize("loss", [logit_matching_loss, hard_label_loss])
def test_bad_logits_are_named(loss) -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(5, 4\) and \(5, 3\)"):
        loss(STUDENT, TEACHER[:, :3])
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        loss(STUDENT, TEACHER.long())
    with pytest.raises(ValueError, match=r"class axis at the end, got shape \(\)"):
        loss(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"the batch is empty \(shape \(0, 4\)\)"):
        loss(STUDENT[:0], TEACHER[:0])


def test_bad_labels_and_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\], got 1.5"):
        label_smoothing_loss(STUDENT, LABELS, smoothing=1.5)
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch\.float64"):
        label_smoothing_loss(STUDENT, LABELS.double())
    with pytest.raises(ValueError, match=r"logits \(B, C\) and labels \(B,\), got \(5, 4\) and \(4,\)"):
        label_smoothing_loss(STUDENT, LABELS[:4])
    with pytest.raises(ValueError, match=r"the batch is empty \(shape \(0, 4\)\)"):
        label_smoothing_loss(STUDENT[:0], LABELS[:0])
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch\.float32"):
        virtual_teacher_logits(torch.zeros(3), num_classes=4)
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        virtual_teacher_logits(LABELS, num_classes=1)
    for confidence in (0.0, 1.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=f"confidence must be strictly between 0 and 1, got {confidence}"):
            virtual_teacher_logits(LABELS, num_classes=4, confidence=confidence)


def test_compiles_to_one_graph() -> None:
    def everything(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        virtual = virtual_teacher_logits(labels, num_classes=4)
        hard = hard_label_loss(student, teacher) + label_smoothing_loss(student, labels)
        return hard + logit_matching_loss(student, teacher + virtual)

    checks.check_compiles(everything, STUDENT, TEACHER, LABELS)


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=2.0)
    first = logit_matching_loss(student(x), teacher).item()
    for _ in range(100):
        loss = logit_matching_loss(student(x), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 1000
    assert (student(x).argmax(1) == teacher.argmax(1)).all()
