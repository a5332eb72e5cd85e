"""Soft targets: what people hand to them, besides two tensors that fit."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from kdref import soft_targets
from kdref.soft_targets import distillation_loss, kl_divergence, soft_target_loss, softened_probabilities
from tests import checks, inputs
from tests.inputs import Call

LOSSES = [Call(soft_targets, "soft_target_loss", "zz"), Call(soft_targets, "distillation_loss", "zzy")]
OF_TWO = [Call(soft_targets, "kl_divergence", "zz"), *LOSSES]
CALLS = [Call(soft_targets, "softened_probabilities", "z", {"temperature": 2.0}), *OF_TWO]
LACKS = torch.tensor([[0.0, 0.0, -math.inf]])


# The same checks as for every topic


@pytest.mark.parametrize("check", inputs.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    check(call)


@pytest.mark.parametrize("check", [inputs.check_temperature_per_example, inputs.check_missing_class])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_that_can_passes(check, call: Call) -> None:
    check(call)


@pytest.mark.parametrize("call", LOSSES, ids=str)
def test_large_temperatures_and_empty_batches(call: Call) -> None:
    inputs.check_large_temperature(call)
    inputs.check_empty(call, refused=True)


def test_no_example_has_no_divergence() -> None:
    inputs.check_empty(CALLS[0], refused=False)
    inputs.check_empty(OF_TWO[0], refused=False)


# A class that one side lacks


def test_known_values_of_a_teacher_that_lacks_a_class() -> None:
    # teacher (½, ½, 0), student thirds: ½ log(3/2) twice; the third class counts nothing
    fair = torch.zeros(1, 3)
    assert soft_target_loss(fair, LACKS, temperature=1.0).item() == pytest.approx(math.log(3) - math.log(2), abs=1e-6)
    # teacher (0.9, 0.1, 0): log 3 - H = 1.0986 - 0.3251
    teacher = torch.tensor([[0.9, 0.1, 0.0]]).log()
    expected = 0.9 * math.log(2.7) + 0.1 * math.log(0.3)
    assert kl_divergence(fair, teacher).item() == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.7735, abs=1e-4)
    # the labels' half too: ½ log 3 + ½ · 0.4055
    loss = distillation_loss(fair, LACKS, torch.tensor([0]), soft_weight=0.5, temperature=1.0)
    assert loss.item() == pytest.approx(math.log(3) - math.log(2) / 2, abs=1e-6)


def test_a_class_that_both_lack_counts_nothing() -> None:
    student, teacher = checks.randn(5, 4, seed=1), checks.randn(5, 4, seed=2)
    wider = [torch.cat([z, torch.full((5, 1), -math.inf)], dim=1) for z in (student, teacher)]
    for temperature in (1.0, 4.0):
        expected = kl_divergence(student, teacher, temperature=temperature)
        assert_close(kl_divergence(*wider, temperature=temperature), expected)


def test_a_class_that_only_the_student_lacks_is_infinite() -> None:
    assert kl_divergence(LACKS, torch.zeros(1, 3)).tolist() == [math.inf]
    assert soft_target_loss(LACKS, torch.zeros(1, 3)).item() == math.inf
    # but a probability that a teacher's logits leave at 0 is 0, and not 0 · ∞
    assert kl_divergence(LACKS, torch.tensor([[0.0, 0.0, -500.0]])).tolist() == [0.0]


def test_a_student_that_is_sure_and_wrong_pays_its_logit() -> None:
    # teacher (1, 0) within 1e-13, student logits 0 and 30: log 1 - (0 - 30) = 30, and a gradient of q - p = ±1
    student = torch.tensor([[0.0, 30.0]], requires_grad=True)
    loss = soft_target_loss(student, torch.tensor([[30.0, 0.0]]), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(30.0)
    assert_close(student.grad, torch.tensor([[-1.0, 1.0]]))


def test_the_gradient_past_a_missing_class_is_that_of_the_others() -> None:
    student = torch.tensor([[1.0, -1.0, 0.5]], requires_grad=True)
    soft_target_loss(student, LACKS, temperature=1.0).backward()
    q, p = student.detach().softmax(-1), torch.tensor([[0.5, 0.5, 0.0]])
    assert_close(student.grad, q - p)
    both = torch.tensor([[1.0, -1.0, -math.inf]], requires_grad=True)
    soft_target_loss(both, LACKS, temperature=1.0).backward()
    assert_close(both.grad, torch.cat([both.detach()[:, :2].softmax(-1) - 0.5, torch.zeros(1, 1)], dim=1))


def test_a_missing_class_allows_a_second_derivative() -> None:
    checks.check_second_derivative(lambda z: soft_target_loss(z, LACKS.double()), checks.randn(1, 3, seed=3))


# Axes


def test_one_pixel_has_the_divergence_of_its_classes() -> None:
    # an undecided student and a sure teacher of two classes: KL((1, 0) ‖ (½, ½)) = log 2
    student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([50.0, 0.0]).reshape(1, 2, 1, 1)
    assert soft_target_loss(student, teacher, temperature=1.0, class_dim=1).item() == pytest.approx(math.log(2))
    assert kl_divergence(student, teacher, class_dim=1).shape == (1, 1, 1)


@pytest.mark.parametrize("class_dim", [0, 1, 2, 3])
def test_any_axis_may_hold_the_classes(class_dim: int) -> None:
    student, teacher = checks.randn(2, 3, 5, 4, seed=1), checks.randn(2, 3, 5, 4, seed=2)
    labels = checks.labels_for(30, 4).reshape(2, 3, 5)
    moved = student.movedim(-1, class_dim), teacher.movedim(-1, class_dim)
    expected = softened_probabilities(student, temperature=2.0)
    found = softened_probabilities(moved[0], temperature=2.0, class_dim=class_dim)
    assert_close(found.movedim(class_dim, -1), expected)
    assert_close(kl_divergence(*moved, class_dim=class_dim), kl_divergence(student, teacher))
    assert_close(soft_target_loss(*moved, class_dim=class_dim), soft_target_loss(student, teacher))
    loss = distillation_loss(*moved, labels, class_dim=class_dim)
    assert_close(loss, distillation_loss(student, teacher, labels))
    assert_close(loss, distillation_loss(student.reshape(30, 4), teacher.reshape(30, 4), labels.reshape(30)))


def test_dense_losses_compile_to_one_graph() -> None:
    student, teacher = checks.randn(2, 4, 3, 3, seed=1), checks.randn(2, 4, 3, 3, seed=2)
    labels = checks.labels_for(18, 4).reshape(2, 3, 3)
    checks.check_compiles(lambda s, t, y: distillation_loss(s, t, y, class_dim=1), student, teacher, labels)


# Labels


def oracle_cross_entropy(student: Tensor, targets: list[list[float]]) -> float:
    rows = zip(student.tolist(), targets, strict=True)
    terms = [-p * math.log(q) for s, t in rows for p, q in zip(t, checks.softmax(s), strict=True)]
    return sum(terms) / len(targets)


def test_soft_labels_of_mixup_are_met_as_they_are() -> None:
    # uniform logits: cross-entropy log 3 whatever the label; agreeing teacher: no divergence; the labels' share is 0.1
    uniform, mixed = torch.zeros(1, 3), torch.tensor([[0.7, 0.3, 0.0]])
    loss = distillation_loss(uniform, uniform, mixed)
    assert loss.item() == pytest.approx(0.1 * math.log(3))
    assert loss.item() == pytest.approx(0.1099, abs=1e-4)
    student, targets = checks.randn(6, 3, seed=1, scale=2.0), checks.randn(6, 3, seed=2).softmax(-1)
    hard = distillation_loss(student, student, targets, soft_weight=0.0)
    assert hard.item() == pytest.approx(oracle_cross_entropy(student, targets.tolist()), rel=1e-12)


def test_soft_labels_that_are_certain_are_class_indices() -> None:
    student, teacher, labels = checks.randn(6, 3, seed=1), checks.randn(6, 3, seed=2), checks.labels_for(6, 3)
    soft = F.one_hot(labels, 3).float()
    assert_close(distillation_loss(student, teacher, soft), distillation_loss(student, teacher, labels))
    dense = student.reshape(1, 6, 3).mT, teacher.reshape(1, 6, 3).mT, soft.reshape(1, 6, 3).mT
    assert_close(distillation_loss(*dense, class_dim=1), distillation_loss(student, teacher, labels))


def test_a_soft_labels_zero_on_a_class_that_the_student_lacks_counts_nothing() -> None:
    student = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    loss = distillation_loss(student, LACKS, torch.tensor([[0.5, 0.5, 0.0]]), soft_weight=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2)
    assert_close(student.grad, torch.zeros(1, 3))


def test_soft_labels_get_no_gradient_and_may_come_from_inference_mode() -> None:
    student, teacher = checks.randn(6, 3, seed=1).requires_grad_(), checks.randn(6, 3, seed=2)
    labels = checks.randn(6, 3, seed=3).softmax(-1).requires_grad_()
    distillation_loss(student, teacher, labels).backward()
    assert labels.grad is None
    with torch.inference_mode():
        labels = teacher.softmax(-1)
    distillation_loss(student, teacher, labels).backward()


def test_an_example_without_a_label_keeps_its_soft_target_and_leaves_the_mean_of_the_others() -> None:
    student, teacher = checks.randn(4, 3, seed=1, scale=2.0), checks.randn(4, 3, seed=2, scale=2.0)
    labels = torch.tensor([2, -100, 0, -100])
    hard = oracle_cross_entropy(student[::2], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    soft = soft_target_loss(student, teacher).item()  # over all four
    loss = distillation_loss(student, teacher, labels, soft_weight=0.3)
    assert loss.item() == pytest.approx(0.7 * hard + 0.3 * soft, rel=1e-12)


def test_where_nobody_has_a_label_the_teacher_alone_is_left() -> None:
    student, teacher = checks.randn(4, 3, seed=1).requires_grad_(), checks.randn(4, 3, seed=2)
    loss = distillation_loss(student, teacher, torch.full((4,), -100), soft_weight=0.3)
    assert_close(loss, 0.3 * soft_target_loss(student, teacher))
    loss.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_labels_that_do_not_fit_are_named() -> None:
    z = checks.randn(5, 4, seed=1)
    inputs.check_labels(LOSSES[1])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), or -100 for no label, got 9"):
        distillation_loss(z, z, torch.tensor([0, 1, 9, 3, -100]))
    with pytest.raises(TypeError, match=r"got torch\.float64: soft ones need the logits' shape"):
        distillation_loss(z, z, z[:, :3].softmax(-1))
    with pytest.raises(TypeError, match=r"got torch\.int32: convert them with labels\.long\(\)"):
        distillation_loss(z, z, torch.zeros(5, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"expected logits \(B, C\) and labels \(B,\), got \(5, 4\) and \(5, 1\)"):
        distillation_loss(z, z, torch.zeros(5, 1, dtype=torch.int64))


# Temperatures


@pytest.mark.parametrize("temperature", [1e3, 1e4, 1e6])
def test_in_float32_a_large_temperature_is_logit_matching(temperature: float) -> None:
    student, teacher = checks.randn(8, 10, seed=3, scale=3.0), checks.randn(8, 10, seed=4, scale=3.0)
    difference = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    limit = (difference**2).sum(-1).mean().item() / (2 * 10)
    loss = soft_target_loss(student.float(), teacher.float(), temperature=temperature)
    assert loss.item() == pytest.approx(limit, rel=20 / temperature + 1e-4)


def test_a_tensor_of_one_number_is_a_number() -> None:
    student, teacher = checks.randn(5, 4, seed=1), checks.randn(5, 4, seed=2)
    found = soft_target_loss(student, teacher, temperature=torch.tensor(3.0))
    assert_close(found, soft_target_loss(student, teacher, temperature=3.0))


def test_weights_that_are_no_share_are_named() -> None:
    z, labels = checks.randn(5, 4, seed=1), checks.labels_for(5, 4)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"soft_weight must be in \[0, 1\], got {weight}"):
            distillation_loss(z, z, labels, soft_weight=weight)
    with pytest.raises(TypeError, match=r"soft_weight must be a number, got tensor\(0\.5000\)"):
        distillation_loss(z, z, labels, soft_weight=torch.tensor(0.5))
