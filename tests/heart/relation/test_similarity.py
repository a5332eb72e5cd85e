"""Similarity, correlation and probability of neighbours, checked against SP, CC and PKT and what others got wrong."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.relation import correlation_congruence_loss, probabilistic_transfer_loss, similarity_preserving_loss
from tests import checks

STUDENT, TEACHER = checks.randn(7, 3, seed=1), checks.randn(7, 5, seed=2)


def every():
    """All losses, looked up when a test asks, so that the museum can put a wrong one in place."""
    return similarity_preserving_loss, correlation_congruence_loss, probabilistic_transfer_loss


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(dot(a, a) * dot(b, b))
    return dot(a, b) / lengths if lengths else 0.0


def mean_square(one: list[list[float]], other: list[list[float]]) -> float:
    gaps = [a - b for row, row_t in zip(one, other, strict=True) for a, b in zip(row, row_t, strict=True)]
    return sum(gap**2 for gap in gaps) / len(gaps)


def oracle_similarity(student: Tensor, teacher: Tensor) -> float:
    def unit_rows(rows: list[list[float]]) -> list[list[float]]:
        gram = [[dot(a, b) for b in rows] for a in rows]
        norms = [math.sqrt(dot(row, row)) for row in gram]
        return [[g / n if n else 0.0 for g in row] for row, n in zip(gram, norms, strict=True)]

    return mean_square(*(unit_rows(x.flatten(1).tolist()) for x in (student, teacher)))


def oracle_correlation(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> float:
    def kernel(a: list[float], b: list[float]) -> float:
        powers = [(2 * gamma) ** p / math.factorial(p) * cosine(a, b) ** p for p in range(order + 1)]
        return math.exp(-2 * gamma) * sum(powers)

    return mean_square(*([[kernel(a, b) for b in x.tolist()] for a in x.tolist()] for x in (student, teacher)))


def oracle_transfer(student: Tensor, teacher: Tensor) -> float:
    def picks(x: Tensor) -> list[list[float]]:
        similar = [[max((1 + cosine(a, b)) / 2, 2**-20) for b in x.tolist()] for a in x.tolist()]
        return [[s / sum(row) for s in row] for row in similar]

    return sum(checks.kl(p, q) for p, q in zip(picks(teacher), picks(student), strict=True)) / len(student)


ORACLES = (oracle_similarity, oracle_correlation, oracle_transfer)


def rotation(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(checks.randn(width, width, seed=seed)).Q


def test_all_match_the_definition_zeros_and_equal_rows_included() -> None:
    some_zero, twins = STUDENT.clone(), TEACHER[[0, 0, 2, 3, 3, 5, 6]]
    some_zero[2] = 0
    for loss, oracle in zip(every(), ORACLES, strict=True):
        for s, t in ((STUDENT, TEACHER), (some_zero, TEACHER), (STUDENT, twins), (twins, some_zero)):
            assert loss(s, t).item() == pytest.approx(oracle(s, t), rel=1e-11)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 1), (0.4, 3), (2.0, 6)])
def test_correlation_matches_the_definition_at_every_order(gamma: float, order: int) -> None:
    loss = correlation_congruence_loss(STUDENT, TEACHER, gamma=gamma, order=order)
    assert loss.item() == pytest.approx(oracle_correlation(STUDENT, TEACHER, gamma, order), rel=1e-11)


def test_known_values_of_two_examples() -> None:
    alike, different = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    # Gram (1 3; 3 9), whose rows are both (1, 3)/√10; the other's rows are (1, 0) and (0, 1)
    one, three = 1 / math.sqrt(10), 3 / math.sqrt(10)
    expected = ((one - 1) ** 2 + three**2 + one**2 + (three - 1) ** 2) / 4
    assert similarity_preserving_loss(alike, different).item() == pytest.approx(expected, rel=1e-6)
    # cosines 1 against 0 off the diagonal: K = e^-0.8 (1 + 0.8 + 0.32) against e^-0.8, at 2 of 4 places
    expected = (math.exp(-0.8) * 1.12) ** 2 / 2
    assert correlation_congruence_loss(alike, different).item() == pytest.approx(expected, rel=1e-6)
    # teacher's rows (2/3, 1/3), student's (1/2, 1/2)
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert probabilistic_transfer_loss(alike, different).item() == pytest.approx(expected, rel=1e-6)


def test_defaults_are_the_papers() -> None:
    explicit = correlation_congruence_loss(STUDENT, TEACHER, gamma=0.4, order=2)
    assert_close(correlation_congruence_loss(STUDENT, TEACHER), explicit, rtol=0, atol=0)


def test_many_powers_give_the_gaussian_kernel() -> None:
    kernels = [torch.exp(-0.7 * torch.cdist(F.normalize(x), F.normalize(x)).square()) for x in (STUDENT, TEACHER)]
    loss = correlation_congruence_loss(STUDENT, TEACHER, gamma=0.7, order=30)
    assert_close(loss, F.mse_loss(*kernels), rtol=1e-8, atol=0)


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    for loss in every():
        assert_close(loss(TEACHER, TEACHER), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-15)
        assert loss(STUDENT, TEACHER) > 1e-3
    # a bound: N_s and N_t have rows of length at most 1, so each row of the difference has at most length 2
    assert similarity_preserving_loss(STUDENT, TEACHER) <= 4 / len(STUDENT)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_rotation_and_scale_of_either_side_change_nothing_but_translation_does(seed: int, scale: float) -> None:
    student, teacher = checks.randn(6, 4, seed=seed), checks.randn(6, 3, seed=seed + 1)
    for loss in every():
        plain = loss(student, teacher)
        assert_close(loss(scale * student @ rotation(4, seed), teacher), plain, rtol=1e-10, atol=1e-14)
        assert_close(loss(student, teacher @ rotation(3, seed) / scale), plain, rtol=1e-10, atol=1e-14)
        wider = torch.cat([student, 0 * student], dim=1) @ rotation(8, seed)
        assert_close(loss(wider, student), 0 * plain, rtol=0, atol=1e-14)
        assert not torch.isclose(loss(student + 1, teacher), plain, rtol=1e-6)


@given(seed=st.integers(0, 10**6))
def test_the_length_of_a_row_matters_to_similarities_only(seed: int) -> None:
    student, teacher = checks.randn(6, 4, seed=seed), checks.randn(6, 3, seed=seed + 1)
    longer = student * torch.logspace(-6, 6, 6, dtype=torch.float64)[:, None]
    plain, changed = ([loss(x, teacher) for loss in every()] for x in (student, longer))
    assert not torch.isclose(changed[0], plain[0], rtol=1e-6)
    assert_close(changed[1:], plain[1:], rtol=1e-9, atol=0)


def test_maps_are_flattened_for_similarities() -> None:
    maps, others = checks.randn(5, 2, 3, 4, seed=3), checks.randn(5, 6, 2, 2, seed=4)
    expected = similarity_preserving_loss(maps.flatten(1), others.flatten(1))
    assert_close(similarity_preserving_loss(maps, others), expected, rtol=0, atol=0)


def test_batch_permutation() -> None:
    for loss in every():
        checks.check_batch_permutation(loss, STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    some_far = STUDENT * torch.logspace(-2, 2, 7, dtype=torch.float64)[:, None]
    for loss in every():
        checks.check_gradient(loss, STUDENT, TEACHER)
        checks.check_gradient(loss, some_far + 1, TEACHER)
        checks.check_gradient(loss, TEACHER, STUDENT * 0 + 1)
    checks.check_gradient(lambda s, t: correlation_congruence_loss(s, t, gamma=1.0, order=5), STUDENT, TEACHER)


def test_a_row_of_zeros_leaves_the_gradient_of_the_others_right() -> None:
    others, zero = STUDENT[1:], torch.zeros(1, 3, dtype=torch.float64)
    for loss in every():
        checks.check_gradient(lambda s, t, loss=loss: loss(torch.cat([zero, s]), t), others, TEACHER)


def test_the_gradient_cannot_scale_the_student() -> None:
    for loss in every():
        leaf = STUDENT.clone().requires_grad_()
        loss(leaf, TEACHER).backward()
        assert (leaf.grad * STUDENT).sum().abs() < 1e-14


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_embeddings_stay_finite(scale: float) -> None:
    student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
    opposite = torch.cat([student[:1], -student[:1], student[2:]])
    some_zero = student.clone()
    some_zero[:3] = 0
    for rows in (student, student[:1], student * 0, student[:1].expand_as(student), opposite, some_zero):
        for other in (teacher, teacher * 0, teacher[:1].expand_as(teacher), torch.cat([-teacher[:1], teacher[:-1]])):
            for loss in every():
                checks.check_extremes(lambda s, t, loss=loss: loss(s, t), rows, other[: len(rows)])


@pytest.mark.parametrize("dtype", checks.DTYPES)
def test_a_collapsed_student_has_the_right_loss(dtype: torch.dtype) -> None:
    student = torch.full((7, 3), 0.37).to(dtype).requires_grad_()
    for loss, oracle in zip(every(), ORACLES, strict=True):
        value = loss(student, TEACHER)
        assert value.item() == pytest.approx(oracle(student.detach().double(), TEACHER), rel=1e-5)
        assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_one_example_agrees_whatever_it_is() -> None:
    for loss in every():
        student = STUDENT[:1].clone().requires_grad_()
        value = loss(student, TEACHER[:1])
        value.backward()
        assert_close(value.detach(), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-15)
        assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-15)


def test_opposite_examples_have_a_least_similarity() -> None:
    opposite, alike = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), torch.tensor([[1.0], [1.0]])
    least = 2**-20 / (1 + 2**-20)
    student = opposite.clone().requires_grad_()
    value = probabilistic_transfer_loss(student, alike)
    assert value.item() == pytest.approx(0.5 * math.log(0.5 / least) + 0.5 * math.log(0.5 / (1 - least)), rel=1e-6)
    assert_close(torch.autograd.grad(value, student)[0], torch.zeros(2, 2))


def test_autocast_does_not_round_the_products() -> None:
    for loss in every():
        student = STUDENT.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(student, TEACHER.float())
        assert value.dtype == torch.float32
        assert_close(value, loss(student, TEACHER.float()), rtol=1e-6, atol=0)


def test_bad_input_is_named() -> None:
    for loss, kind in zip(every(), ("features", "embeddings", "embeddings"), strict=True):
        with pytest.raises(ValueError, match="need the same examples, got 7 and 6 of them"):
            loss(STUDENT, TEACHER[:6])
        with pytest.raises(ValueError, match=rf"the student's {kind} must be \(B, .*not empty, got \(0, 3\)"):
            loss(STUDENT[:0], TEACHER[:0])
        with pytest.raises(ValueError, match=rf"the teacher's {kind} must be \(B, .*not empty, got \(7,\)"):
            loss(STUDENT, TEACHER[:, 0])
        with pytest.raises(TypeError, match=rf"the student's {kind} must be floating point, got torch\.int64"):
            loss(STUDENT.long(), TEACHER)
    for loss in every()[1:]:
        with pytest.raises(ValueError, match=r"must be \(B, D\), not empty, got \(7, 3, 1\): use \.flatten\(1\)"):
            loss(STUDENT[..., None], TEACHER)
    for gamma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"gamma must be positive and finite, got {gamma}"):
            correlation_congruence_loss(STUDENT, TEACHER, gamma=gamma)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        correlation_congruence_loss(STUDENT, TEACHER, order=0)


def test_a_teacher_may_be_of_another_dtype_or_from_inference_mode() -> None:
    with torch.inference_mode():
        teacher = TEACHER + 0
    for loss, dtype in itertools.product(every(), checks.DTYPES):
        student = STUDENT.to(dtype).requires_grad_()
        value = loss(student, teacher)
        value.backward()
        assert value.dtype == torch.float32
        assert student.grad is not None


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: sum(loss(s, t) for loss in every()), STUDENT, TEACHER)


@pytest.mark.parametrize("loss", every())
def test_a_tiny_student_learns_a_tiny_teacher(loss) -> None:
    checks.check_learns_relations(loss, factor=10)
