"""Agreement and common mistakes, checked against Stanton et al. 2021 and Geirhos et al. 2020 in plain Python."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.fidelity import error_consistency, top1_agreement, wrong_answer_agreement
from tests import checks

STUDENT, TEACHER, LABELS = checks.randn(40, 4, seed=1), checks.randn(40, 4, seed=2), checks.labels_for(40, 4, seed=3)
TEACHER = TEACHER + 0.7 * STUDENT  # they have something in common


def choices(logits: Tensor) -> list[int]:
    return [row.index(max(row)) for row in logits.tolist()]


def kappa(student: list[int], teacher: list[int], labels: list[int]) -> float:
    """Cohen's kappa of who is right where, in plain Python."""
    kept = [i for i, label in enumerate(labels) if label != -100]
    right_s, right_t = ([side[i] == labels[i] for i in kept] for side in (student, teacher))
    observed = sum(a == b for a, b in zip(right_s, right_t, strict=True)) / len(kept)
    acc_s, acc_t = sum(right_s) / len(kept), sum(right_t) / len(kept)
    expected = acc_s * acc_t + (1 - acc_s) * (1 - acc_t)
    return (observed - expected) / (1 - expected)


def shared_mistakes(student: list[int], teacher: list[int], labels: list[int]) -> float:
    mistakes = [i for i, label in enumerate(labels) if label not in (-100, teacher[i])]
    return sum(student[i] == teacher[i] for i in mistakes) / len(mistakes)


def one_hot(*classes: int, num: int = 3) -> Tensor:
    return torch.eye(num)[list(classes)]


def test_agreement_matches_the_definition() -> None:
    pairs = zip(choices(STUDENT), choices(TEACHER), strict=True)
    assert top1_agreement(STUDENT, TEACHER).tolist() == [float(s == t) for s, t in pairs]
    assert 0 < top1_agreement(STUDENT, TEACHER).mean() < 1


@pytest.mark.parametrize("unlabelled", [0, 13])
def test_common_errors_match_their_definitions(unlabelled: int) -> None:
    labels = LABELS.clone()
    labels[:unlabelled] = -100
    arguments = choices(STUDENT), choices(TEACHER), labels.tolist()
    assert error_consistency(STUDENT, TEACHER, labels).item() == pytest.approx(kappa(*arguments), rel=1e-12)
    found = wrong_answer_agreement(STUDENT, TEACHER, labels).item()
    assert found == pytest.approx(shared_mistakes(*arguments), rel=1e-12)


def test_known_values_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0])
    student, teacher = one_hot(0, 0, 1, 1, 2, 0), one_hot(0, 0, 0, 1, 1, 2)
    assert top1_agreement(student, teacher).tolist() == [1, 1, 0, 1, 0, 0]
    # right ✓✓✗✗✗✓ and ✓✓✓✗✗✗: alike on 4 of 6; both have ½, so chance gives ½: (⅔ - ½) / ½
    assert error_consistency(student, teacher, labels).item() == pytest.approx(1 / 3)
    # the teacher errs on the last three, 1, 1 and 2; the student says 1, 2 and 0 there
    assert wrong_answer_agreement(student, teacher, labels).item() == pytest.approx(1 / 3)


def test_a_network_agrees_with_itself_in_everything() -> None:
    assert top1_agreement(STUDENT, STUDENT).tolist() == [1.0] * 40
    assert error_consistency(STUDENT, STUDENT, LABELS).item() == 1
    assert wrong_answer_agreement(STUDENT, STUDENT, LABELS).item() == 1


def test_the_same_errors_need_not_be_the_same_answers() -> None:
    labels = torch.tensor([0, 0, 0, 0])
    student, teacher = one_hot(0, 0, 1, 1), one_hot(0, 0, 2, 2)
    assert error_consistency(student, teacher, labels).item() == 1
    assert wrong_answer_agreement(student, teacher, labels).item() == 0


def test_opposite_errors_are_worse_than_chance() -> None:
    labels = torch.tensor([0, 0, 0, 0])
    assert error_consistency(one_hot(0, 0, 1, 1), one_hot(1, 1, 0, 0), labels).item() == -1


def test_independent_errors_are_at_chance() -> None:
    draw = torch.Generator().manual_seed(5)
    labels = torch.zeros(200_000, dtype=torch.int64)
    sides = [one_hot(0, 1)[(torch.rand(200_000, generator=draw) < 0.1).long()] for _ in range(2)]
    assert top1_agreement(*sides).mean() > 0.8, "although they have nothing in common"
    assert error_consistency(*sides, labels).abs() < 0.01


def test_where_chance_alone_would_agree_always_kappa_is_zero() -> None:
    labels = torch.tensor([0, 1, 2])
    right, wrong = one_hot(0, 1, 2), one_hot(1, 2, 0)
    assert error_consistency(right, right, labels).item() == 0
    assert error_consistency(wrong, wrong, labels).item() == 0
    assert error_consistency(right, wrong, labels).item() == 0  # o = e = 0: as bad as chance
    assert error_consistency(right, right, torch.full((3,), -100)).item() == 0


def test_a_single_error_among_many_is_seen_exactly() -> None:
    n = 30_000  # accuracies so near 1 that 1 - e in float32 would keep three digits
    labels = torch.zeros(n, dtype=torch.int64)
    student = torch.tensor([[1.0, 0.0]]).repeat(n, 1)
    student[0] = torch.tensor([0.0, 1.0])
    assert error_consistency(student, student, labels).item() == 1
    teacher = student.roll(1, dims=0)
    assert error_consistency(student, teacher, labels).item() == pytest.approx(-1 / (n - 1), rel=1e-5)


def test_where_the_teacher_makes_no_mistake_there_is_none_to_share() -> None:
    labels = torch.tensor([0, 1, 2])
    assert wrong_answer_agreement(one_hot(1, 1, 1), one_hot(0, 1, 2), labels).item() == 0
    assert wrong_answer_agreement(one_hot(1, 1), one_hot(1, 1), torch.tensor([1, -100])).item() == 0


def test_whose_mistakes_are_counted_matters_and_for_kappa_it_does_not() -> None:
    assert_close(error_consistency(STUDENT, TEACHER, LABELS), error_consistency(TEACHER, STUDENT, LABELS))
    labels = torch.tensor([0, 0, 0])  # the student errs twice, its teacher once
    student, teacher = one_hot(1, 1, 0), one_hot(1, 0, 0)
    assert wrong_answer_agreement(student, teacher, labels).item() == 1
    assert wrong_answer_agreement(teacher, student, labels).item() == 0.5


@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_what_changes_nothing(seed: int, shift: float, scale: float) -> None:
    student, teacher, labels = checks.randn(20, 3, seed=seed), checks.randn(20, 3, seed=seed + 1), LABELS[:20] % 3
    moved = scale * student + shift * torch.arange(20.0, dtype=torch.float64)[:, None]
    assert_close(top1_agreement(moved, teacher), top1_agreement(student, teacher))
    assert_close(top1_agreement(student, teacher.softmax(-1)), top1_agreement(student, teacher))
    checks.check_batch_permutation(top1_agreement, student, teacher, per_example=True)
    order = torch.tensor([2, 0, 1])
    named = order.argsort()[labels]  # class c of before stands where order has it
    for measure in (error_consistency, wrong_answer_agreement):
        plain = measure(student, teacher, labels)
        assert_close(measure(moved, teacher, labels), plain)
        assert_close(measure(student[:, order], teacher[:, order], named), plain)
        assert_close(measure(*(t.repeat(3, *[1] * (t.dim() - 1)) for t in (student, teacher, labels))), plain)
        checks.check_batch_permutation(measure, student, teacher, labels, per_example=False)
    assert -1 <= error_consistency(student, teacher, labels) <= 1
    assert 0 <= wrong_answer_agreement(student, teacher, labels) <= 1


def test_the_first_of_equal_scores_is_the_choice() -> None:
    tied, labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]), torch.tensor([0, 0])
    assert top1_agreement(tied, one_hot(0, 1)).tolist() == [1, 1]
    assert top1_agreement(tied, one_hot(1, 2)).tolist() == [0, 0]
    assert error_consistency(tied, one_hot(0, 2), labels).item() == 1
    assert wrong_answer_agreement(tied, one_hot(0, 1), labels).item() == 1


def test_a_row_without_a_choice_is_nan_unless_it_has_no_label() -> None:
    for broken in ([math.nan, 1.0, 2.0], [math.inf, 0.0, 0.0], [-math.inf] * 3):
        spoiled = torch.stack([torch.tensor(broken), *one_hot(1, 2)])
        for pair in ((spoiled, one_hot(0, 1, 2)), (one_hot(0, 1, 2), spoiled)):
            found = top1_agreement(*pair)
            assert found[0].isnan()
            assert found[1:].tolist() == [1, 1]
            for measure in (error_consistency, wrong_answer_agreement):
                assert measure(*pair, torch.tensor([0, 0, 2])).isnan()
                assert measure(*pair, torch.tensor([-100, 0, 2])).item() == 1


def test_no_gradient_reaches_either_side() -> None:
    sides = [z.clone().requires_grad_() for z in (STUDENT, TEACHER)]
    for measure in (top1_agreement, error_consistency, wrong_answer_agreement):
        assert not measure(*sides, *([] if measure is top1_agreement else [LABELS])).requires_grad


def test_each_measure_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    for measure, tensors in (
        (top1_agreement, (STUDENT, TEACHER)),
        (error_consistency, (STUDENT, TEACHER, LABELS)),
        (wrong_answer_agreement, (STUDENT, TEACHER, LABELS)),
    ):
        assert_close(torch.compile(measure, fullgraph=True, backend="aot_eager")(*tensors), measure(*tensors))
