"""Losses up to shift and scale, checked against Sun et al. 2024 and Huang et al. 2022, and against others' bugs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import dist_loss, standardize_logits, standardized_kd_loss
from kdref.soft_targets import soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(6, 4, seed=2, scale=2.0)


def z_scores(row: list[float], divisor: int) -> list[float]:
    """Z-scores in plain Python; those of a constant are 0."""
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / divisor)
    return [(value - mean) / deviation if max(row) > min(row) else 0.0 for value in row]


def oracle_standardized(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = (checks.softmax(z_scores(row, len(row) - 1), temperature) for row in (s, t))
        total += temperature**2 * checks.kl(p, q)
    return total / len(student)


def oracle_distance(u: list[float], v: list[float]) -> float:
    """One minus the correlation, as half the mean squared difference of population z-scores."""
    pairs = zip(z_scores(u, len(u)), z_scores(v, len(v)), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) / (2 * len(u))


def oracle_dist(student: Tensor, teacher: Tensor, inter: float, intra: float, temperature: float) -> float:
    q, p = ([checks.softmax(row, temperature) for row in z.tolist()] for z in (student, teacher))
    rows = [oracle_distance(u, v) for u, v in zip(q, p, strict=True)]
    columns = [
        oracle_distance(list(u), list(v)) for u, v in zip(zip(*q, strict=True), zip(*p, strict=True), strict=True)
    ]
    return temperature**2 * (inter * sum(rows) / len(rows) + intra * sum(columns) / len(columns))


def terms(student: Tensor, teacher: Tensor) -> list[float]:
    """Inter and intra term of DIST, one by one."""
    weights = ((1.0, 0.0), (0.0, 1.0))
    return [dist_loss(student, teacher, inter_weight=a, intra_weight=b).item() for a, b in weights]


def test_z_scores_match_the_definition() -> None:
    expected = [z_scores(row, 3) for row in TEACHER.tolist()]
    assert_close(standardize_logits(TEACHER, eps=0.0), torch.tensor(expected, dtype=torch.float64))
    value = standardize_logits(torch.tensor([[0.0, 2.0]]).double(), eps=0.5)  # ±1 over (√2 + 0.5)
    assert_close(value, torch.tensor([[-1.0, 1.0]]).double() / (math.sqrt(2) + 0.5))
    assert_close(standardize_logits(TEACHER), standardize_logits(TEACHER, eps=1e-7), rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_standardized_kd_matches_the_definition(temperature: float) -> None:
    expected = oracle_standardized(STUDENT, TEACHER, temperature)
    loss = standardized_kd_loss(STUDENT, TEACHER, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-6)  # the default eps is 1e-7 of a standard deviation of 1


def test_standardized_kd_is_soft_targets_of_z_scores() -> None:
    expected = soft_target_loss(standardize_logits(STUDENT), standardize_logits(TEACHER), temperature=2.0)
    assert_close(standardized_kd_loss(STUDENT, TEACHER), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_matches_the_definition(temperature: float) -> None:
    expected = oracle_dist(STUDENT, TEACHER, 2.0, 0.5, temperature)
    loss = dist_loss(STUDENT, TEACHER, inter_weight=2.0, intra_weight=0.5, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_dist_is_one_minus_pearsons_correlation() -> None:
    q, p = (z.softmax(1).numpy() for z in (STUDENT, TEACHER))
    rows = [1 - np.corrcoef(q[i], p[i])[0, 1] for i in range(6)]
    columns = [1 - np.corrcoef(q[:, c], p[:, c])[0, 1] for c in range(4)]
    assert terms(STUDENT, TEACHER) == pytest.approx([np.mean(rows), np.mean(columns)], rel=1e-12)


def test_known_values() -> None:
    # z-scores (-1, 0, 1) and (0, -1, 1); at temperature 1, S = e + 1 + 1/e:
    # KL = sum p (z^t - z^s) = (1/S)(0 + 1) + (1/(eS))(-1 - 0) + (e/S)(1 - 1)
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.tensor([[0.0, -7.0, 7.0]]).double()
    expected = (1 - 1 / math.e) / (math.e + 1 + 1 / math.e)
    assert standardized_kd_loss(student, teacher, temperature=1.0).item() == pytest.approx(expected, rel=1e-6)
    # two classes: each row of probabilities is (a, 1 - a), so the correlation of two rows is the sign of agreement,
    # and over two examples likewise: one row of two is turned round, both columns still rise together
    student, teacher = torch.tensor([[1.0, 0.0], [3.0, 0.0]]).double(), torch.tensor([[0.0, 1.0], [5.0, 0.0]]).double()
    assert terms(student, teacher) == pytest.approx([(2 + 0) / 2, 0.0], abs=1e-12)
    assert dist_loss(-teacher, teacher).item() == pytest.approx(4.0)


def test_defaults_are_the_papers() -> None:
    assert standardized_kd_loss(STUDENT, TEACHER) == standardized_kd_loss(STUDENT, TEACHER, temperature=2.0)
    explicit = dist_loss(STUDENT, TEACHER, inter_weight=1.0, intra_weight=1.0, temperature=1.0)
    assert dist_loss(STUDENT, TEACHER) == explicit


def test_losses_are_zero_where_they_agree_and_positive_elsewhere() -> None:
    for loss in (standardized_kd_loss, dist_loss):
        assert 0 <= loss(TEACHER, TEACHER).item() < 1e-14
        assert loss(STUDENT, TEACHER).item() > 0.1
        assert 0 <= loss(TEACHER.float(), TEACHER.float()).item() < 1e-6


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_standardising_ignores_shift_and_scale_of_either_side(seed: int, scale: float, shift: float) -> None:
    student, teacher = checks.randn(3, 5, seed=seed), checks.randn(3, 5, seed=seed + 1)
    close = {"rtol": 1e-4, "atol": 1e-5}  # eps is not scaled
    assert_close(standardize_logits(scale * student + shift), standardize_logits(student), **close)
    plain = standardized_kd_loss(student, teacher)
    assert_close(standardized_kd_loss(scale * student + shift, teacher), plain, **close)
    assert_close(standardized_kd_loss(student, scale * teacher + shift), plain, **close)
    assert standardized_kd_loss(-student, student).item() > 0.1  # a negative scale turns the order round


def test_z_scores_have_mean_zero_and_unbiased_deviation_one() -> None:
    scores = standardize_logits(TEACHER)
    assert_close(scores.mean(-1), torch.zeros(6).double())
    assert_close(scores.std(-1), torch.ones(6).double(), rtol=1e-6, atol=0)
    assert scores.amax() <= (4 - 1) / math.sqrt(4)
    assert_close(standardize_logits(TEACHER[:, :2]).abs(), torch.full((6, 2), 0.5**0.5).double(), rtol=1e-4, atol=0)


def test_the_gradient_cannot_move_or_scale_the_logits() -> None:
    student = STUDENT.clone().requires_grad_()
    standardized_kd_loss(student, TEACHER).backward()
    gradient, centred = student.grad, STUDENT - STUDENT.mean(1, keepdim=True)
    assert gradient is not None
    assert gradient.norm() > 0.1
    assert gradient.sum(1).abs().max() < 1e-14
    assert (gradient * centred).sum(1).abs().max() < 1e-6 * gradient.norm()


def logits_of(probabilities: Tensor) -> Tensor:
    assert (probabilities > 0).all()
    return probabilities.log()


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 1.0))
def test_dist_ignores_affine_maps_of_the_probabilities(seed: int, scale: float) -> None:
    q, p = checks.randn(5, 4, seed=seed).softmax(1), checks.randn(5, 4, seed=seed + 1).softmax(1)
    # per example: a q + b sums to 1 with b = (1 - a) / C; over the batch the same map for all is affine per class too
    mapped = scale * q + (1 - scale) / 4
    plain = dist_loss(logits_of(q), logits_of(p))
    assert_close(dist_loss(logits_of(mapped), logits_of(p)), plain)
    assert_close(dist_loss(logits_of(q), logits_of(scale * p + (1 - scale) / 4)), plain)


def test_dist_sees_affine_maps_of_the_logits() -> None:
    assert dist_loss(3 * TEACHER, TEACHER).item() > 0.01
    assert_close(dist_loss(STUDENT + 5, TEACHER - 5), dist_loss(STUDENT, TEACHER))  # a shift softmax itself ignores


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 30))
def test_each_term_of_dist_is_between_zero_and_two(seed: int, scale: float) -> None:
    for term in terms(checks.randn(3, 4, seed=seed, scale=scale), checks.randn(3, 4, seed=seed + 1, scale=scale)):
        assert 0 <= term <= 2


@pytest.mark.parametrize("dtype", [torch.float64, *checks.DTYPES], ids=str)
def test_a_constant_counts_half_and_two_constants_nothing(dtype: torch.dtype) -> None:
    teacher = TEACHER.to(dtype)
    flat = torch.full_like(teacher, 0.3)  # rows constant, and columns too
    same = teacher[:1].repeat(6, 1)  # columns constant
    assert terms(flat, teacher) == pytest.approx([0.5, 0.5])
    assert terms(teacher, flat) == pytest.approx([0.5, 0.5])
    assert terms(flat, flat) == [0.0, 0.0]
    assert terms(same, teacher)[1] == pytest.approx(0.5)
    assert terms(same, same * 2)[1] == 0.0
    assert terms(teacher[:1], flat[:1]) == [pytest.approx(0.5), 0.0]  # a batch of one: every column is constant
    assert terms(teacher[:1], same[:1])[1] == 0.0


def test_rounding_does_not_make_a_constant_vary() -> None:
    for classes in (3, 7, 10, 1000):  # 1/C summed C times is not 1 in float32
        flat = torch.zeros(64, classes)
        teacher = checks.randn(64, classes, dtype=torch.float32)
        assert terms(flat, teacher) == pytest.approx([0.5, 0.5])
        rounded = flat + 1e-7 * checks.randn(64, classes, seed=1, dtype=torch.float32)
        assert terms(rounded, teacher) == pytest.approx([0.5, 0.5])


def test_small_probabilities_correlate_like_large_ones() -> None:
    # a class at 1e-9 for every example still has an order; the published epsilon of 1e-8 would bury it
    student, teacher = (torch.cat([z[:, :3], z[:, 3:] - 20], 1) for z in (STUDENT, TEACHER))
    expected = oracle_dist(student, teacher, 0.0, 1.0, 1.0)
    assert terms(student, teacher)[1] == pytest.approx(expected, rel=1e-9)
    assert terms(student.float(), teacher.float())[1] == pytest.approx(expected, rel=1e-4)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda z: standardize_logits(z), STUDENT, per_example=True)
    for loss in (standardized_kd_loss, dist_loss):
        checks.check_batch_permutation(loss, STUDENT, TEACHER, per_example=False)


def test_leading_axes_are_examples() -> None:
    student, teacher = STUDENT.reshape(2, 3, 4), TEACHER.reshape(2, 3, 4)
    assert_close(standardized_kd_loss(student, teacher), standardized_kd_loss(STUDENT, TEACHER))
    assert_close(standardize_logits(student), standardize_logits(STUDENT).reshape(2, 3, 4))


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(standardized_kd_loss, STUDENT, TEACHER)
    checks.check_gradient(dist_loss, STUDENT, TEACHER)
    checks.check_gradient(standardize_logits, STUDENT)
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for loss in (standardized_kd_loss, dist_loss):
        assert torch.autograd.gradcheck(
            lambda t, loss=loss: loss(STUDENT, TEACHER, temperature=t), (temperature,), raise_exception=False
        )


def test_what_is_constant_has_a_finite_second_derivative() -> None:
    for rows in (STUDENT[:1], torch.zeros(6, 4).double(), torch.cat([STUDENT[:5], torch.ones(1, 4)])):
        for loss in (standardized_kd_loss, dist_loss):
            student = rows.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(student, TEACHER[: len(rows)]), student, create_graph=True)
            assert torch.autograd.grad(gradient.square().sum(), student)[0].isfinite().all()


@pytest.mark.parametrize("scale", [60.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher = checks.randn(6, 5, seed=5), checks.randn(6, 5, seed=6)
    student, teacher = (z / z.abs().amax(1, keepdim=True) * scale for z in (student, teacher))
    for s, t in ((student, teacher), (student, -student), (student, student), (0 * student, teacher)):
        for loss in (standardized_kd_loss, dist_loss):
            checks.check_extremes(lambda s, t, loss=loss: loss(s, t, temperature=1.0), s, t)
    checks.check_extremes(lambda z: standardize_logits(z), student)


def test_zero_and_equal_rows_and_a_batch_of_one_stay_finite() -> None:
    rare = STUDENT[:3] - 50 * torch.eye(4)[3]  # the square of its last probability is below the least float32
    for student in (torch.zeros(3, 4), torch.full((1, 4), 0.1), STUDENT[:1].repeat(3, 1), rare):
        for teacher in (TEACHER[: len(student)], student.clone()):
            for loss in (standardized_kd_loss, dist_loss):
                checks.check_extremes(loss, student, teacher)
        checks.check_extremes(standardize_logits, student)
    for value in (0.1, 0.5, 1e4):  # 0.1 is not the mean of ten 0.1s
        assert standardize_logits(torch.full((2, 10), value), eps=0.0).abs().max() == 0.0


def test_bad_shapes_and_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"one class can only be right, got shape \(6, 1\)"):
        standardize_logits(STUDENT[:, :1])
    for loss in (standardized_kd_loss, dist_loss):
        with pytest.raises(ValueError, match=r"same shape, got \(6, 4\) and \(6, 3\)"):
            loss(STUDENT, TEACHER[:, :3])
    for eps in (-1e-7, math.nan):
        with pytest.raises(ValueError, match=f"eps must be 0 or more and finite, got {eps}"):
            standardize_logits(STUDENT, eps=eps)
    with pytest.raises(ValueError, match=r"inter_weight must be 0 or more and finite, got -1\.0"):
        dist_loss(STUDENT, TEACHER, inter_weight=-1.0)
    with pytest.raises(ValueError, match="intra_weight must be 0 or more and finite, got nan"):
        dist_loss(STUDENT, TEACHER, intra_weight=math.nan)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: standardized_kd_loss(s, t) + dist_loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_a_tiny_teacher_up_to_scale() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    with torch.no_grad():
        student.weight.copy_(checks.randn(4, 3, seed=9, scale=0.1))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    first = standardized_kd_loss(student(x), teacher).item()
    for _ in range(200):
        loss = standardized_kd_loss(student(x), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 100
    assert (student(x).argmax(1) == teacher.argmax(1)).double().mean() > 0.95
    assert student(x).std() < teacher.std() / 2  # the same order, at a scale of its own
