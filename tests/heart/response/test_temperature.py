"""The learnable temperature, checked against Li et al. 2023 and against what others got wrong."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import LearnableTemperature
from kdref.soft_targets import soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(5, 4, seed=1, scale=2.0), checks.randn(5, 4, seed=2, scale=2.0)


@pytest.mark.parametrize("initial", [1.5, 4.0, 19.0])
def test_the_temperature_starts_where_it_is_told_and_stays_in_its_range(initial: float) -> None:
    temperature = LearnableTemperature(initial=initial)
    assert temperature().item() == pytest.approx(initial, rel=1e-5)
    for raw, end in ((-200.0, 1.0), (200.0, 20.0)):
        nn.init.constant_(temperature.raw, raw)
        assert temperature().item() == pytest.approx(end)
    assert dict(temperature.named_parameters()).keys() == {"raw"}
    assert LearnableTemperature()().item() == pytest.approx(4.0)


def gradient_on_temperature(reversal: float | Tensor) -> float:
    temperature = LearnableTemperature(initial=3.0).double()
    soft_target_loss(STUDENT, TEACHER, temperature=temperature(reversal=reversal)).backward()
    assert temperature.raw.grad is not None
    return temperature.raw.grad.item()


def test_the_gradient_is_reversed_with_the_given_strength() -> None:
    def loss(raw: float) -> float:
        return soft_target_loss(STUDENT, TEACHER, temperature=1 + 19 / (1 + math.exp(-raw))).item()

    raw = math.log(2 / 17)  # temperature 3
    plain = (loss(raw + 1e-5) - loss(raw - 1e-5)) / 2e-5  # through student, teacher and τ²
    assert abs(plain) > 0.1
    for strength in (1.0, 0.25):
        assert gradient_on_temperature(strength) == pytest.approx(-strength * plain, rel=1e-6)
    assert gradient_on_temperature(torch.tensor(0.25)) == pytest.approx(-0.25 * plain, rel=1e-6)
    assert gradient_on_temperature(0.0) == 0.0


def test_the_reversal_leaves_value_and_student_alone() -> None:
    temperature = LearnableTemperature(initial=3.0)
    values, gradients = [], []
    for reversal in (0.0, 0.5, 1.0):
        student = STUDENT.clone().requires_grad_()
        values.append(temperature(reversal=reversal).item())
        soft_target_loss(student, TEACHER, temperature=temperature(reversal=reversal)).backward()
        gradients.append(student.grad)
    assert values[0] == values[1] == values[2]
    assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    assert_close(gradients[2], gradients[0], rtol=0, atol=0)


def test_descent_on_the_temperature_makes_the_loss_larger() -> None:
    temperature = LearnableTemperature()
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.1)
    losses = []
    for _ in range(15):
        loss = soft_target_loss(STUDENT, TEACHER, temperature=temperature())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(later > earlier for earlier, later in itertools.pairwise(losses))


def test_a_loss_of_any_precision_takes_it() -> None:
    for dtype in checks.DTYPES:
        temperature = LearnableTemperature()
        loss = soft_target_loss(STUDENT.to(dtype), TEACHER.to(dtype), temperature=temperature())
        loss.backward()
        assert loss.dtype == torch.float32
        assert temperature.raw.grad is not None
        assert temperature.raw.grad.isfinite()


def test_its_place_is_saved_with_the_model() -> None:
    trained, fresh = LearnableTemperature(initial=7.0), LearnableTemperature()
    fresh.load_state_dict(trained.state_dict())
    assert fresh().item() == trained().item()


def test_bad_settings_are_named() -> None:
    for settings in ({"initial": 1.0}, {"initial": 20.0}, {"minimum": 0.0}, {"maximum": math.inf}):
        with pytest.raises(ValueError, match="need 0 < minimum < initial < maximum < inf, got"):
            LearnableTemperature(**settings)
    with pytest.raises(ValueError, match=r"reversal must be 0 or more and finite, got -1\.0"):
        LearnableTemperature()(reversal=-1.0)


def test_compiles_to_one_graph() -> None:
    temperature = LearnableTemperature().double()
    checks.check_compiles(lambda s, t: soft_target_loss(s, t, temperature=temperature(reversal=0.5)), STUDENT, TEACHER)
