"""Overhaul and activation boundaries, checked against both papers of Heo et al. and what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.feature import activation_boundary_loss, margin_relu, negative_margin, overhaul_loss
from tests import checks

# as many channels as the maps are wide: a margin on the wrong axis would go unnoticed by torch, not by the tests
STUDENT, TEACHER = checks.randn(3, 5, 2, 5, seed=1), checks.randn(3, 5, 2, 5, seed=2)
MARGIN = torch.tensor([-0.2, -0.5, -1.0, 0.0, -2.0], dtype=torch.float64)


def batchnorm(mean: list[float], deviation: list[float]) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(len(mean)).double()
    layer.bias.data, layer.weight.data = (torch.tensor(v, dtype=torch.float64) for v in (mean, deviation))
    layer.running_mean += 7.0  # statistics before the layer, which must not matter
    layer.running_var *= 9.0
    return layer


def elements(student: Tensor, teacher: Tensor) -> list[tuple[float, float, float]]:
    """Student, teacher and margin, element by element."""
    return [
        (s, t, MARGIN[c].item())
        for b in range(len(student))
        for c in range(5)
        for s, t in zip(student[b, c].flatten().tolist(), teacher[b, c].flatten().tolist(), strict=True)
    ]


def test_overhaul_matches_the_definition() -> None:
    total = 0.0
    for s, t, m in elements(STUDENT, TEACHER):
        target = max(t, m)
        total += 0.0 if t <= 0 and s <= target else (s - target) ** 2
    assert overhaul_loss(STUDENT, TEACHER, MARGIN).item() == pytest.approx(total / STUDENT.numel(), rel=1e-12)


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_boundary_loss_matches_the_definition(margin: float) -> None:
    total = 0.0
    for s, t, _ in elements(STUDENT, TEACHER):  # the authors' two cases
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
    loss = activation_boundary_loss(STUDENT, TEACHER, margin=margin)
    assert loss.item() == pytest.approx(total / STUDENT.numel(), rel=1e-12)


def test_margin_relu_is_the_larger_of_value_and_channel_margin() -> None:
    result = margin_relu(TEACHER, MARGIN)
    for b, c, h, w in ((0, 0, 0, 0), (1, 2, 1, 4), (2, 4, 0, 3), (2, 3, 1, 1)):
        assert result[b, c, h, w] == max(TEACHER[b, c, h, w].item(), MARGIN[c].item())
    assert_close(margin_relu(TEACHER, torch.zeros(5, dtype=torch.float64)), TEACHER.relu())
    assert_close(margin_relu(TEACHER[:, :, 0, 0], MARGIN), result[:, :, 0, 0])


@pytest.mark.parametrize("mean", [-8.0, -1.0, 0.0, 0.5, 2.0, 3.0, 3.5])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 4.0])
def test_the_margin_is_the_expected_negative_response(mean: float, deviation: float) -> None:
    expected = stats.truncnorm(-math.inf, -mean / deviation, loc=mean, scale=deviation).mean()
    margin = negative_margin(batchnorm([mean, mean], [deviation, -deviation]))  # BN's weight may be negative
    assert_close(margin, torch.full((2,), expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_the_margin_is_the_mean_of_sampled_negative_responses() -> None:
    layer = batchnorm([0.5, -1.0], [1.5, 0.5])
    responses = layer(checks.randn(200_000, 2, 1, 1, seed=3, scale=3.0)).detach()
    for channel, margin in enumerate(negative_margin(layer)):
        values = responses[:, channel]
        assert values[values < 0].mean().item() == pytest.approx(margin.item(), abs=0.02)


def test_the_margin_stays_finite_and_negative_where_a_channel_is_never_or_always_negative() -> None:
    margin = negative_margin(batchnorm([50.0, -50.0, 1e6, 3.0, -3.0, 0.0], [1.0, 1.0, 1e-6, 0.0, 0.0, 0.0]))
    # far above 0 it tends to -σ²/μ, far below to the mean; a channel without spread is its mean or never negative
    assert_close(margin[:2], torch.tensor([-1 / 50, -50.0], dtype=torch.float64), rtol=1e-3, atol=0)
    assert_close(margin[2:], torch.tensor([0.0, 0.0, -3.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-9)
    assert (margin <= 0).all()
    assert_close(negative_margin(nn.BatchNorm1d(3, affine=False)), torch.full((3,), -math.sqrt(2 / math.pi)))


def test_the_margin_is_a_constant_and_leaves_the_layer_alone() -> None:
    layer = batchnorm([0.5, -1.0], [1.5, 0.5])
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert not negative_margin(layer).requires_grad
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert negative_margin(layer.half()).dtype == torch.float32


def test_known_values() -> None:
    # teacher silent: student below the target -1 is free, above it by 1.5 pays 2.25; active: off by 2 pays 4
    student, teacher = torch.tensor([[-5.0, 0.5, 1.0]]), torch.tensor([[-2.0, -2.0, 3.0]])
    assert overhaul_loss(student, teacher, -torch.ones(3)).item() == pytest.approx(6.25 / 3, rel=1e-6)
    # hinge of margin 1 on the side of 2 (right by the margin), 0.5 (short by 0.5), 0.5 (wrong by 1.5)
    student, teacher = torch.tensor([[2.0, 0.5, 0.5]]), torch.tensor([[9.0, 9.0, -9.0]])
    assert activation_boundary_loss(student, teacher).item() == pytest.approx(2.5 / 3, rel=1e-6)
    # a teacher at exactly 0 is silent, so a student at the margin below is right
    assert activation_boundary_loss(torch.tensor([[-1.0]]), torch.zeros(1, 1)) == 0


def test_the_gradient_is_exactly_zero_where_both_are_silent_and_not_elsewhere() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone()
    with torch.no_grad():
        student[0], teacher[0] = -3.0, 0.0  # a teacher at exactly 0 is silent, and the student is far below
        student[1], teacher[1] = -3.0, 1e-3  # barely active counts in full
    overhaul_loss(student, teacher, MARGIN).backward()
    target = torch.maximum(teacher, MARGIN.view(5, 1, 1))
    silent = (teacher <= 0) & (student <= target)
    assert silent.any()
    assert (~silent).any()
    assert (student.grad[silent] == 0).all()
    expected = 2 * (student - target).detach() / student.numel()
    assert_close(student.grad[~silent], expected[~silent])


def test_losses_are_zero_where_the_student_does_as_it_should_and_positive_elsewhere() -> None:
    target = margin_relu(TEACHER, MARGIN)
    assert overhaul_loss(target, TEACHER, MARGIN) == 0
    assert overhaul_loss(target - (TEACHER <= 0) * 10.0, TEACHER, MARGIN) == 0
    assert overhaul_loss(STUDENT, TEACHER, MARGIN) > 0
    side = torch.where(TEACHER > 0, 1.0, -1.0)
    assert activation_boundary_loss(1.7 * side, TEACHER) == 0
    assert activation_boundary_loss(side, TEACHER) == 0
    assert activation_boundary_loss(0.1 * TEACHER, TEACHER) > 0.1  # on the right side, but not by the margin


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_boundaries_know_only_the_teachers_sign(seed: int, scale: float) -> None:
    student, teacher = checks.randn(3, 4, seed=seed), checks.randn(3, 4, seed=seed + 1)
    plain = activation_boundary_loss(student, teacher)
    assert_close(activation_boundary_loss(student, scale * teacher), plain)
    assert_close(activation_boundary_loss(scale * student, teacher, margin=scale), scale**2 * plain)
    assert_close(activation_boundary_loss(-student, -teacher), plain)
    assert not torch.isclose(activation_boundary_loss(student, -teacher), plain)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_overhaul_squares_a_common_scale_and_ignores_how_silent_the_teacher_is(seed: int, scale: float) -> None:
    student, teacher = checks.randn(3, 5, seed=seed), checks.randn(3, 5, seed=seed + 1)
    plain = overhaul_loss(student, teacher, MARGIN)
    assert_close(overhaul_loss(scale * student, scale * teacher, scale * MARGIN), scale**2 * plain)
    deeper = torch.where(teacher < MARGIN, scale * MARGIN.clamp(max=0) - 20, teacher)
    assert_close(overhaul_loss(student, deeper, MARGIN), plain)


def test_batch_permutation_and_any_number_of_places() -> None:
    flat = (overhaul_loss(STUDENT.flatten(2), TEACHER.flatten(2), MARGIN), overhaul_loss(STUDENT, TEACHER, MARGIN))
    assert_close(*flat)
    columns = [m.permute(0, 2, 3, 1).reshape(-1, 5) for m in (STUDENT, TEACHER)]
    assert_close(overhaul_loss(*columns, MARGIN), flat[0])
    assert_close(activation_boundary_loss(*columns), activation_boundary_loss(STUDENT, TEACHER))
    checks.check_batch_permutation(lambda s, t: overhaul_loss(s, t, MARGIN), STUDENT, TEACHER, per_example=False)
    checks.check_batch_permutation(lambda s, t: activation_boundary_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t, m: overhaul_loss(s, t, m), STUDENT, TEACHER, MARGIN)
    checks.check_gradient(lambda s, t: activation_boundary_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda x: margin_relu(x, MARGIN), STUDENT)


def test_the_second_derivative_of_overhaul_is_two_where_an_element_counts_and_zero_where_it_is_free() -> None:
    student = STUDENT.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(overhaul_loss(student, TEACHER, MARGIN), student, create_graph=True)
    (diagonal,) = torch.autograd.grad(gradient.sum(), student)  # the loss is a sum over elements
    counts = (TEACHER > 0) | (torch.maximum(TEACHER, MARGIN.view(5, 1, 1)) < STUDENT)
    assert_close(diagonal, 2 * counts.double() / STUDENT.numel())


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_features_stay_finite(scale: float) -> None:
    student, teacher = (features / features.abs().max() * scale for features in (STUDENT, TEACHER))
    for features in (student, student[:1], torch.zeros_like(student), torch.ones_like(student)):
        target = teacher[: len(features)]
        checks.check_extremes(lambda s, t, m: overhaul_loss(s, t, m), features, target, MARGIN)
        checks.check_extremes(lambda s, t: activation_boundary_loss(s, t), features, target)
        checks.check_extremes(lambda s, t: activation_boundary_loss(s, t), features, torch.zeros_like(target))


def test_features_far_from_zero_keep_their_precision() -> None:
    student, teacher = (checks.randn(8, 5, 4, 4, seed=s).add(1000).float() for s in (4, 5))
    exact = overhaul_loss(student.double(), teacher.double(), MARGIN)
    assert_close(overhaul_loss(student, teacher, MARGIN.float()).double(), exact, rtol=1e-5, atol=0)
    assert overhaul_loss(student - 2000, teacher - 2000, MARGIN.float()) == 0  # both far below: exactly nothing
    exact = activation_boundary_loss(student.double(), -teacher.double())
    assert_close(activation_boundary_loss(student, -teacher).double(), exact, rtol=1e-5, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"got \(3, 5, 2, 4\) from the student and \(3, 5, 2, 5\).*adaptive_avg_pool2d"
    ):
        overhaul_loss(STUDENT[..., :4], TEACHER, MARGIN)
    with pytest.raises(ValueError, match=r"got \(3, 4, 2, 5\) from the student .*HintRegressor"):
        activation_boundary_loss(STUDENT[:, :4], TEACHER)
    with pytest.raises(
        ValueError, match=r"one value for each channel .* \(4,\) and \(3, 5, 2, 5\): see negative_margin"
    ):
        overhaul_loss(STUDENT, TEACHER, MARGIN[:4])
    with pytest.raises(ValueError, match=r"one value for each channel .* \(1, 5, 1, 1\)"):
        margin_relu(TEACHER, MARGIN.view(1, 5, 1, 1))
    with pytest.raises(TypeError, match=r"the student's features must be floating point, got torch\.int64"):
        activation_boundary_loss(STUDENT.long(), TEACHER)
    with pytest.raises(ValueError, match=r"not empty, got \(0, 5, 2, 5\)"):
        overhaul_loss(STUDENT[:0], TEACHER[:0], MARGIN)
    for margin in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=f"margin must be positive and finite, got {margin}"):
            activation_boundary_loss(STUDENT, TEACHER, margin=margin)
    with pytest.raises(TypeError, match="needs a batch norm layer, got Conv2d"):
        negative_margin(nn.Conv2d(3, 3, 1))


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t, m: overhaul_loss(s, t, m), STUDENT, TEACHER, MARGIN)
    checks.check_compiles(lambda s, t: activation_boundary_loss(s, t), STUDENT, TEACHER)


@pytest.mark.parametrize("loss", ["overhaul", "boundary"])
def test_a_tiny_student_learns_a_tiny_teacher(loss: str) -> None:
    torch.manual_seed(6)
    x = checks.randn(64, 5, seed=7)
    teacher = x @ checks.randn(5, 5, seed=8)
    student = nn.Linear(5, 5, dtype=torch.float64)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)

    def same_side() -> float:
        return ((student(x) > 0) == (teacher > 0)).double().mean().item()

    assert same_side() < 0.7
    for _ in range(300):
        features = student(x)
        value = (
            overhaul_loss(features, teacher, MARGIN)
            if loss == "overhaul"
            else activation_boundary_loss(features, teacher)
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert same_side() > 0.95
