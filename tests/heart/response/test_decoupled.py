"""Decoupled losses, checked against Zhao et al. 2022 and Yang et al. 2023, and against what others got wrong."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import dkd_loss, nkd_loss, nontarget_class_divergence, target_class_divergence
from kdref.soft_targets import kl_divergence, soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(6, 4, seed=2, scale=2.0)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])  # first, middle and last class


def every() -> tuple[Callable[..., Tensor], ...]:
    """All functions, looked up when a test asks, so that the museum can put a wrong one in place."""
    return target_class_divergence, nontarget_class_divergence, dkd_loss, nkd_loss


def parts(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 1.0) -> list[Tensor]:
    return [part(student, teacher, labels, temperature=temperature) for part in every()[:2]]


def without(row: list[float], label: int) -> list[float]:
    """The other classes' probabilities, normalised to sum to 1."""
    rest = [p for c, p in enumerate(row) if c != label]
    return [p / sum(rest) for p in rest]


def oracle(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[list[float], list[float]]:
    """TCKD and NCKD per example, from their equations, in plain Python."""
    target, nontarget = [], []
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        q, p = checks.softmax(s, temperature), checks.softmax(t, temperature)
        target.append(checks.kl([p[label], 1 - p[label]], [q[label], 1 - q[label]]))
        nontarget.append(checks.kl(without(p, label), without(q, label)))
    return target, nontarget


def dkd_with_two_masks(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """The form that published codes share, with their -1000 as infinity: slower, and not finite everywhere."""
    target = F.one_hot(labels, student.shape[1]).bool()
    log_pairs, log_others = [], []
    for logits in (student / temperature, teacher / temperature):
        q = logits.softmax(1)
        log_pairs.append(torch.stack([(q * target).sum(1), (q * ~target).sum(1)], dim=1).log())
        log_others.append(logits.masked_fill(target, -math.inf).log_softmax(1).masked_fill(target, -99.0))
    parts = [
        F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1) for log_q, log_p in (log_pairs, log_others)
    ]
    return (parts[0] + 8 * parts[1]).mean() * temperature**2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_both_parts_match_the_definition(temperature: float) -> None:
    expected = oracle(STUDENT, TEACHER, LABELS, temperature)
    for part, values in zip(parts(STUDENT, TEACHER, LABELS, temperature), expected, strict=True):
        assert_close(part, torch.tensor(values, dtype=torch.float64), rtol=1e-12, atol=1e-13)


def test_dkd_matches_the_definition() -> None:
    target, nontarget = oracle(STUDENT, TEACHER, LABELS, 3.0)
    expected = 9 * sum(0.5 * a + 2.0 * b for a, b in zip(target, nontarget, strict=True)) / 6
    loss = dkd_loss(STUDENT, TEACHER, LABELS, target_weight=0.5, nontarget_weight=2.0, temperature=3.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_dkd_has_value_and_gradient_of_the_two_mask_form() -> None:
    student, teacher, labels = checks.randn(16, 50, seed=3), checks.randn(16, 50, seed=4), checks.labels_for(16, 50)
    results = []
    for loss in (dkd_loss, dkd_with_two_masks):
        leaf = student.clone().requires_grad_()
        value = loss(leaf, teacher, labels)
        value.backward()
        results.append((value.detach(), leaf.grad))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-14)


def test_known_values_of_three_classes() -> None:
    # teacher (1/2, 1/4, 1/4), student (1/4, 1/2, 1/4), label 0: TCKD = 1/2 log(2) + 1/2 log(2/3)
    # others: p (1/2, 1/2), q (2/3, 1/3), NCKD = 1/2 log(3/4) + 1/2 log(3/2)
    teacher = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log()
    student = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64).log()
    labels = torch.tensor([0])
    target, nontarget = math.log(4 / 3) / 2, math.log(9 / 8) / 2
    assert target_class_divergence(student, teacher, labels).item() == pytest.approx(target, rel=1e-12)
    assert nontarget_class_divergence(student, teacher, labels).item() == pytest.approx(nontarget, rel=1e-12)
    # at temperature 2 the doubled logits give the same three numbers, and the loss carries 2² = 4
    loss = dkd_loss(2 * student, 2 * teacher, labels, temperature=2.0)
    assert loss.item() == pytest.approx(4 * (target + 8 * nontarget), rel=1e-12)


def test_defaults_are_the_papers() -> None:
    explicit = dkd_loss(STUDENT, TEACHER, LABELS, target_weight=1.0, nontarget_weight=8.0, temperature=4.0)
    assert_close(dkd_loss(STUDENT, TEACHER, LABELS), explicit, rtol=0, atol=0)
    assert_close(target_class_divergence(STUDENT, TEACHER, LABELS), parts(STUDENT, TEACHER, LABELS)[0], rtol=0, atol=0)
    assert_close(nontarget_class_divergence(STUDENT, TEACHER, LABELS), parts(STUDENT, TEACHER, LABELS)[1])


@given(seed=st.integers(0, 10**6), classes=st.integers(3, 12), temperature=st.floats(0.5, 20), scale=st.floats(0.1, 5))
def test_the_parts_add_up_to_the_divergence(seed: int, classes: int, temperature: float, scale: float) -> None:
    student, teacher = (checks.randn(5, classes, seed=seed + k, scale=scale) for k in (0, 1))
    labels = checks.labels_for(5, classes, seed=seed)
    p_target = (teacher / temperature).softmax(-1).gather(1, labels[:, None])[:, 0]
    target, nontarget = parts(student, teacher, labels, temperature)
    whole = kl_divergence(student, teacher, temperature=temperature)
    assert_close(target + (1 - p_target) * nontarget, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_with_the_coupled_weight_is_plain_distillation(temperature: float) -> None:
    coupled = 1 - (TEACHER / temperature).softmax(-1).gather(1, LABELS[:, None])[:, 0]
    decoupled, plain = (STUDENT.clone().requires_grad_() for _ in range(2))
    loss = dkd_loss(decoupled, TEACHER, LABELS, nontarget_weight=coupled, temperature=temperature)
    expected = soft_target_loss(plain, TEACHER, temperature=temperature)
    assert_close(loss, expected, rtol=1e-12, atol=0)
    loss.backward()
    expected.backward()
    assert_close(decoupled.grad, plain.grad, rtol=1e-10, atol=1e-13)


def test_weights_may_differ_per_example_and_zero_drops_a_part() -> None:
    target, nontarget = parts(STUDENT, TEACHER, LABELS, 4.0)
    first, second = torch.arange(6.0).double(), torch.arange(6.0).double().flip(0)
    loss = dkd_loss(STUDENT, TEACHER, LABELS, target_weight=first, nontarget_weight=second)
    assert_close(loss, (first * target + second * nontarget).mean() * 16)
    assert_close(dkd_loss(STUDENT, TEACHER, LABELS, nontarget_weight=0.0), target.mean() * 16)
    assert_close(dkd_loss(STUDENT, TEACHER, LABELS, target_weight=0.0), 8 * nontarget.mean() * 16)


def test_divergences_are_zero_where_they_agree_and_positive_elsewhere() -> None:
    for agreeing, apart in zip(parts(TEACHER, TEACHER, LABELS), parts(STUDENT, TEACHER, LABELS), strict=True):
        assert_close(agreeing, torch.zeros(6, dtype=torch.float64))
        assert (apart > 0).all()
    assert dkd_loss(TEACHER, TEACHER, LABELS).item() == pytest.approx(0.0, abs=1e-14)


@given(seed=st.integers(0, 10**6), shift=st.floats(-30, 30))
def test_a_shift_of_the_logits_changes_nothing(seed: int, shift: float) -> None:
    student, teacher = checks.randn(4, 5, seed=seed), checks.randn(4, 5, seed=seed + 1)
    labels = checks.labels_for(4, 5, seed=seed)
    for loss in every():
        assert_close(loss(student + shift, teacher - shift, labels), loss(student, teacher, labels))


@given(seed=st.integers(0, 10**6), target=st.floats(-20, 20))
def test_the_nontarget_part_ignores_the_targets_logit(seed: int, target: float) -> None:
    student, teacher = checks.randn(4, 5, seed=seed), checks.randn(4, 5, seed=seed + 1)
    labels = checks.labels_for(4, 5, seed=seed)
    changed = student.scatter(1, labels[:, None], target)
    plain = nontarget_class_divergence(student, teacher, labels)
    assert_close(nontarget_class_divergence(changed, teacher, labels), plain, rtol=0, atol=0)
    moved = target_class_divergence(changed, teacher, labels) - target_class_divergence(student, teacher, labels)
    assert moved.abs().max() > 1e-6


def test_renaming_the_classes_changes_nothing() -> None:
    order = torch.tensor([2, 0, 3, 1])  # new class c is old class order[c]
    for loss in every():
        renamed = loss(STUDENT[:, order], TEACHER[:, order], order.argsort()[LABELS])
        assert_close(renamed, loss(STUDENT, TEACHER, LABELS))


def test_batch_permutation() -> None:
    for part in every()[:2]:
        checks.check_batch_permutation(part, STUDENT, TEACHER, LABELS, per_example=True)
    for loss in every()[2:]:
        checks.check_batch_permutation(loss, STUDENT, TEACHER, LABELS, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for loss in every():
        checks.check_gradient(lambda s, t, y, loss=loss: loss(s, t, y, temperature=2.0), STUDENT, TEACHER, LABELS)
        # and a learnable temperature, through both sides
        assert torch.autograd.gradcheck(
            lambda t, loss=loss: loss(STUDENT, TEACHER, LABELS, temperature=t), (temperature,), raise_exception=False
        )


@pytest.mark.parametrize("scale", [60.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher, labels = checks.randn(6, 5, seed=5), checks.randn(6, 5, seed=6), checks.labels_for(6, 5)
    student, teacher = (z / z.abs().amax(1, keepdim=True) * scale for z in (student, teacher))
    sure = student.scatter(1, labels[:, None], scale)  # of the label; its negative, that it is wrong
    for s, t in ((student, teacher), (sure, -sure), (-sure, sure), (sure, sure)):
        for loss in every():
            checks.check_extremes(lambda s, t, y, loss=loss: loss(s, t, y, temperature=1.0), s, t, labels)


def test_float32_keeps_the_small_parts_of_a_sure_teacher() -> None:
    # a teacher sure at 1 - 1e-10: in float32 p_y is 1, so log p_y and log(1 - p_y) must not be built from it
    teacher, student = (checks.randn(6, 5, seed=k).scatter(1, torch.zeros(6, 1).long(), 25.0) for k in (1, 2))
    labels = torch.zeros(6).long()
    exact = parts(student, teacher, labels)
    for single, double in zip(parts(student.float(), teacher.float(), labels), exact, strict=True):
        assert_close(single.double(), double, rtol=1e-3, atol=0)


def test_zero_and_equal_rows_and_a_batch_of_one_stay_finite() -> None:
    for student in (torch.zeros(3, 4), torch.ones(1, 4), STUDENT[:1].expand(3, 4)):
        for loss in every():
            checks.check_extremes(loss, student, student * 0, LABELS[: len(student)])


def test_two_classes_leave_only_the_target_part() -> None:
    student, teacher, labels = STUDENT[:, :2], TEACHER[:, :2], LABELS % 2
    assert_close(target_class_divergence(student, teacher, labels), kl_divergence(student, teacher))
    p = teacher.softmax(-1).gather(1, labels[:, None])[:, 0]
    assert_close(nkd_loss(student, teacher, labels), (p * F.cross_entropy(student, labels, reduction="none")).mean())
    for loss in (nontarget_class_divergence, dkd_loss):
        with pytest.raises(ValueError, match="needs at least 3 classes, got 2"):
            loss(student, teacher, labels)
    for loss in (target_class_divergence, nkd_loss):
        with pytest.raises(ValueError, match="one class can only be right"):
            loss(student[:, :1], teacher[:, :1], labels * 0)


@pytest.mark.parametrize("loss", every())
def test_bad_input_is_named(loss) -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(6, 4\) and \(6, 3\)"):
        loss(STUDENT, TEACHER[:, :3], LABELS)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        loss(STUDENT, TEACHER.long(), LABELS)
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch\.float64"):
        loss(STUDENT, TEACHER, LABELS.double())
    with pytest.raises(ValueError, match=r"logits \(B, C\) and labels \(B,\), got \(6, 4\) and \(5,\)"):
        loss(STUDENT, TEACHER, LABELS[:5])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            loss(STUDENT, TEACHER, LABELS, temperature=temperature)


def test_bad_weights_and_an_empty_batch_are_named() -> None:
    with pytest.raises(ValueError, match=r"target_weight must be a number or \(6,\), got shape \(6, 1\)"):
        dkd_loss(STUDENT, TEACHER, LABELS, target_weight=torch.ones(6, 1))
    with pytest.raises(ValueError, match=r"nontarget_weight must be 0 or more and finite, got -1"):
        dkd_loss(STUDENT, TEACHER, LABELS, nontarget_weight=-1)
    with pytest.raises(ValueError, match=r"soft_weight must be 0 or more and finite, got -0\.5"):
        nkd_loss(STUDENT, TEACHER, LABELS, soft_weight=-0.5)
    for loss in every()[2:]:
        with pytest.raises(ValueError, match=r"the batch is empty \(shape \(0, 4\)\)"):
            loss(STUDENT[:0], TEACHER[:0], LABELS[:0])


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t, y: sum(loss(s, t, y).mean() for loss in every()), STUDENT, TEACHER, LABELS)


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    first = dkd_loss(student(x), teacher, teacher.argmax(1)).item()
    for _ in range(200):
        loss = dkd_loss(student(x), teacher, teacher.argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 1000
