"""Normalised distillation (NKD), checked against Yang et al. 2023; what it shares with DKD is in test_decoupled.py."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.response import nkd_loss
from tests import checks
from tests.heart.response.test_decoupled import LABELS, STUDENT, TEACHER, without


def oracle_nkd(student: Tensor, teacher: Tensor, labels: Tensor, weight: float, temperature: float) -> float:
    """NKD from its equation, in plain Python: first term at temperature 1."""
    total = 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        total -= checks.softmax(t)[label] * math.log(checks.softmax(s)[label])
        p, q = (without(checks.softmax(row, temperature), label) for row in (t, s))
        total -= weight * temperature**2 * sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return total / len(labels)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_nkd_matches_the_definition(temperature: float) -> None:
    expected = oracle_nkd(STUDENT, TEACHER, LABELS, 0.7, temperature)
    loss = nkd_loss(STUDENT, TEACHER, LABELS, soft_weight=0.7, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_known_value_of_three_classes() -> None:
    # teacher (1/2, 1/4, 1/4), student (1/4, 1/2, 1/4), label 0; others: p (1/2, 1/2), q (2/3, 1/3)
    # -1/2 log(1/4) - 1.5 (1/2 log(2/3) + 1/2 log(1/3))
    teacher = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log()
    student = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64).log()
    expected = math.log(4) / 2 + 0.75 * math.log(9 / 2)
    assert nkd_loss(student, teacher, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-12)


def test_defaults_are_the_papers() -> None:
    explicit = nkd_loss(STUDENT, TEACHER, LABELS, soft_weight=1.5, temperature=1.0)
    assert_close(nkd_loss(STUDENT, TEACHER, LABELS), explicit, rtol=0, atol=0)


def test_nkds_minimum_is_not_where_they_agree() -> None:
    student = TEACHER.clone().requires_grad_()
    agreeing = nkd_loss(student, TEACHER, LABELS)
    agreeing.backward()
    assert student.grad is not None
    # at q = p the second term is at its least; the first still pulls the target up by p_y (1 - p_y) / B
    p = TEACHER.softmax(-1).gather(1, LABELS[:, None])
    assert_close(student.grad.gather(1, LABELS[:, None]), -p * (1 - p) / 6)
    # its infimum: certain of the target, the others in the teacher's proportions
    certain = TEACHER.scatter_add(1, LABELS[:, None], torch.full((6, 1), 50.0, dtype=torch.float64))
    p_others = [without(checks.softmax(t), y) for t, y in zip(TEACHER.tolist(), LABELS.tolist(), strict=True)]
    entropy = -sum(a * math.log(a) for row in p_others for a in row) / 6
    least = nkd_loss(certain, TEACHER, LABELS).item()
    assert least == pytest.approx(1.5 * entropy, rel=1e-9)
    assert least < agreeing.item() - 0.1


def test_a_tiny_student_learns_the_others_and_grows_sure_of_the_label() -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    labels = teacher.argmax(1)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        nkd_loss(student(x), teacher, labels).backward()
        optimizer.step()
    q, p = (z.softmax(1).gather(1, labels[:, None]).mean().item() for z in (student(x), teacher))
    assert (student(x).argmax(1) == labels).double().mean() > 0.9
    assert q > p + 0.01
