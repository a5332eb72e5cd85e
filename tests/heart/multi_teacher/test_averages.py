"""Averages of teachers, the loss against all of them and their disagreement, checked from the definitions."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.multi_teacher import average_logits, average_probabilities, disagreement, multi_teacher_loss
from kdref.soft_targets import soft_target_loss
from tests import checks

STUDENT, TEACHERS = checks.randn(5, 4, seed=1, scale=2.0), checks.randn(3, 5, 4, seed=2, scale=2.0)
PER_TEACHER = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
PER_EXAMPLE = checks.randn(3, 5, seed=3).softmax(dim=0)
WEIGHTS = [None, PER_TEACHER, PER_EXAMPLE]
IDS = ["equal", "per teacher", "per teacher and example"]


def table(weights: Tensor | None, count: int, batch: int) -> list[list[float]]:
    """Weights as K lists of B numbers."""
    if weights is None:
        return [[1 / count] * batch] * count
    return [row if isinstance(row, list) else [row] * batch for row in weights.tolist()]


def oracle_average(teachers: Tensor, weights: Tensor | None, temperature: float) -> list[list[float]]:
    """Arithmetic mean of the softened probabilities, class by class."""
    w = table(weights, len(teachers), teachers.shape[1])
    rows = [[checks.softmax(row, temperature) for row in teacher] for teacher in teachers.tolist()]
    return [
        [sum(w[k][i] * rows[k][i][c] for k in range(len(rows))) for c in range(teachers.shape[2])]
        for i in range(teachers.shape[1])
    ]


def oracle_loss(student: Tensor, teachers: Tensor, weights: Tensor | None, temperature: float) -> float:
    """τ² times the mean over examples of the weighted sum of divergences."""
    w, total = table(weights, len(teachers), len(student)), 0.0
    for k, teacher in enumerate(teachers.tolist()):
        for i, (t, s) in enumerate(zip(teacher, student.tolist(), strict=True)):
            total += w[k][i] * checks.kl(checks.softmax(t, temperature), checks.softmax(s, temperature))
    return temperature**2 * total / len(student)


def entropy(p: list[float]) -> float:
    return -sum(a * math.log(a) for a in p if a > 0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", WEIGHTS, ids=IDS)
def test_all_match_their_definitions(weights: Tensor | None, temperature: float) -> None:
    average = average_probabilities(TEACHERS, weights=weights, temperature=temperature)
    expected = oracle_average(TEACHERS, weights, temperature)
    assert_close(average, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    loss = multi_teacher_loss(STUDENT, TEACHERS, weights=weights, temperature=temperature)
    assert loss.item() == pytest.approx(oracle_loss(STUDENT, TEACHERS, weights, temperature), rel=1e-12)
    w = table(weights, 3, 5)
    for i in range(5):
        for c in range(4):
            mean = sum(w[k][i] * TEACHERS[k, i, c].item() for k in range(3))
            assert average_logits(TEACHERS, weights=weights)[i, c].item() == pytest.approx(mean, rel=1e-12)


def test_disagreement_is_the_entropy_that_averaging_adds() -> None:
    average = oracle_average(TEACHERS, None, 1.0)
    for i, value in enumerate(disagreement(TEACHERS).tolist()):
        own = sum(entropy(checks.softmax(teacher[i])) for teacher in TEACHERS.tolist()) / 3
        assert value == pytest.approx(entropy(average[i]) - own, rel=1e-10)


def test_known_values_of_a_sure_teacher_and_a_clueless_one() -> None:
    # probabilities (3/4, 1/4) and (1/4, 3/4): arithmetic ½, ½; so is the geometric mean. Each at log 3 from the other
    log3 = math.log(3.0)
    mirrored = torch.tensor([[[log3, 0.0]], [[0.0, log3]]], dtype=torch.float64)
    fair = torch.zeros(1, 2, dtype=torch.float64)
    assert_close(average_probabilities(mirrored), fair + 0.5)
    # weights ¾ and ¼: arithmetic 9/16 + 1/16 = 10/16
    three_to_one = torch.tensor([0.75, 0.25], dtype=torch.float64)
    assert average_probabilities(mirrored, weights=three_to_one)[0, 0].item() == pytest.approx(10 / 16)
    # KL((3/4, 1/4) ‖ ½) = log 2 - H(3/4), for both: that is the loss of a fair student, and the disagreement
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert multi_teacher_loss(fair, mirrored).item() == pytest.approx(expected)
    assert disagreement(mirrored).tolist() == pytest.approx([expected])
    # at temperature 2, probabilities √3 to 1: a = √3 / (1 + √3), and the loss carries 4
    a = math.sqrt(3) / (1 + math.sqrt(3))
    softer = 4 * (a * math.log(2 * a) + (1 - a) * math.log(2 * (1 - a)))
    assert multi_teacher_loss(fair, mirrored, temperature=2.0).item() == pytest.approx(softer)


def test_one_teacher_that_knows_no_better_dilutes_the_arithmetic_mean_and_not_the_geometric() -> None:
    certain, clueless = torch.tensor([[[50.0, 0.0, 0.0]]]), torch.zeros(1, 1, 3)
    both = torch.cat([certain, clueless])
    assert_close(average_probabilities(both), torch.tensor([[4 / 6, 1 / 6, 1 / 6]]))
    assert average_logits(both).softmax(dim=-1)[0, 0] > 0.999


def test_one_teacher_vetoes_a_class_in_the_geometric_mean_and_not_in_the_arithmetic() -> None:
    # two teachers sure of class 0, one that has never heard of it
    teachers = torch.tensor([[[8.0, 0.0]], [[8.0, 0.0]], [[-50.0, 0.0]]])
    assert average_probabilities(teachers)[0, 0] > 0.6
    assert average_logits(teachers).softmax(dim=-1)[0, 0] < 0.01


@pytest.mark.parametrize("weights", WEIGHTS, ids=IDS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_average_logits_are_the_normalised_geometric_mean(weights: Tensor | None, temperature: float) -> None:
    w = table(weights, 3, 5)
    for i, row in enumerate((average_logits(TEACHERS, weights=weights) / temperature).softmax(dim=-1).tolist()):
        p = [checks.softmax(teacher[i], temperature) for teacher in TEACHERS.tolist()]
        product = [math.prod(p[k][c] ** w[k][i] for k in range(3)) for c in range(4)]
        assert row == pytest.approx([value / sum(product) for value in product], rel=1e-10)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 5), temperature=st.floats(0.5, 10.0))
def test_the_gradient_is_that_of_the_average_and_the_gap_is_the_jensen_shannon_divergence(
    seed: int, count: int, temperature: float
) -> None:
    teachers = checks.randn(count, 4, 6, seed=seed, scale=3.0)
    weights = checks.randn(count, 4, seed=seed + 1).softmax(dim=0)
    separate, joint = (checks.randn(4, 6, seed=seed + 2).requires_grad_() for _ in range(2))
    of_all = multi_teacher_loss(separate, teachers, weights=weights, temperature=temperature)
    average = average_probabilities(teachers, weights=weights, temperature=temperature)
    log_q = F.log_softmax(joint / temperature, dim=-1)
    of_average = temperature**2 * F.kl_div(log_q, average, reduction="batchmean")
    of_all.backward()
    of_average.backward()
    assert_close(separate.grad, joint.grad, rtol=0, atol=1e-12)
    p = F.softmax(teachers / temperature, dim=-1)
    divergences = (p * (p / average).log()).sum(dim=-1)
    gap = temperature**2 * (weights * divergences).sum(dim=0).mean()
    assert (of_all - of_average - gap).abs().item() < 1e-12 * max(1.0, temperature**2)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_gradient_of_one_example_is_that_of_soft_targets(temperature: float) -> None:
    student = STUDENT[:1].clone().requires_grad_()
    multi_teacher_loss(student, TEACHERS[:, :1], weights=PER_TEACHER, temperature=temperature).backward()
    p = average_probabilities(TEACHERS[:, :1], weights=PER_TEACHER, temperature=temperature)
    q = F.softmax(student.detach() / temperature, dim=-1)
    assert_close(student.grad, temperature * (q - p), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_one_teacher_is_plain_distillation(temperature: float) -> None:
    one = TEACHERS[:1]
    plain = soft_target_loss(STUDENT, one[0], temperature=temperature)
    for weights in (None, torch.ones(1), torch.ones(1, 5)):
        assert_close(multi_teacher_loss(STUDENT, one, weights=weights, temperature=temperature), plain)
    assert_close(average_logits(one), one[0])
    assert_close(average_probabilities(one, temperature=temperature), F.softmax(one[0] / temperature, dim=-1))
    assert_close(disagreement(one), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-15)


def test_a_teacher_of_weight_zero_is_not_heard() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0])
    plain = soft_target_loss(STUDENT, TEACHERS[1], temperature=1.0)
    assert_close(multi_teacher_loss(STUDENT, TEACHERS, weights=weights), plain)
    assert_close(average_logits(TEACHERS, weights=weights), TEACHERS[1])
    per_example = F.one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).T.double()
    chosen = TEACHERS[torch.tensor([0, 1, 2, 0, 1]), torch.arange(5)]
    assert_close(average_logits(TEACHERS, weights=per_example), chosen)
    assert_close(average_probabilities(TEACHERS, weights=per_example), chosen.softmax(dim=-1))


def test_all_temperatures_but_1_are_asked_for() -> None:
    assert_close(average_probabilities(TEACHERS), average_probabilities(TEACHERS, temperature=1.0))
    assert_close(multi_teacher_loss(STUDENT, TEACHERS), multi_teacher_loss(STUDENT, TEACHERS, temperature=1.0))


def test_zero_where_all_agree_and_positive_elsewhere() -> None:
    same = STUDENT.expand(3, -1, -1) + checks.randn(3, 5, 1, seed=4)  # up to a constant per row
    assert multi_teacher_loss(STUDENT, same).item() == pytest.approx(0.0, abs=1e-14)
    assert disagreement(same).tolist() == pytest.approx([0.0] * 5, abs=1e-14)
    assert (disagreement(same.float()) >= 0).all()
    assert multi_teacher_loss(STUDENT, TEACHERS) > 0.1
    assert (disagreement(TEACHERS) > 0.01).all()


@pytest.mark.parametrize("count", [2, 5])
def test_disagreement_is_at_most_log_of_the_number_of_teachers(count: int) -> None:
    sure_of_different_classes = 1e3 * torch.eye(6, dtype=torch.float64)[:count, None]
    assert disagreement(sure_of_different_classes).tolist() == pytest.approx([math.log(count)])


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_a_shift_of_anyones_logits_or_another_order_of_teachers_changes_nothing(seed: int, shift: float) -> None:
    student, teachers = checks.randn(3, 4, seed=seed), checks.randn(3, 3, 4, seed=seed + 1)
    weights = checks.randn(3, 3, seed=seed + 2).softmax(dim=0)
    shifted = teachers + shift * checks.randn(3, 3, 1, seed=seed + 3)
    order = torch.tensor([2, 0, 1])
    plain = multi_teacher_loss(student, teachers, weights=weights)
    assert_close(multi_teacher_loss(student - shift, shifted, weights=weights), plain)
    assert_close(multi_teacher_loss(student, teachers[order], weights=weights[order]), plain)
    assert not torch.isclose(multi_teacher_loss(student, teachers[order], weights=weights), plain, rtol=1e-9)
    assert_close(disagreement(shifted[order]), disagreement(teachers))
    assert_close(
        average_probabilities(shifted, weights=weights),
        average_probabilities(teachers[order], weights=weights[order]),
    )
    means = (average_logits(shifted, weights=weights), average_logits(teachers, weights=weights))
    assert_close(means[0].softmax(dim=-1), means[1].softmax(dim=-1))


def test_batch_permutation() -> None:
    batch_first = TEACHERS.transpose(0, 1).contiguous()
    checks.check_batch_permutation(
        lambda s, t, w: multi_teacher_loss(s, t.transpose(0, 1), weights=w.T),
        STUDENT,
        batch_first,
        PER_EXAMPLE.T.contiguous(),
        per_example=False,
    )
    for function in (average_logits, average_probabilities, disagreement):
        checks.check_batch_permutation(
            lambda t, function=function: function(t.transpose(0, 1)), batch_first, per_example=True
        )


@pytest.mark.parametrize("weights", WEIGHTS, ids=IDS)
def test_the_gradient_reaches_the_student_only(weights: Tensor | None) -> None:
    checks.check_gradient(lambda s, t: multi_teacher_loss(s, t, weights=weights, temperature=2.0), STUDENT, TEACHERS)
    teachers = TEACHERS.clone().requires_grad_()
    for result in (average_logits(teachers), average_probabilities(teachers), disagreement(teachers)):
        assert not result.requires_grad, "a teacher would receive a gradient"


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teachers = (x / x.abs().max() * scale for x in (STUDENT, TEACHERS))
    for s, t in ((student, teachers), (student[:1], teachers[:, :1]), (student, -student.expand(2, -1, -1))):
        for weights in (None, torch.ones(len(t)) / len(t)):
            checks.check_extremes(lambda s, t, weights=weights: multi_teacher_loss(s, t, weights=weights), s, t)
        for dtype in (*checks.DTYPES, torch.float64):
            for result in (average_logits(t.to(dtype)), average_probabilities(t.to(dtype)), disagreement(t.to(dtype))):
                assert result.dtype == torch.promote_types(dtype, torch.float32)
                assert result.isfinite().all()


def test_bad_input_is_named() -> None:
    for function in (average_logits, average_probabilities, disagreement, lambda t: multi_teacher_loss(STUDENT, t)):
        with pytest.raises(ValueError, match=r"must be \(K, B, C\), not empty, got \(5, 4\): stack them"):
            function(TEACHERS[0])
        with pytest.raises(ValueError, match=r"must be \(K, B, C\), not empty, got \(0, 5, 4\)"):
            function(TEACHERS[:0])
        with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
            function(TEACHERS.long())
    with pytest.raises(ValueError, match=r"student \(B, C\) and teachers \(K, B, C\), got \(5, 3\) and \(3, 5, 4\)"):
        multi_teacher_loss(STUDENT[:, :3], TEACHERS)
    with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
        multi_teacher_loss(STUDENT.long(), TEACHERS)
    weighted = (
        average_logits,
        average_probabilities,
        lambda t, weights: multi_teacher_loss(STUDENT, t, weights=weights),
    )
    for function in weighted:
        with pytest.raises(ValueError, match=r"must be \(K,\) = \(3,\) or \(K, B\) = \(3, 5\), got \(5,\)"):
            function(TEACHERS, weights=torch.ones(5))
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            multi_teacher_loss(STUDENT, TEACHERS, temperature=temperature)
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            average_probabilities(TEACHERS, temperature=temperature)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: multi_teacher_loss(s, t, weights=PER_EXAMPLE), STUDENT, TEACHERS)
    checks.check_compiles(
        lambda s, t: (s * average_probabilities(t)).sum() + (s * average_logits(t)).sum() + disagreement(t).sum(),
        STUDENT,
        TEACHERS,
    )


def test_a_tiny_student_learns_the_average_of_tiny_teachers() -> None:
    torch.manual_seed(5)
    x = checks.randn(64, 3, seed=6)
    teachers = torch.stack([x @ checks.randn(3, 4, seed=seed) for seed in (7, 8, 9)])
    student = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 4)).double()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        multi_teacher_loss(student(x), teachers).backward()
        optimizer.step()
    average = average_probabilities(teachers)
    assert (student(x).softmax(dim=-1) - average).abs().max() < 0.05
    # the loss ends at the teachers' disagreement, not at 0
    assert multi_teacher_loss(student(x), teachers).item() == pytest.approx(
        disagreement(teachers).mean().item(), abs=0.01
    )
