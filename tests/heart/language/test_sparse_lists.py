"""Lists of words: shorter ones, padding, and probabilities of 0 in them, in the student and in the tail."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref.language import sparse_teacher, sparse_teacher_loss
from tests import checks
from tests.heart.language.test_tokens import CASES, definition

STUDENT, TEACHER = checks.randn(4, 6, seed=1, scale=2.0), checks.randn(4, 6, seed=2, scale=2.0)
MASK = torch.tensor([True, False, True, True])
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)


@every_kind
@pytest.mark.parametrize("filler", [0, 4, -1, 10**6])
def test_minus_infinity_ends_a_shorter_list_whatever_its_index(kind: str, mix: float | None, filler: int) -> None:
    how = {"tail": "bucket", "kind": kind, "mix": mix}
    lengths, values, gradients = (1, 3, 2, 4), [], []
    padded = [], [], []
    for row, length in enumerate(lengths):
        kept = sparse_teacher(TEACHER[row : row + 1], k=length)
        leaf = STUDENT[row : row + 1].clone().requires_grad_()
        values.append(sparse_teacher_loss(leaf, *kept, **how))
        values[-1].backward()
        gradients.append(leaf.grad / 4)
        padded[0].append(torch.nn.functional.pad(kept[0], (0, 4 - length), value=filler))
        padded[1].append(torch.nn.functional.pad(kept[1], (0, 4 - length), value=-math.inf))
        padded[2].append(kept[2])
    leaf = STUDENT.clone().requires_grad_()
    loss = sparse_teacher_loss(leaf, *(torch.cat(parts) for parts in padded), **how)
    loss.backward()
    assert_close(loss, torch.stack(values).mean())
    assert_close(leaf.grad, torch.cat(gradients))


def test_a_padded_list_has_its_value_by_hand() -> None:
    # word 3 has 1/2, all others together 1/2: padded with word 0, as lists are
    kept = torch.tensor([[3, 0, 0]]), torch.tensor([[0.5, 0.0, 0.0]]).log(), torch.tensor([0.5]).log()
    student = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    expected = math.log(5) / 2 + math.log(5 / 9) / 2  # from (1/10, 9/10); without word 0 in the tail, 0.5 log(0.5/0.4)
    for kind, right in {"forward": expected, "total_variation": 0.4}.items():
        assert sparse_teacher_loss(student, *kept, tail="bucket", kind=kind).item() == pytest.approx(right, rel=1e-6)
    renormalized = sparse_teacher_loss(student, *kept, tail="renormalize")
    assert renormalized.item() == pytest.approx(math.log(10), rel=1e-6)


def test_a_list_without_a_word_knows_the_tail_only() -> None:
    kept = torch.tensor([[2, 0]]), torch.full((1, 2), -math.inf), torch.zeros(1)
    student = checks.randn(1, 5, seed=3).requires_grad_()
    for kind, mix in CASES:
        loss = sparse_teacher_loss(student, *kept, tail="bucket", kind=kind, mix=mix)
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert torch.autograd.grad(loss, student)[0].isfinite().all()


@every_kind
def test_a_student_without_a_tail_is_finite_or_said_to_be_infinite(kind: str, mix: float | None) -> None:
    # every word outside the list is at -inf for the student, and has a half of the teacher
    kept = torch.tensor([[0, 1]]), torch.tensor([[0.25, 0.25]]).log(), torch.tensor([0.5]).log()
    student = torch.tensor([[0.0, 0.0, -math.inf, -math.inf]], requires_grad=True)
    value = sparse_teacher_loss(student, *kept, tail="bucket", kind=kind, mix=mix)
    q, p = [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]
    expected = math.inf if kind == "forward" else definition(kind, p, q, math.nan if mix is None else mix)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert not student.grad.isnan().any()
    no_tail = kept[0], torch.tensor([[0.5, 0.5]]).log(), torch.tensor([-math.inf])
    value = sparse_teacher_loss(student, *no_tail, tail="bucket", kind=kind, mix=mix)
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_a_tail_that_the_teacher_lacks_is_infinite_for_reverse_kl_alone() -> None:
    kept = torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]).log(), torch.tensor([-math.inf])
    student = torch.zeros(1, 4, requires_grad=True)
    for kind, mix in CASES:
        value = sparse_teacher_loss(student, *kept, tail="bucket", kind=kind, mix=mix)
        expected = math.inf if kind == "reverse" else definition(kind, [0.5, 0.5, 0], [0.25, 0.25, 0.5], mix or 0)
        assert value.item() == pytest.approx(expected, rel=1e-5)
        assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("tail", ["bucket", "renormalize"])
def test_what_stands_in_the_padding_of_a_list_does_not_matter(tail: str) -> None:
    kept = sparse_teacher(TEACHER, k=3)
    spoiled = [x.clone() for x in kept]
    spoiled[0][1], spoiled[1][1], spoiled[2][1] = -100, math.nan, math.nan
    expected = sparse_teacher_loss(STUDENT, *kept, tail=tail, mask=MASK)
    assert_close(sparse_teacher_loss(STUDENT, *spoiled, tail=tail, mask=MASK), expected)


def test_no_gradient_reaches_what_is_kept_of_the_teacher() -> None:
    indices, log_probs, tail = sparse_teacher(TEACHER, k=3)
    for how in ({"tail": "bucket"}, {"tail": "renormalize"}):
        checks.check_gradient(
            lambda s, p, t, how=how: sparse_teacher_loss(s, indices, p, t, **how), STUDENT, log_probs, tail
        )
