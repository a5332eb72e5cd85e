"""Votes on triplets, checked against the definition in plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.multi_teacher import triplet_dissimilarity_loss
from tests import checks

STUDENT, TEACHERS = checks.randn(6, 3, seed=1), checks.randn(3, 6, 5, seed=2)


def oracle(student: Tensor, teachers: Tensor, margin: float) -> float:
    """Every ordered triplet of distinct examples on which more teachers say 'j is nearer to i than k' than not."""
    count, terms = range(len(student)), []
    s = student.tolist()
    for i in count:
        for j in count:
            for k in count:
                if len({i, j, k}) < 3:
                    continue
                votes = 0
                for t in teachers.tolist():
                    near, far = math.dist(t[i], t[j]), math.dist(t[i], t[k])
                    votes += (far > near + 1e-9) - (far < near - 1e-9)
                if votes > 0:
                    terms.append(max(0.0, math.dist(s[i], s[j]) - math.dist(s[i], s[k]) + margin))
    return sum(terms) / len(terms) if terms else 0.0


def rotation(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(checks.randn(width, width, seed=seed)).Q


@pytest.mark.parametrize("margin", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_matches_the_definition(margin: float, count: int) -> None:
    loss = triplet_dissimilarity_loss(STUDENT, TEACHERS[:count], margin=margin)
    assert loss.item() == pytest.approx(oracle(STUDENT, TEACHERS[:count], margin), rel=1e-10)


def test_known_values_of_three_points_on_a_line() -> None:
    teacher = torch.tensor([[[0.0], [1.0], [3.0]]])
    # distances 01: 1, 02: 3, 12: 2; the teacher says, from 0: 1 before 2, from 1: 0 before 2, from 2: 1 before 0
    right, wrong = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [3.0], [1.0]])
    assert triplet_dissimilarity_loss(right, teacher, margin=1.0).item() == 0.0
    # a margin of 2: 1 - 3 + 2 = 0, 1 - 2 + 2 = 1, 2 - 3 + 2 = 1
    assert triplet_dissimilarity_loss(right, teacher, margin=2.0).item() == pytest.approx(2 / 3)
    # the student's 01: 3, 02: 1, 12: 2: 3 - 1 + 1, 3 - 2 + 1, 2 - 1 + 1
    assert triplet_dissimilarity_loss(wrong, teacher, margin=1.0).item() == pytest.approx(7 / 3)


def test_the_majority_decides_however_loud_the_minority_is() -> None:
    line, other = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [3.0], [1.0]])
    teachers = torch.stack([line, line, 1000 * other])
    assert_close(
        triplet_dissimilarity_loss(other, teachers, margin=1.0),
        triplet_dissimilarity_loss(other, line[None], margin=1.0),
    )


def test_where_the_vote_ties_a_triplet_does_not_count() -> None:
    line, other = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [3.0], [1.0]])
    # line and other (distances 01: 3, 02: 1, 12: 2) disagree from each of the three
    student = line.clone().requires_grad_()
    loss = triplet_dissimilarity_loss(student, torch.stack([line, other]), margin=1.0)
    assert loss.requires_grad, "no gradient path"
    loss.backward()
    assert_close((loss.detach(), student.grad), (torch.zeros(()), torch.zeros_like(student)))
    # an abstaining teacher (all equally far) leaves the decision to the other
    assert_close(
        triplet_dissimilarity_loss(other, torch.stack([torch.eye(3), line @ torch.ones(1, 3)]), margin=1.0),
        triplet_dissimilarity_loss(other, line[None], margin=1.0),
    )


def test_rounding_does_not_vote() -> None:
    # a rotated equilateral triangle is one to a few parts in 10^7
    triangle = torch.eye(3).float() @ rotation(3, 4).float()
    student = checks.randn(3, 2, seed=5)
    assert triplet_dissimilarity_loss(student, triangle[None], margin=1.0).item() == 0.0


def test_zero_where_the_student_keeps_the_teachers_order_by_the_margin() -> None:
    assert triplet_dissimilarity_loss(1e6 * TEACHERS[0], TEACHERS[:1], margin=1e-6).item() == 0.0
    assert triplet_dissimilarity_loss(STUDENT, TEACHERS, margin=0.1).item() > 0.1


def test_a_collapsed_student_pays_the_margin() -> None:
    collapsed = STUDENT[:1].expand(6, -1).clone().requires_grad_()
    loss = triplet_dissimilarity_loss(collapsed, TEACHERS, margin=0.7)
    loss.backward()
    assert loss.item() == pytest.approx(0.7)
    assert_close(collapsed.grad, torch.zeros_like(collapsed))  # and has no direction to leave in


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_any_move_and_scale_of_a_teacher_and_any_move_of_the_student_change_nothing(
    seed: int, scale: float, shift: float
) -> None:
    student, teachers = checks.randn(5, 4, seed=seed), checks.randn(3, 5, 3, seed=seed + 1)
    plain = triplet_dissimilarity_loss(student, teachers, margin=0.5)
    moved = scale * (teachers @ rotation(3, seed) + shift)
    one_larger = teachers * torch.tensor([1.0, scale, 1.0])[:, None, None]
    for others in (moved, one_larger, teachers[[2, 0, 1]]):
        assert_close(triplet_dissimilarity_loss(student, others, margin=0.5), plain)
    assert_close(triplet_dissimilarity_loss(student @ rotation(4, seed) - shift, teachers, margin=0.5), plain)
    assert not torch.isclose(triplet_dissimilarity_loss(1.5 * student, teachers, margin=0.5), plain, rtol=1e-6)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(
        lambda s, t: triplet_dissimilarity_loss(s, t.transpose(0, 1), margin=1.0),
        STUDENT,
        TEACHERS.transpose(0, 1).contiguous(),
        per_example=False,
    )


def test_the_gradient_reaches_the_student_only() -> None:
    for margin in (0.3, 5.0):
        checks.check_gradient(lambda s, t, m=margin: triplet_dissimilarity_loss(s, t, margin=m), STUDENT, TEACHERS)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_embeddings_stay_finite(scale: float) -> None:
    student, teachers = (x / x.abs().max() * scale for x in (STUDENT, TEACHERS))
    twins = student[[0, 0, 2, 3, 3, 3]]
    for rows in (student, student[:1], student[:2], student * 0, twins):
        for others in (teachers, teachers * 0, teachers[:, :1].expand(-1, 6, -1)):
            checks.check_extremes(
                lambda s, t: triplet_dissimilarity_loss(s, t, margin=1.0), rows, others[:, : len(rows)]
            )


def test_fewer_than_three_examples_have_no_triplet() -> None:
    for count in (1, 2):
        student = STUDENT[:count].clone().requires_grad_()
        loss = triplet_dissimilarity_loss(student, TEACHERS[:, :count], margin=1.0)
        loss.backward()
        assert_close((loss.detach(), student.grad), (torch.zeros((), dtype=torch.float64), torch.zeros_like(student)))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"teacher's embeddings must be \(K, B, D\), not empty, got \(6, 5\)"):
        triplet_dissimilarity_loss(STUDENT, TEACHERS[0], margin=1.0)
    with pytest.raises(ValueError, match=r"student's embeddings must be \(B, D\), not empty, got \(0, 3\)"):
        triplet_dissimilarity_loss(STUDENT[:0], TEACHERS[:, :0], margin=1.0)
    with pytest.raises(ValueError, match="need the same examples, got 5 and 6 of them"):
        triplet_dissimilarity_loss(STUDENT[:5], TEACHERS, margin=1.0)
    with pytest.raises(TypeError, match=r"student's embeddings must be floating point, got torch\.int64"):
        triplet_dissimilarity_loss(STUDENT.long(), TEACHERS, margin=1.0)
    for margin in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"margin must be positive and finite, got {margin}"):
            triplet_dissimilarity_loss(STUDENT, TEACHERS, margin=margin)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: triplet_dissimilarity_loss(s, t, margin=1.0), STUDENT, TEACHERS)


def test_a_tiny_student_learns_the_order_of_tiny_teachers() -> None:
    torch.manual_seed(7)
    x = checks.randn(16, 3, seed=8)
    teachers = torch.stack([x + 0.05 * checks.randn(16, 3, seed=seed) for seed in (9, 10, 11)])
    student = nn.Linear(3, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.03)
    first = triplet_dissimilarity_loss(student(x), teachers, margin=0.1).item()
    for _ in range(200):
        optimizer.zero_grad()
        triplet_dissimilarity_loss(student(x), teachers, margin=0.1).backward()
        optimizer.step()
    assert triplet_dissimilarity_loss(student(x), teachers, margin=0.1).item() < first / 5
