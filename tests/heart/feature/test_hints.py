"""Hints and variational hints, checked against FitNets and VID and against what others got wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.feature import HintRegressor, VariationalRegressor, hint_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 3, 2, 5, seed=1), checks.randn(4, 3, 2, 5, seed=2)
WIDE_TEACHER = checks.randn(4, 6, 2, 5, seed=3)


def variational(dtype: torch.dtype = torch.float64, student: int = 3, teacher: int = 6) -> VariationalRegressor:
    torch.manual_seed(3)
    regressor = VariationalRegressor(student, teacher).to(dtype)
    regressor.raw_variance.data += checks.randn(teacher, seed=4, dtype=dtype)
    return regressor


def linear(weight: Tensor, x: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in weight.tolist()]


def test_hint_loss_matches_the_definition() -> None:
    pairs = list(zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True))
    expected = sum((s - t) ** 2 for s, t in pairs) / len(pairs)
    assert hint_loss(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-12)


def test_regressor_matches_the_definition_at_every_place() -> None:
    regressor = HintRegressor(3, 6).double()
    weight, bias = regressor.projection.weight.detach().squeeze(-1), regressor.projection.bias.detach()
    result = regressor(STUDENT)
    for b, h, w in ((0, 0, 0), (3, 1, 4), (2, 0, 3)):
        expected = torch.tensor(linear(weight, STUDENT[b, :, h, w].tolist()), dtype=torch.float64) + bias
        assert_close(result[b, :, h, w], expected)


def test_variational_loss_matches_the_definition() -> None:
    regressor = variational()
    layers = [layer.weight.detach().squeeze(-1) for layer in list(regressor.mean)[::2]]
    total = 0.0
    for b, h, w in ((b, h, w) for b in range(4) for h in range(2) for w in range(5)):
        hidden = [max(0.0, value) for value in linear(layers[0], STUDENT[b, :, h, w].tolist())]
        hidden = [max(0.0, value) for value in linear(layers[1], hidden)]
        for c, mean in enumerate(linear(layers[2], hidden)):
            variance = math.log(1 + math.exp(regressor.raw_variance[c].item())) + 1e-6
            residual = WIDE_TEACHER[b, c, h, w].item() - mean
            total += 0.5 * (math.log(variance) + residual**2 / variance)
    assert regressor.loss(STUDENT, WIDE_TEACHER).item() == pytest.approx(total / (4 * 6 * 2 * 5), rel=1e-12)


def test_known_value_of_hints_and_of_a_variational_hint() -> None:
    # differences 0, 3 and -1: (0 + 9 + 1) / 3
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 5.0, 2.0]])
    assert hint_loss(student, teacher).item() == pytest.approx(10 / 3, rel=1e-6)
    # no bias, so the mean of a zero student is 0: ½ (log 4 + 3² / 4)
    regressor = VariationalRegressor(2, 5, initial_variance=4.0)
    loss = regressor.loss(torch.zeros(1, 2), torch.full((1, 5), 3.0))
    assert loss.item() == pytest.approx(0.5 * (math.log(4.0) + 9 / 4), rel=1e-6)


def test_hint_loss_is_the_mean_over_every_element_whatever_the_size() -> None:
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5), (7, 8, 1, 1)):
        assert hint_loss(torch.zeros(shape), torch.full(shape, 3.0)).item() == pytest.approx(9.0)


def test_hint_loss_is_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert hint_loss(TEACHER, TEACHER) == 0
    assert hint_loss(STUDENT, TEACHER) > 0


def test_the_initial_variance_is_what_was_asked_for() -> None:
    for initial in (0.001, 1.0, 5.0, 100.0):
        variance = VariationalRegressor(2, 3, initial_variance=initial).variance
        assert_close(variance, torch.full((3,), initial), rtol=1e-5, atol=0)
    assert_close(VariationalRegressor(2, 3).variance, torch.full((3,), 5.0))


def test_for_a_fixed_mean_the_best_variance_is_the_mean_squared_residual() -> None:
    regressor = variational()
    teacher = WIDE_TEACHER * torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 9.0], dtype=torch.float64).view(-1, 1, 1)
    with torch.no_grad():
        residual = (teacher - regressor(STUDENT)).square().mean(dim=(0, 2, 3))
        regressor.raw_variance.copy_((residual - regressor.eps).expm1().log())  # softplus undone
    assert_close(regressor.variance, residual)
    regressor.loss(STUDENT, teacher).backward()
    assert_close(regressor.raw_variance.grad, torch.zeros(6, dtype=torch.float64))
    best = regressor.loss(STUDENT, teacher).item()
    for shift in (-0.3, 0.3):
        with torch.no_grad():
            regressor.raw_variance += shift
        assert regressor.loss(STUDENT, teacher).item() > best
        with torch.no_grad():
            regressor.raw_variance -= shift


def test_a_confident_and_right_variational_hint_is_negative() -> None:
    regressor = VariationalRegressor(2, 3, initial_variance=0.01)
    assert regressor.loss(torch.zeros(4, 2), torch.zeros(4, 3)).item() == pytest.approx(math.log(0.01) / 2, rel=1e-4)


def test_the_variance_never_falls_below_eps_and_never_overflows() -> None:
    regressor = VariationalRegressor(2, 3, eps=1e-3)
    regressor.raw_variance.data = torch.tensor([-1e4, 0.0, 1e4])
    assert_close(regressor.variance, torch.tensor([1e-3, math.log(2.0) + 1e-3, 1e4 + 1e-3]))
    loss = regressor.loss(torch.zeros(4, 2), torch.ones(4, 3))
    loss.backward()
    assert loss.isfinite()
    assert regressor.raw_variance.grad.isfinite().all()


def test_a_channels_weight_is_one_over_its_own_variance() -> None:
    # the gradient on a residual of 1 is 1 / (N σ²), channel by channel and not place by place
    regressor = variational(teacher=5)  # as many channels as the maps are wide
    mean = torch.zeros(2, 5, 3, 5, dtype=torch.float64, requires_grad=True)
    regressor.forward = lambda features: mean
    regressor.loss(mean, torch.ones(2, 5, 3, 5, dtype=torch.float64)).backward()
    expected = -1 / (2 * 5 * 3 * 5 * regressor.variance.detach())
    assert_close(mean.grad, expected.view(1, -1, 1, 1).expand(2, 5, 3, 5))


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
def test_hint_loss_ignores_a_common_shift_and_squares_a_common_scale(seed: int, shift: float, scale: float) -> None:
    student, teacher = checks.randn(3, 4, seed=seed), checks.randn(3, 4, seed=seed + 1)
    plain = hint_loss(student, teacher)
    assert_close(hint_loss(student + shift, teacher + shift), plain)
    assert_close(hint_loss(scale * student, scale * teacher), scale**2 * plain)
    assert not torch.isclose(hint_loss(student + 1 + abs(shift), teacher), plain)  # a shift of one side counts


@pytest.mark.parametrize("shape", [(4,), (4, 7), (4, 3, 5), (4, 2, 3, 4)], ids=["vector", "1-D", "2-D", "3-D"])
def test_regressors_work_on_vectors_signals_images_and_volumes(shape: tuple[int, ...]) -> None:
    batch, *places = shape
    features = checks.randn(batch, 3, *places, seed=5)
    for regressor in (HintRegressor(3, 6).double(), variational()):
        result = regressor(features)
        assert result.shape == (batch, 6, *places)
        flat = regressor(features.reshape(batch, 3, -1)[..., -1])  # the last place alone, as a vector
        assert_close(result.reshape(batch, 6, -1)[..., -1], flat)


def test_the_regressor_is_a_convolution_of_size_one_with_torchs_initial_weights() -> None:
    regressor, convolution = HintRegressor(3, 6), nn.Conv2d(3, 6, 1)
    convolution.load_state_dict({"weight": regressor.projection.weight[..., None], "bias": regressor.projection.bias})
    assert_close(regressor(STUDENT.float()), convolution(STUDENT.float()))
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 6, 1).weight
    torch.manual_seed(0)
    assert_close(HintRegressor(3, 6).projection.weight.unsqueeze(-1), expected)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: hint_loss(s, t), STUDENT, TEACHER, per_example=False)
    checks.check_batch_permutation(lambda s, t: variational().loss(s, t), STUDENT, WIDE_TEACHER, per_example=False)


def test_gradients_reach_the_student_and_the_regressor_only() -> None:
    checks.check_gradient(lambda s, t: hint_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t: variational().loss(s, t), STUDENT, WIDE_TEACHER)
    regressor = variational()
    regressor.loss(STUDENT, WIDE_TEACHER).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in regressor.parameters())


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_features_stay_finite(scale: float) -> None:
    student, teacher = STUDENT / STUDENT.abs().max() * scale, WIDE_TEACHER / WIDE_TEACHER.abs().max() * scale
    checks.check_extremes(lambda s, t: hint_loss(s, t), student, teacher[:, :3])
    checks.check_extremes(lambda s, t: hint_loss(s, t), torch.zeros(1, 3), torch.zeros(1, 3))
    for features in (student, student[:1], torch.zeros_like(student)):
        checks.check_extremes(
            lambda s, t: variational(torch.promote_types(s.dtype, torch.float32)).loss(s, t),
            features,
            teacher[: len(features)],
        )


def test_features_far_from_zero_keep_their_precision() -> None:
    student, teacher = (checks.randn(16, 8, 4, 4, seed=s).add(1000).float() for s in (6, 7))
    assert_close(hint_loss(student, teacher).double(), hint_loss(student.double(), teacher.double()), rtol=1e-5, atol=0)
    regressor = variational(student=8, teacher=8)
    exact = regressor.loss(student.double(), teacher.double())
    assert_close(regressor.float().loss(student, teacher).double(), exact, rtol=1e-5, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 3, 2, 5\) from the student and \(4, 6, 2, 5\).*HintRegressor"):
        hint_loss(STUDENT, WIDE_TEACHER)
    with pytest.raises(ValueError, match=r"got \(4, 3, 2, 4\) .* \(4, 3, 2, 5\).*adaptive_avg_pool2d"):
        hint_loss(STUDENT[..., :4], TEACHER)
    with pytest.raises(ValueError, match=r"got \(4, 6, 2, 4\) .* \(4, 6, 2, 5\).*adaptive_avg_pool2d"):
        variational().loss(STUDENT[..., :4], WIDE_TEACHER)
    with pytest.raises(TypeError, match=r"the teacher's features must be floating point, got torch\.int64"):
        hint_loss(STUDENT, TEACHER.long())
    with pytest.raises(ValueError, match=r"not empty, got \(0, 3, 2, 5\)"):
        hint_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(ValueError, match=r"must be \(B, C, \.\.\.\), not empty, got \(4,\)"):
        hint_loss(STUDENT[:, 0, 0, 0], TEACHER[:, 0, 0, 0])
    with pytest.raises(ValueError, match=r"expected features \(B, 5, \.\.\.\), got shape \(4, 3, 2, 5\)"):
        HintRegressor(5, 6)(STUDENT)
    with pytest.raises(ValueError, match="student_channels must be at least 1, got 0"):
        HintRegressor(0, 4)
    with pytest.raises(ValueError, match=r"need 0 < eps < initial_variance < inf, got 1\.0 and 0\.5"):
        VariationalRegressor(3, 4, initial_variance=0.5, eps=1.0)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: hint_loss(s, t), STUDENT, TEACHER)
    regressor = variational()
    checks.check_compiles(lambda s, t: regressor.loss(s, t), STUDENT, WIDE_TEACHER)


@pytest.mark.parametrize("kind", ["hint", "variational"])
def test_a_tiny_student_learns_a_tiny_teacher(kind: str) -> None:
    torch.manual_seed(8)
    x = checks.randn(64, 3, seed=9)
    teacher = torch.cat([x @ checks.randn(3, 4, seed=10), checks.randn(64, 4, seed=11)], dim=1)  # four are only noise
    student = nn.Linear(3, 3, dtype=torch.float64)
    regressor = (HintRegressor if kind == "hint" else VariationalRegressor)(3, 8).double()
    optimizer = torch.optim.Adam([*student.parameters(), *regressor.parameters()], lr=0.03)
    for _ in range(300):
        features = student(x)
        loss = hint_loss(regressor(features), teacher) if kind == "hint" else regressor.loss(features, teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    residual = F.mse_loss(regressor(student(x)), teacher, reduction="none").mean(0)
    assert residual[:4].max() < 0.1
    assert residual[4:].min() > 0.3
    if kind == "variational":  # it has found out which channels can't be predicted
        assert regressor.variance[4:].min() > 3 * regressor.variance[:4].max()
