"""Losses on relations: what people hand to them, besides two tensors that fit."""

import math

import pytest
import torch
from scipy.special import ive
from torch import Tensor

from kdref import relation
from tests import checks, inner, inputs
from tests.inner import CHANNELS, EXAMPLES, Call

MEMORY_SIZES = (CHANNELS, CHANNELS)


def memory(labels: Tensor | None = None, width: int = CHANNELS) -> relation.ContrastiveMemory:
    torch.manual_seed(1)
    made = relation.ContrastiveMemory(*MEMORY_SIZES, num_examples=EXAMPLES, width=width, labels=labels)
    return made.double()


def updated(student: Tensor, teacher: Tensor, indices: Tensor) -> Tensor:
    banks = memory()
    banks.update(student, teacher, indices)
    return torch.cat([banks.student_bank, banks.teacher_bank])


PLAIN = [
    Call(relation, name, "ee")
    for name in (
        "rkd_distance_loss",
        "rkd_angle_loss",
        "similarity_preserving_loss",
        "correlation_congruence_loss",
        "probabilistic_transfer_loss",
        "info_nce_loss",
    )
]
CRD = Call(relation, "crd_loss", "eeyn", how=lambda s, t, i, n, **k: relation.crd_loss(s, t, i, n, memory(), **k))
MEMORY = Call(relation, "ContrastiveMemory", "ee", how=lambda s, t: torch.cat(memory()(s, t)))
UPDATE = Call(relation, "ContrastiveMemory.update", "eey", how=updated, students=0)
CALLS = [*PLAIN, CRD, MEMORY, UPDATE]


def test_no_name_is_forgotten() -> None:
    assert {call.name.split(".")[0] for call in CALLS} == set(relation.__all__)


@pytest.mark.parametrize("check", inner.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    if check not in (inner.check_numbers, inputs.check_temperature) or call in PLAIN:
        check(call)


@pytest.mark.parametrize("call", [*PLAIN, CRD, UPDATE], ids=str)
def test_sides_of_different_examples_are_refused(call: Call) -> None:
    inner.check_examples(call)


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_mixed_precision_rounds_nothing(call: Call) -> None:
    inner.check_autocast(call)


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_a_scale_that_means_nothing_means_nothing_at_any_size(call: Call) -> None:
    inner.check_scale(call)


def test_indices_out_of_range_are_named_where_looking_costs_nothing() -> None:
    for call, index, name in ((CRD, 2, "indices"), (CRD, 3, "negatives"), (UPDATE, 2, "indices")):
        right = call.rows()[index]
        for value in (EXAMPLES, -1, 10**9):
            wrong = right.clone()
            wrong[1] = value
            with pytest.raises(ValueError, match=rf"{name} must be in \[0, {EXAMPLES}\), got {value}"):
                call(*call.replaced(index, wrong))
            with pytest.raises(
                ValueError, match=rf"{name} must be one number for each of \w+ rows, got \(1, {len(right)}\)"
            ):
                call(*call.replaced(index, right[None]))


def test_indices_are_not_looked_at_while_compiling() -> None:
    student, teacher, indices, negatives = CRD.rows()
    banks = memory()
    checks.check_compiles(lambda s: relation.crd_loss(s, teacher, indices, negatives, banks), student)


def test_an_update_needs_rows_for_each_index() -> None:
    student, teacher, indices = UPDATE.rows()
    for wrong in (student[:1], student[:, :2], torch.cat([student, student])):
        with pytest.raises(ValueError, match=r"both be \(B, D\), not empty|must be one number|of the memory's width"):
            updated(wrong, teacher, indices)
        with pytest.raises(ValueError, match=r"must be one number for each|of the memory's width"):
            updated(wrong, wrong, indices)
    with pytest.raises(ValueError, match=r"indices must be one number for each of 3 rows, got \(2,\)"):
        updated(student, teacher, indices[:2])


def test_settings_of_the_memory_are_named() -> None:
    for name in ("student_features", "teacher_features", "num_examples", "width"):
        right = {"student_features": 4, "teacher_features": 4, "num_examples": 9, "width": 4}
        for value in ("4", None, 2.5, [4]):
            with pytest.raises(TypeError, match=f"{name} must be a whole number, got"):
                relation.ContrastiveMemory(**{**right, name: value})
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            relation.ContrastiveMemory(**{**right, name: 0})
        assert relation.ContrastiveMemory(**{**right, name: 1}).draw(1).shape == (1,)
    for value in ("0.5", None):
        with pytest.raises(TypeError, match="momentum must be a number, got"):
            relation.ContrastiveMemory(4, 4, num_examples=9, momentum=value)
    for labels in ([0] * 9, torch.zeros(9), torch.zeros(9, dtype=torch.int32)):
        with pytest.raises(TypeError, match=r"labels must be a tensor of int64, got"):
            memory(labels)
    for count in ("3", 2.5, None):
        with pytest.raises(TypeError, match="count must be a whole number, got"):
            memory().draw(count)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        memory().draw(0)


def test_settings_of_crd_are_named() -> None:
    for value in ("0.1", None, [0.1], torch.tensor(0.1)):
        with pytest.raises(TypeError, match="temperature must be a number, got"):
            CRD(*CRD.rows(), temperature=value)
    for value in (0.0, -1.0, math.nan, math.inf, 9e-5):
        with pytest.raises(ValueError, match=rf"temperature must be in \[0\.0001, inf\), got {value}"):
            CRD(*CRD.rows(), temperature=value)
    student, teacher, indices, negatives = CRD.rows()
    with pytest.raises(TypeError, match="memory must be a ContrastiveMemory, got NoneType"):
        relation.crd_loss(student, teacher, indices, negatives, None)


def test_whole_powers_only() -> None:
    student, teacher = PLAIN[0].rows()
    for order in (1.5, 2.0):
        with pytest.raises(TypeError, match=f"order must be a whole number, got {order}"):
            relation.correlation_congruence_loss(student, teacher, order=order)
    assert relation.correlation_congruence_loss(student, teacher, order=1).isfinite()


@pytest.mark.parametrize("width", [2, 128])
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 1.0, 100.0])
def test_the_noise_has_its_closed_form_at_any_temperature(width: int, temperature: float) -> None:
    # the mean of exp(κ cos) over the sphere is Γ(D/2) (2/κ)^(D/2 - 1) I_(D/2 - 1)(κ); zeros have cosine 0 with all
    half, sharpness = width / 2, 1 / temperature
    log_mean = math.lgamma(half) + (half - 1) * math.log(2 / sharpness) + math.log(ive(half - 1, sharpness)) + sharpness
    banks, zeros = memory(width=width), torch.zeros(1, width, dtype=torch.float64)
    noise = log_mean + math.log(7)
    loss = relation.crd_loss(zeros, zeros, torch.tensor([8]), torch.arange(7), banks, temperature=temperature)
    expected = 2 * (noise + math.log1p(math.exp(-noise)) + 7 * math.log1p(math.exp(-noise)))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_an_example_without_a_label_is_alone_in_its_group() -> None:
    labels = torch.tensor([0, -100, 0, -100, 1, 1, 1, 1, 1])
    banks = memory(labels)
    same = banks.groups[:, None] == banks.groups
    assert same[1].nonzero().tolist() == [[1]]
    assert same[3].nonzero().tolist() == [[3]]
    assert same[0].nonzero().tolist() == [[0], [2]]
