"""InfoNCE, checked against its definition, its bound and what others got wrong."""

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.relation import ContrastiveMemory, crd_loss, info_nce_loss
from tests import checks

STUDENT, TEACHER = checks.randn(6, 4, seed=1), checks.randn(6, 4, seed=2)


def oracle_info_nce(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Both cross-entropies in plain Python."""
    cosine = F.cosine_similarity(student[:, None], teacher[None], dim=2).tolist()
    count, total = len(cosine), 0.0
    for matrix in (cosine, [list(column) for column in zip(*cosine, strict=True)]):
        total += sum(-math.log(checks.softmax(row, temperature)[i]) for i, row in enumerate(matrix)) / count
    return total / 2


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_info_nce_matches_the_definition(temperature: float) -> None:
    loss = info_nce_loss(STUDENT, TEACHER, temperature=temperature)
    assert loss.item() == pytest.approx(oracle_info_nce(STUDENT, TEACHER, temperature), rel=1e-10)


def test_known_values() -> None:
    # two orthogonal examples, each its own partner, at temperature 1: log(e + 1) - 1 in all four places
    expected = math.log(1 + math.exp(-1))
    assert info_nce_loss(torch.eye(2), 3 * torch.eye(2), temperature=1.0).item() == pytest.approx(expected, rel=1e-6)
    # all cosines equal: log B
    assert info_nce_loss(torch.ones(8, 2), torch.ones(8, 2)).item() == pytest.approx(math.log(8), rel=1e-6)
    # a zero row: cosines 0 with both, log 2 from its side; the other finds itself at 1 against 0. From the teacher's
    # side the first sees 0 and 0, the second 0 and 1
    half_blind = info_nce_loss(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.eye(2), temperature=1.0)
    assert half_blind.item() == pytest.approx((math.log(2) + expected) / 2, rel=1e-6)


def test_the_default_temperature() -> None:
    assert_close(info_nce_loss(STUDENT, TEACHER), info_nce_loss(STUDENT, TEACHER, temperature=0.07), rtol=0, atol=0)


def test_agreement_is_best_among_permutations_of_the_teacher() -> None:
    teacher = torch.eye(6, dtype=torch.float64)
    agreeing = info_nce_loss(teacher, teacher)
    assert 0 <= agreeing < 1e-4
    assert info_nce_loss(teacher.roll(1, 0), teacher) > 10


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 9), temperature=st.floats(0.01, 10))
def test_info_nce_certifies_at_most_log_batch_of_information(seed: int, batch: int, temperature: float) -> None:
    student, teacher = checks.randn(batch, 3, seed=seed), checks.randn(batch, 3, seed=seed + 1)
    for other in (teacher, student):
        assert math.log(batch) - info_nce_loss(student, other, temperature=temperature).item() <= math.log(batch)


@pytest.mark.parametrize("symbols", [2, 4])
def test_info_nce_is_a_lower_bound_of_the_mutual_information(symbols: int) -> None:
    # both sides show the same of a few equally likely symbols: their mutual information is the log of the number
    embeddings, information = torch.eye(symbols, dtype=torch.float64), math.log(symbols)
    drawn = [embeddings[checks.labels_for(32, symbols, seed)] for seed in range(50)]
    bound = math.log(32) - sum(info_nce_loss(x, x).item() for x in drawn) / 50
    assert information - 0.1 < bound < information
    unrelated = [info_nce_loss(x, y).item() for x, y in itertools.pairwise(drawn)]
    assert math.log(32) - sum(unrelated) / 49 < 0.0


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_rotation_of_both_and_length_change_nothing_but_rotation_of_one_does(seed: int, scale: float) -> None:
    student, teacher = checks.randn(5, 3, seed=seed), checks.randn(5, 3, seed=seed + 1)
    rotation = torch.linalg.qr(checks.randn(3, 3, seed=seed + 2)).Q
    plain = info_nce_loss(student, teacher)
    lengths = torch.linspace(0.1, 3, 5, dtype=torch.float64)[:, None]
    assert_close(info_nce_loss(scale * student * lengths, teacher / lengths), plain)
    assert_close(info_nce_loss(student @ rotation, teacher @ rotation), plain)
    assert_close(info_nce_loss(teacher, student), plain)
    assert not torch.isclose(info_nce_loss(-student, teacher), plain, rtol=1e-6)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: info_nce_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: info_nce_loss(s, t), STUDENT, TEACHER)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: info_nce_loss(STUDENT, TEACHER, temperature=t), (temperature,))


def test_one_example_finds_itself() -> None:
    student = STUDENT[:1].clone().requires_grad_()
    value = info_nce_loss(student, TEACHER[:1])
    value.backward()
    assert_close((value.detach(), student.grad), (torch.zeros((), dtype=torch.float64), torch.zeros_like(student)))


@pytest.mark.parametrize(("scale", "temperature"), [(1e-4, 1.0), (1.0, 0.01), (1e4, 0.01)])
def test_extreme_embeddings_stay_finite(scale: float, temperature: float) -> None:
    student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
    some_zero = student.clone()
    some_zero[:3] = 0
    for rows in (student, student[:1], student * 0, student[:1].expand_as(student), -teacher, some_zero):
        for other in (teacher, teacher * 0):
            checks.check_extremes(lambda s, t: info_nce_loss(s, t, temperature=temperature), rows, other[: len(rows)])


def test_autocast_does_not_round_the_products() -> None:
    student, teacher = STUDENT.float(), TEACHER.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = info_nce_loss(student, teacher)
    assert_close(value, info_nce_loss(student, teacher), rtol=1e-6, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"both be \(B, D\), not empty, got \(6, 4\) and \(6, 3\): put a linear"):
        info_nce_loss(STUDENT, TEACHER[:, :3])
    with pytest.raises(ValueError, match=r"both be \(B, D\), not empty, got \(0, 4\) and \(0, 4\)"):
        info_nce_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(TypeError, match=r"the teacher's embeddings must be floating point, got torch\.int64"):
        info_nce_loss(STUDENT, TEACHER.long())
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            info_nce_loss(STUDENT, TEACHER, temperature=temperature)


def test_second_derivatives_are_those_of_finite_differences() -> None:
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda s: info_nce_loss(s, TEACHER, temperature=0.5), (student,))
    torch.manual_seed(12)
    memory, indices = ContrastiveMemory(1, 1, num_examples=9, width=4).double(), torch.arange(6)
    loss = functools.partial(crd_loss, indices=indices, negatives=indices + 3, memory=memory, temperature=0.5)
    assert torch.autograd.gradgradcheck(loss, (student, TEACHER.clone().requires_grad_()))


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: info_nce_loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_to_find_its_partner() -> None:
    torch.manual_seed(9)
    x = checks.randn(32, 6, seed=10)
    teacher = (x @ checks.randn(6, 8, seed=11)).tanh()
    student, order = nn.Linear(6, 8, dtype=torch.float64), torch.arange(32)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.03)

    def found() -> float:
        cosines = F.normalize(student(x), dim=1) @ F.normalize(teacher, dim=1).T
        return (cosines.argmax(dim=1) == order).double().mean().item()

    before = found()
    for _ in range(150):
        optimizer.zero_grad()
        info_nce_loss(student(x), teacher).backward()
        optimizer.step()
    assert before < 0.3
    assert found() > 0.8
