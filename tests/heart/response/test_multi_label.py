"""Several labels at once, checked against Yang et al. 2023, against soft targets, and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import logit_matching_loss, multi_label_loss
from kdref.soft_targets import kl_divergence, soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(5, 3, seed=1, scale=2.0), checks.randn(5, 3, seed=2, scale=2.0)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def oracle(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """The mean over examples and labels of the divergence of two coins, times τ², in plain Python."""
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        q, p = sigmoid(s / temperature), sigmoid(t / temperature)
        total += checks.kl([p, 1 - p], [q, 1 - q])
    return temperature**2 * total / student.numel()


def both_classes(logits: Tensor) -> Tensor:
    """Yes at the logit, no at 0, on a last axis."""
    return torch.stack([logits, torch.zeros_like(logits)], dim=-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_matches_the_definition(temperature: float) -> None:
    loss = multi_label_loss(STUDENT, TEACHER, temperature=temperature)
    assert loss.item() == pytest.approx(oracle(STUDENT, TEACHER, temperature), rel=1e-12)


def test_known_values() -> None:
    # a fair coin against one that is sure of yes, and one that is sure of no: log 2 each
    loss = multi_label_loss(torch.zeros(1, 2), torch.tensor([[50.0, -50.0]]))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)
    # teacher ¾, student ½: ¾ log(3/2) + ¼ log(1/2); at temperature 2 the doubled logit, times 2² = 4
    teacher, expected = torch.full((1, 1), math.log(3.0)), 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert multi_label_loss(torch.zeros(1, 1), teacher).item() == pytest.approx(expected, rel=1e-6)
    doubled = multi_label_loss(torch.zeros(1, 1), 2 * teacher, temperature=2.0)
    assert doubled.item() == pytest.approx(4 * expected, rel=1e-6)


def test_the_default_temperature_is_one() -> None:
    explicit = multi_label_loss(STUDENT, TEACHER, temperature=1.0)
    assert_close(multi_label_loss(STUDENT, TEACHER), explicit, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_soft_targets_of_yes_and_no(temperature: float) -> None:
    expected = soft_target_loss(both_classes(STUDENT), both_classes(TEACHER), temperature=temperature)
    assert_close(multi_label_loss(STUDENT, TEACHER, temperature=temperature), expected, rtol=1e-12, atol=0)


def test_one_sigmoid_output_learns_where_a_softmax_over_it_could_not() -> None:
    student = torch.zeros(4, 1, requires_grad=True)
    multi_label_loss(student, torch.full((4, 1), 50.0)).backward()
    assert_close(student.grad, torch.full((4, 1), -0.5 / 4))
    flat = multi_label_loss(torch.zeros(4), torch.full((4,), 50.0))
    assert_close(flat, torch.tensor(math.log(2)))


def test_it_is_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert multi_label_loss(TEACHER, TEACHER).item() == 0.0
    assert multi_label_loss(STUDENT, TEACHER).item() > 0.1


@given(seed=st.integers(0, 10**6), shift=st.floats(0.5, 5))
def test_labels_are_apart_and_yes_and_no_may_change_places(seed: int, shift: float) -> None:
    student, teacher = checks.randn(4, 3, seed=seed), checks.randn(4, 3, seed=seed + 1)
    plain = multi_label_loss(student, teacher)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    assert_close(multi_label_loss(student[:, order], teacher[:, order]), plain)
    assert_close(multi_label_loss(-student, -teacher), plain)
    columns = [multi_label_loss(student[:, c], teacher[:, c]) for c in range(3)]
    assert_close(torch.stack(columns).mean(), plain)
    shifted = multi_label_loss(student + shift, teacher + shift)  # a shift is no matter to a softmax; here it is
    assert not torch.isclose(shifted, plain, rtol=1e-6)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: multi_label_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: multi_label_loss(s, t, temperature=2.0), STUDENT, TEACHER)
    checks.check_second_derivative(lambda s: multi_label_loss(s, TEACHER, temperature=2.0), STUDENT)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: multi_label_loss(STUDENT, TEACHER, temperature=t), (temperature,))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_is_temperature_times_the_difference(temperature: float) -> None:
    student = STUDENT.clone().requires_grad_()
    multi_label_loss(student, TEACHER, temperature=temperature).backward()
    pairs = zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True)
    expected = [temperature * (sigmoid(s / temperature) - sigmoid(t / temperature)) / 15 for s, t in pairs]
    assert_close(student.grad, torch.tensor(expected, dtype=torch.float64).reshape(5, 3), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("scale", [0.0, 60.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher = (z / z.abs().max() * scale for z in (STUDENT, TEACHER))
    for s, t in (
        (student, teacher),
        (student, -student),
        (student[:1], teacher[:1]),
        (student[:1].repeat(5, 1), teacher),
    ):
        checks.check_extremes(lambda s, t: multi_label_loss(s, t, temperature=20.0), s, t)


def test_a_student_that_is_sure_and_wrong_pays_its_logit() -> None:
    # log(1 - sigmoid(30)) is -30; the sigmoid itself is 1 in float32, whatever clips it
    loss = multi_label_loss(torch.tensor([[30.0]]), torch.tensor([[-1e4]]))
    assert loss.item() == pytest.approx(30.0, rel=1e-6)


def test_a_teacher_may_be_infinitely_sure() -> None:
    student = torch.tensor([[0.0, 1.0, -math.inf]], requires_grad=True)
    loss = multi_label_loss(student, torch.tensor([[math.inf, -math.inf, -math.inf]]))
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.e)) / 3, rel=1e-6)
    assert_close(student.grad, torch.tensor([[-0.5, sigmoid(1.0), 0.0]]) / 3)
    assert multi_label_loss(torch.tensor([[-math.inf]]), torch.zeros(1, 1)).item() == math.inf


@pytest.mark.parametrize("temperature", [1e2, 1e4, 1e6])
def test_high_temperature_is_logit_matching(temperature: float) -> None:
    # the two logits z, 0 centred are ±z/2: the mean over two classes of half the square of ±(s - t)/2 is (s - t)²/8
    limit = (STUDENT - TEACHER).square().mean() / 8
    assert_close(logit_matching_loss(both_classes(STUDENT), both_classes(TEACHER)), limit)
    loss = multi_label_loss(STUDENT.float(), TEACHER.float(), temperature=temperature)
    assert loss.item() == pytest.approx(limit.item(), rel=5 / temperature + 1e-4)


def test_a_temperature_per_example_is_one_call_per_example() -> None:
    temperature = torch.tensor([[0.5], [1.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    rows = [multi_label_loss(STUDENT[i], TEACHER[i], temperature=temperature[i].item()) for i in range(5)]
    assert_close(multi_label_loss(STUDENT, TEACHER, temperature=temperature), torch.stack(rows).mean())


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(5, 3\) and \(5, 2\)"):
        multi_label_loss(STUDENT, TEACHER[:, :2])
    with pytest.raises(ValueError, match=r"the batch is empty \(shape \(0, 3\)\)"):
        multi_label_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(
        ValueError, match=r"temperature must be a number, or one per example \(5, 1\), got shape \(5,\)"
    ):
        multi_label_loss(STUDENT, TEACHER, temperature=torch.ones(5))
    with pytest.raises(ValueError, match=r"temperature 2000000\.0 leaves rounding errors only"):
        multi_label_loss(STUDENT, TEACHER, temperature=2e6)
    with pytest.raises(
        TypeError, match=r"logits must be floating point, got torch\.int64: pass raw scores, not labels"
    ):
        multi_label_loss(STUDENT, (TEACHER > 0).long())


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: multi_label_loss(s, t, temperature=2.0), STUDENT, TEACHER)


def test_a_tiny_student_learns_which_labels_go_together() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=2.0)
    first = multi_label_loss(student(x), teacher).item()
    for _ in range(300):
        loss = multi_label_loss(student(x), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 100
    apart = (student(x) > 0).sum(dim=1)
    assert (apart == (teacher > 0).sum(dim=1)).double().mean() > 0.9
    assert kl_divergence(both_classes(student(x)), both_classes(teacher)).max() < 0.1
