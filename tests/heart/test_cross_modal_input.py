"""Distillation across senses: what people hand to it, besides two tensors that fit."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref import cross_modal
from kdref.cross_modal import paired_feature_loss, rank_agreement, select_agreeing, selected_soft_target_loss
from kdref.soft_targets import kl_divergence
from tests import checks, inputs
from tests.inputs import Call

RANKS = [Call(cross_modal, name, "zz") for name in ("rank_agreement", "select_agreeing")]
SELECTED, PAIRED = Call(cross_modal, "selected_soft_target_loss", "zzm"), Call(cross_modal, "paired_feature_loss", "zz")
CALLS = [*RANKS, SELECTED, PAIRED]
AXES = (inputs.check_class_dim, inputs.check_one_class, inputs.check_class_axis)


@pytest.mark.parametrize("check", inputs.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    if call is not PAIRED or check not in AXES:  # features have no classes
        check(call)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_empty_batch_is_named(call: Call) -> None:
    inputs.check_empty(call, refused=True)


@pytest.mark.parametrize("call", [*RANKS, SELECTED], ids=str)
def test_a_class_that_a_teacher_lacks_makes_no_nan(call: Call) -> None:
    inputs.check_missing_class(call)


def test_large_temperatures_and_one_per_example() -> None:
    inputs.check_large_temperature(SELECTED)
    student, teacher, selected = SELECTED.rows()
    temperature = torch.arange(1, 13, dtype=torch.float64)[:, None] / 3
    values = temperature[:, 0] ** 2 * kl_divergence(student, teacher, temperature=temperature)
    loss = selected_soft_target_loss(student, teacher, selected, temperature=temperature)
    assert_close(loss, values[selected].mean())


def test_a_nan_has_no_rank_and_stops_at_its_example() -> None:
    student, teacher = checks.randn(3, 4, seed=1), checks.randn(3, 4, seed=2)
    plain = rank_agreement(student, teacher)
    for broken in (0, 1):
        pair = [student.clone(), teacher.clone()]
        pair[broken][1, 2] = math.nan
        found = rank_agreement(*pair)
        assert found[1].isnan()
        assert_close(found[[0, 2]], plain[[0, 2]])


def test_a_nan_is_selected_so_that_the_loss_says_so() -> None:
    student, teacher = checks.randn(3, 4, seed=1), checks.randn(3, 4, seed=2)
    teacher[1, 2] = math.nan
    selected = select_agreeing(student, teacher, threshold=0.99)
    assert selected.tolist() == [False, True, False]
    assert selected_soft_target_loss(student, teacher, selected).isnan()
    present = ~teacher.isnan().any(dim=1)
    assert selected_soft_target_loss(student, teacher, selected & present).item() == 0.0


def test_two_classes_that_both_sides_lack_tie() -> None:
    # of (3, 1, -inf, -inf) five pairs are ranked, and all of them alike; turned round in the first two, four of five
    student = torch.tensor([[3.0, 1.0, -math.inf, -math.inf]] * 2)
    teacher = torch.tensor([[9.0, 2.0, -math.inf, -math.inf], [2.0, 9.0, -math.inf, -math.inf]])
    assert rank_agreement(student, teacher).tolist() == pytest.approx([1.0, (4 - 1) / 5])


def test_known_value_of_a_selected_teacher_that_lacks_a_class() -> None:
    fair, teacher = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, -math.inf]] * 2)
    loss = selected_soft_target_loss(fair, teacher, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(math.log(1.5), abs=1e-6)
    infinite = selected_soft_target_loss(teacher, fair, torch.tensor([True, False]))
    assert infinite.item() == math.inf
    assert selected_soft_target_loss(teacher, fair, torch.tensor([False, False])).item() == 0.0


def test_what_a_selection_must_be_is_named() -> None:
    student, teacher, selected = SELECTED.rows()
    for value in (selected[:5], selected[:, None], selected[None]):
        with pytest.raises(ValueError, match=r"selected must be a bool tensor \(B,\), got .* for \(12, 4\)"):
            selected_soft_target_loss(student, teacher, value)
    for pair in ((student[:, :3], teacher), (student, teacher[:11]), (student[0], teacher[0])):
        with pytest.raises(ValueError, match=r"must both be \(B, C\), not empty, got"):
            rank_agreement(*pair)


def test_features_that_differ_by_1e30_are_no_silent_zero() -> None:
    assert paired_feature_loss(torch.full((1, 2), 1e30), torch.zeros(1, 2)).item() == math.inf


def test_dense_losses_compile_to_one_graph() -> None:
    def all_of_them(s: Tensor, t: Tensor) -> Tensor:
        return selected_soft_target_loss(s, t, select_agreeing(s, t, class_dim=1), class_dim=1)

    checks.check_compiles(all_of_them, *RANKS[0].maps())


def test_losses_can_be_differentiated_twice() -> None:
    student, teacher, selected = SELECTED.rows()
    checks.check_second_derivative(lambda s: selected_soft_target_loss(s, teacher, selected), student)
    checks.check_second_derivative(lambda s: paired_feature_loss(s, teacher), student)
