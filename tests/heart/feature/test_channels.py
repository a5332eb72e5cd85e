"""Channel-wise distillation, checked against Shu et al. 2021 and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from kdref.feature import channel_wise_loss
from kdref.response import logit_matching_loss
from tests import checks

STUDENT, TEACHER = checks.randn(3, 4, 2, 5, seed=1, scale=3.0), checks.randn(3, 4, 2, 5, seed=2, scale=3.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_matches_the_definition(temperature: float) -> None:
    total = 0.0
    for b in range(3):
        for c in range(4):
            maps = (STUDENT[b, c].flatten().tolist(), TEACHER[b, c].flatten().tolist())
            q, p = (checks.softmax(places, temperature) for places in maps)
            total += checks.kl(p, q)
    expected = temperature**2 * total / (3 * 4)
    assert channel_wise_loss(STUDENT, TEACHER, temperature=temperature).item() == pytest.approx(expected, rel=1e-10)


def test_known_values() -> None:
    # even over two places, against (3/4, 1/4): 3/4 log 3/2 + 1/4 log 1/2; a second channel that agrees halves it
    even, uneven = torch.zeros(1, 1, 2), torch.tensor([[[math.log(3.0), 0.0]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert channel_wise_loss(even, uneven, temperature=1.0).item() == pytest.approx(expected, rel=1e-6)
    both = torch.cat([even, uneven], dim=1), torch.cat([uneven, uneven], dim=1)
    assert channel_wise_loss(*both, temperature=1.0).item() == pytest.approx(expected / 2, rel=1e-6)
    # at twice the temperature twice the features are the same distributions, and the loss four times as large
    assert channel_wise_loss(even, 2 * uneven, temperature=2.0).item() == pytest.approx(4 * expected, rel=1e-6)


def test_the_default_temperature_is_four() -> None:
    assert_close(
        channel_wise_loss(STUDENT, TEACHER), channel_wise_loss(STUDENT, TEACHER, temperature=4.0), rtol=0, atol=0
    )


def test_zero_where_they_agree_but_for_a_level_and_positive_elsewhere() -> None:
    level = checks.randn(3, 4, 1, 1, seed=3)
    assert channel_wise_loss(TEACHER, TEACHER) == 0
    assert_close(channel_wise_loss(TEACHER + level, TEACHER).item(), 0.0, rtol=0, atol=1e-13)
    assert channel_wise_loss(STUDENT, TEACHER) > 0
    assert channel_wise_loss(2 * TEACHER, TEACHER) > 0  # the contrast counts


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_channels_level_means_nothing_and_order_nothing_but_a_places_level_does(seed: int, shift: float) -> None:
    student, teacher = checks.randn(2, 3, 4, seed=seed), checks.randn(2, 3, 4, seed=seed + 1)
    plain = channel_wise_loss(student, teacher)
    levels = torch.tensor([shift, 0.0, -shift], dtype=torch.float64).view(3, 1)
    assert_close(channel_wise_loss(student + levels, teacher - levels), plain)
    assert not torch.isclose(channel_wise_loss(student + torch.arange(4.0) + abs(shift), teacher), plain)
    channels, places = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    assert_close(channel_wise_loss(student[:, channels][..., places], teacher[:, channels][..., places]), plain)
    assert not torch.isclose(channel_wise_loss(student[..., places], teacher), plain)


def test_a_signal_an_image_and_a_volume_of_the_same_places_are_alike() -> None:
    plain = channel_wise_loss(STUDENT, TEACHER)
    for shape in ((3, 4, 10), (3, 4, 1, 2, 5)):
        assert_close(channel_wise_loss(STUDENT.reshape(shape), TEACHER.reshape(shape)), plain)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: channel_wise_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_the_gradient_is_the_difference_of_the_distributions() -> None:
    checks.check_gradient(lambda s, t: channel_wise_loss(s, t), STUDENT, TEACHER)
    student = STUDENT.clone().requires_grad_()
    channel_wise_loss(student, TEACHER, temperature=2.0).backward()
    q, p = ((maps.detach().flatten(2) / 2).softmax(dim=2) for maps in (student, TEACHER))
    assert_close(student.grad.flatten(2), 2 * (q - p) / 12)


def test_the_teachers_detached_and_the_temperature_may_learn() -> None:
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: channel_wise_loss(STUDENT, TEACHER, temperature=t), (temperature,))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_maps_stay_finite(scale: float) -> None:
    student, teacher = (maps / maps.abs().max() * scale for maps in (STUDENT, TEACHER))
    for maps in (student, student[:1], torch.zeros_like(student), torch.ones_like(student)):
        checks.check_extremes(lambda s, t: channel_wise_loss(s, t), maps, teacher[: len(maps)])


def test_a_place_that_the_teacher_rules_out_counts_nothing() -> None:
    even, without = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, -math.inf]]])
    assert channel_wise_loss(even, without, temperature=1.0).item() == pytest.approx(math.log(1.5), rel=1e-6)
    assert channel_wise_loss(without, even, temperature=1.0).item() == math.inf


def test_a_high_temperature_is_logit_matching_over_places() -> None:
    limit = logit_matching_loss(STUDENT.flatten(2), TEACHER.flatten(2))
    for dtype in (torch.float64, torch.float32):
        loss = channel_wise_loss(STUDENT.to(dtype), TEACHER.to(dtype), temperature=1e5)
        assert loss.dtype == dtype
        assert_close(loss.double(), limit, rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match=r"temperature 2000000\.0 leaves rounding errors only"):
        channel_wise_loss(STUDENT, TEACHER, temperature=2e6)


def test_bad_input_is_named() -> None:
    for shape in ((3, 4), (3, 4, 1), (3, 4, 1, 1)):
        with pytest.raises(ValueError, match=r"of two places or more, got \(3, 4.*: see hint_loss"):
            channel_wise_loss(torch.ones(shape), torch.ones(shape))
    with pytest.raises(ValueError, match=r"got \(3, 4, 2, 4\) from the student .*adaptive_avg_pool2d"):
        channel_wise_loss(STUDENT[..., :4], TEACHER)
    with pytest.raises(ValueError, match=r"got \(3, 2, 2, 5\) from the student .*HintRegressor"):
        channel_wise_loss(STUDENT[:, :2], TEACHER)
    with pytest.raises(ValueError, match=r"not empty, got \(0, 4, 2, 5\)"):
        channel_wise_loss(STUDENT[:0], TEACHER[:0])


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: channel_wise_loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    torch.manual_seed(4)
    x = checks.randn(16, 3, 6, 6, seed=5, dtype=torch.float32)
    teacher, student = nn.Conv2d(3, 4, 3, padding=1)(x).detach(), nn.Conv2d(3, 4, 3, padding=1)
    optimizer, losses = torch.optim.Adam(student.parameters(), lr=0.02), []
    for _ in range(150):
        losses.append(channel_wise_loss(student(x), teacher, temperature=1.0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 100
