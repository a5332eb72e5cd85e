"""Soft targets, checked against Hinton et al. 2015 and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.soft_targets import distillation_loss, kl_divergence, soft_target_loss, softened_probabilities
from tests import checks

STUDENT, TEACHER = checks.randn(5, 4, seed=1, scale=2.0), checks.randn(5, 4, seed=2, scale=2.0)
LABELS = checks.labels_for(5, 4)


def oracle_kl(student: Tensor, teacher: Tensor, temperature: float) -> list[float]:
    """Equation 1 and the definition of the divergence, in plain Python."""
    return [
        checks.kl(checks.softmax(t, temperature), checks.softmax(s, temperature))
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]


def oracle_cross_entropy(student: Tensor, labels: Tensor) -> float:
    rows = zip(student.tolist(), labels.tolist(), strict=True)
    return sum(-math.log(checks.softmax(row)[label]) for row, label in rows) / len(labels)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_probabilities_match_the_definition(temperature: float) -> None:
    expected = [checks.softmax(row, temperature) for row in TEACHER.tolist()]
    assert_close(softened_probabilities(TEACHER, temperature=temperature), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_matches_the_definition(temperature: float) -> None:
    expected = torch.tensor(oracle_kl(STUDENT, TEACHER, temperature), dtype=torch.float64)
    assert_close(kl_divergence(STUDENT, TEACHER, temperature=temperature), expected)


def test_soft_target_loss_matches_the_definition() -> None:
    expected = 9.0 * sum(oracle_kl(STUDENT, TEACHER, 3.0)) / 5
    assert soft_target_loss(STUDENT, TEACHER, temperature=3.0).item() == pytest.approx(expected, rel=1e-12)


def test_distillation_loss_matches_the_definition() -> None:
    soft = 9.0 * sum(oracle_kl(STUDENT, TEACHER, 3.0)) / 5
    expected = 0.3 * oracle_cross_entropy(STUDENT, LABELS) + 0.7 * soft
    loss = distillation_loss(STUDENT, TEACHER, LABELS, soft_weight=0.7, temperature=3.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_known_value_of_an_uneven_and_a_fair_coin() -> None:
    # teacher: softmax(log 3, 0) = (3/4, 1/4); student: (1/2, 1/2)
    # KL = 3/4 log(3/2) + 1/4 log(1/2) = log 2 - H(1/4) = 0.130812...
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    # at temperature 2 the same logits doubled give the same coin, and the loss carries 2² = 4
    assert soft_target_loss(student, 2 * teacher, temperature=2.0).item() == pytest.approx(4 * expected, rel=1e-12)


def test_defaults_are_those_of_the_course() -> None:
    explicit = distillation_loss(STUDENT, TEACHER, LABELS, soft_weight=0.9, temperature=4.0)
    assert_close(distillation_loss(STUDENT, TEACHER, LABELS), explicit, rtol=0, atol=0)
    assert_close(soft_target_loss(STUDENT, TEACHER), soft_target_loss(STUDENT, TEACHER, temperature=4.0))
    assert_close(kl_divergence(STUDENT, TEACHER), kl_divergence(STUDENT, TEACHER, temperature=1.0))


def test_kl_is_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert_close(kl_divergence(TEACHER, TEACHER), torch.zeros(5, dtype=torch.float64))
    assert (kl_divergence(STUDENT, TEACHER) > 0).all()


def test_kl_keeps_any_number_of_leading_axes() -> None:
    values = kl_divergence(STUDENT.expand(3, 2, 5, 4), TEACHER.expand(3, 2, 5, 4))
    assert_close(values, kl_divergence(STUDENT, TEACHER).expand(3, 2, 5))
    assert soft_target_loss(STUDENT[0], TEACHER[0]).shape == ()


@given(shift=st.floats(-50, 50), temperature=st.floats(0.5, 20), seed=st.integers(0, 10**6))
def test_a_shift_of_the_logits_changes_nothing(shift: float, temperature: float, seed: int) -> None:
    student, teacher = checks.randn(3, 4, seed=seed), checks.randn(3, 4, seed=seed + 1)
    plain = kl_divergence(student, teacher, temperature=temperature)
    assert_close(kl_divergence(student + shift, teacher - shift, temperature=temperature), plain)


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 20))
def test_temperature_keeps_the_order_of_classes(seed: int, temperature: float) -> None:
    logits = checks.randn(4, 6, seed=seed, scale=3.0)
    assert (softened_probabilities(logits, temperature=temperature).argsort() == logits.argsort()).all()


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: kl_divergence(s, t), STUDENT, TEACHER, per_example=True)
    checks.check_batch_permutation(lambda s, t: soft_target_loss(s, t), STUDENT, TEACHER, per_example=False)
    checks.check_batch_permutation(
        lambda s, t, y: distillation_loss(s, t, y), STUDENT, TEACHER, LABELS, per_example=False
    )


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: kl_divergence(s, t, temperature=2.0), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t: soft_target_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t, y: distillation_loss(s, t, y), STUDENT, TEACHER, LABELS)
    checks.check_gradient(lambda z: softened_probabilities(z, temperature=2.0), STUDENT)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_for_one_example_is_temperature_times_the_difference(temperature: float) -> None:
    student = STUDENT[:1].clone().requires_grad_()
    soft_target_loss(student, TEACHER[:1], temperature=temperature).backward()
    q = torch.tensor(checks.softmax(STUDENT[0].tolist(), temperature), dtype=torch.float64)
    p = torch.tensor(checks.softmax(TEACHER[0].tolist(), temperature), dtype=torch.float64)
    assert student.grad is not None
    assert_close(student.grad[0], temperature * (q - p), rtol=1e-12, atol=1e-14)


def test_high_temperature_is_logit_matching() -> None:
    # Hinton et al. 2015, Section 2.1: the loss tends to |c(z^s) - c(z^t)|² / (2C), with an error of order 1/τ
    student, teacher = checks.randn(8, 10, seed=3, scale=3.0), checks.randn(8, 10, seed=4, scale=3.0)
    difference = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    limit = (difference**2).sum(-1).mean().item() / (2 * 10)
    errors = [abs(soft_target_loss(student, teacher, temperature=t).item() - limit) / limit for t in (1e2, 1e3, 1e4)]
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_without_the_factor_the_gradient_falls_as_the_square_of_the_temperature() -> None:
    sizes = []
    for temperature in (1e3, 2e3):
        student = STUDENT.clone().requires_grad_()
        kl_divergence(student, TEACHER, temperature=temperature).mean().backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] / sizes[1] == pytest.approx(4.0, rel=0.01)


def test_soft_weight_zero_is_cross_entropy_and_one_uses_no_labels() -> None:
    hard = distillation_loss(STUDENT, TEACHER, LABELS, soft_weight=0.0)
    assert hard.item() == pytest.approx(oracle_cross_entropy(STUDENT, LABELS), rel=1e-12)
    soft = [distillation_loss(STUDENT, TEACHER, (LABELS + k) % 4, soft_weight=1.0) for k in (0, 1)]
    assert_close(soft[0], soft[1], rtol=0, atol=0)


def test_the_labels_are_met_at_temperature_one() -> None:
    # with an agreeing teacher the soft term is 0 at every temperature, so only the hard term is left
    losses = [distillation_loss(STUDENT, STUDENT, LABELS, soft_weight=0.5, temperature=t) for t in (1.0, 10.0)]
    assert_close(losses[0], losses[1])
    assert losses[0].item() == pytest.approx(oracle_cross_entropy(STUDENT, LABELS) / 2, rel=1e-12)


@pytest.mark.parametrize("scale", [60.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher, labels = checks.randn(4, 5, seed=5), checks.randn(4, 5, seed=6), checks.labels_for(4, 5)
    student, teacher = (z / z.abs().max() * scale for z in (student, teacher))
    checks.check_extremes(lambda s, t: kl_divergence(s, t), student, teacher)
    checks.check_extremes(lambda s, t: soft_target_loss(s, t, temperature=20.0), student, teacher)
    checks.check_extremes(lambda s, t, y: distillation_loss(s, t, y), student, teacher, labels)
    checks.check_extremes(lambda z: softened_probabilities(z, temperature=1.0), student)


def test_zero_and_equal_rows_and_a_batch_of_one_stay_finite() -> None:
    for student in (torch.zeros(3, 4), torch.ones(1, 4), STUDENT[:1].expand(3, 4)):
        checks.check_extremes(lambda s, t: soft_target_loss(s, t), student, torch.zeros_like(student))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(5, 4\) and \(5, 3\)"):
        kl_divergence(STUDENT, TEACHER[:, :3])
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            soft_target_loss(STUDENT, TEACHER, temperature=temperature)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        softened_probabilities(LABELS, temperature=1.0)
    with pytest.raises(ValueError, match=r"class axis at the end, got shape \(\)"):
        softened_probabilities(torch.tensor(1.0), temperature=1.0)
    with pytest.raises(ValueError, match=r"the batch is empty \(shape \(0, 4\)\)"):
        soft_target_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(ValueError, match=r"soft_weight must be in \[0, 1\], got 1.5"):
        distillation_loss(STUDENT, TEACHER, LABELS, soft_weight=1.5)
    with pytest.raises(TypeError, match=r"labels must be int64 class indices, got torch\.float64"):
        distillation_loss(STUDENT, TEACHER, LABELS.double())
    with pytest.raises(ValueError, match=r"logits \(B, C\) and labels \(B,\), got \(5, 4\) and \(4,\)"):
        distillation_loss(STUDENT, TEACHER, LABELS[:4])


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t, y: distillation_loss(s, t, y), STUDENT, TEACHER, LABELS)


@pytest.mark.skipif("sys.platform != 'linux'", reason="the Inductor back end needs a C++ compiler that is set up")
def test_compiles_with_the_full_backend() -> None:
    checks.check_compiles(lambda s, t: soft_target_loss(s, t), STUDENT, TEACHER, backend="inductor")


def test_a_learnable_temperature_gets_a_gradient() -> None:
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: soft_target_loss(STUDENT, TEACHER, temperature=t), (temperature,))


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = (x @ checks.randn(3, 4, seed=8)).detach()
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3)
    first = soft_target_loss(student(x), teacher).item()
    for _ in range(200):
        loss = soft_target_loss(student(x), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 1000
