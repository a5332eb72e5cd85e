"""Distillation across senses, checked against SciPy's Kendall tau, plain loops, and what C2KD's code does."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.cross_modal import paired_feature_loss, rank_agreement, select_agreeing, selected_soft_target_loss
from kdref.soft_targets import soft_target_loss
from tests import checks

STUDENT, TEACHER = checks.randn(6, 5, seed=1, scale=2.0), checks.randn(6, 5, seed=2, scale=2.0)
MAPS = checks.randn(4, 3, 5, seed=3), checks.randn(4, 3, 5, seed=4)
SELECTED = torch.tensor([True, False, True, True, False, False])


def oracle_rank_agreement(student: list[float], teacher: list[float]) -> float:
    """Concordant less discordant pairs, over the geometric mean of the pairs that are not tied in each row."""
    agreeing, own, other = 0, 0, 0
    for c in range(len(student)):
        for d in range(c):
            s = (student[c] > student[d]) - (student[c] < student[d])
            t = (teacher[c] > teacher[d]) - (teacher[c] < teacher[d])
            agreeing, own, other = agreeing + s * t, own + s * s, other + t * t
    return agreeing / math.sqrt(own * other) if own * other else 0.0


def oracle_selected(student: Tensor, teacher: Tensor, selected: Tensor, temperature: float) -> float:
    rows = zip(student.tolist(), teacher.tolist(), selected.tolist(), strict=True)
    terms = [checks.kl(checks.softmax(t, temperature), checks.softmax(s, temperature)) for s, t, m in rows if m]
    return temperature**2 * sum(terms) / len(terms) if terms else 0.0


def test_paired_features_match_the_definition() -> None:
    pairs = list(zip(MAPS[0].flatten().tolist(), MAPS[1].flatten().tolist(), strict=True))
    expected = sum((s - t) ** 2 for s, t in pairs) / len(pairs)
    assert paired_feature_loss(*MAPS).item() == pytest.approx(expected, rel=1e-12)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), levels=st.sampled_from([2, 3, 1000]))
def test_rank_agreement_is_kendalls_tau_b(seed: int, classes: int, levels: int) -> None:
    # few levels make many ties, also rows that are constant
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randint(levels, (2, 4, classes), generator=draw).double()
    for s, t, value in zip(student.tolist(), teacher.tolist(), rank_agreement(student, teacher).tolist(), strict=True):
        assert value == pytest.approx(oracle_rank_agreement(s, t), abs=1e-12)
        theirs = kendalltau(s, t).statistic
        assert value == pytest.approx(0.0 if math.isnan(theirs) else theirs, abs=1e-12)


def test_known_values_of_rank_agreement() -> None:
    rows = [
        # (student, teacher, expected)
        ([3.0, 2.0, 1.0], [9.0, 8.0, -7.0], 1.0),
        ([3.0, 2.0, 1.0], [-9.0, 0.0, 1.0], -1.0),
        ([3.0, 2.0, 1.0], [9.0, 0.0, 1.0], 1 / 3),  # two pairs agree, one does not
        ([3.0, 2.0, 1.0], [1.0, 1.0, 0.0], 2 / math.sqrt(3 * 2)),  # one tie: tau-a would say 2/3
        ([3.0, 2.0, 1.0], [4.0, 4.0, 4.0], 0.0),
    ]
    student, teacher = (torch.tensor([row[side] for row in rows]) for side in (0, 1))
    assert rank_agreement(student, teacher).tolist() == pytest.approx([row[2] for row in rows], abs=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_selected_loss_matches_the_definition(temperature: float) -> None:
    for selected in (SELECTED, ~SELECTED, SELECTED | ~SELECTED):
        expected = oracle_selected(STUDENT, TEACHER, selected, temperature)
        loss = selected_soft_target_loss(STUDENT, TEACHER, selected, temperature=temperature)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_known_values_of_the_other_losses() -> None:
    assert paired_feature_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]])).item() == 4.5  # (0 + 9) / 2
    # student (3/4, 1/4), teacher ½, ½: ½ log(2/3) + ½ log 2 = ½ log(4/3); three examples, of which one is not selected
    student = torch.tensor([[math.log(3.0), 0.0]] * 3, dtype=torch.float64)
    loss = selected_soft_target_loss(student, torch.zeros_like(student), torch.tensor([True, False, True]))
    assert loss.item() == pytest.approx(0.5 * math.log(4 / 3))


def test_selecting_all_is_plain_distillation_and_the_default_temperature_is_1() -> None:
    everything = torch.ones(6, dtype=torch.bool)
    plain = soft_target_loss(STUDENT, TEACHER, temperature=3.0)
    assert_close(selected_soft_target_loss(STUDENT, TEACHER, everything, temperature=3.0), plain)
    plain = soft_target_loss(STUDENT, TEACHER, temperature=1.0)
    assert_close(selected_soft_target_loss(STUDENT, TEACHER, everything), plain)


def test_nothing_selected_gives_zero_with_a_gradient_path() -> None:
    student = STUDENT.clone().requires_grad_()
    loss = selected_soft_target_loss(student, TEACHER, torch.zeros(6, dtype=torch.bool))
    assert loss.requires_grad, "no gradient path"
    loss.backward()
    assert_close((loss.detach(), student.grad), (torch.zeros((), dtype=torch.float64), torch.zeros_like(student)))


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e4])
def test_what_stands_in_rows_that_are_not_selected_does_not_matter(junk: float) -> None:
    results = []
    for fill in (0.0, junk):
        student = STUDENT.masked_fill(~SELECTED[:, None], fill).requires_grad_()
        loss = selected_soft_target_loss(student, TEACHER.masked_fill(~SELECTED[:, None], fill), SELECTED)
        loss.backward()
        results.append((loss.detach(), student.grad))
    assert_close(results[1], results[0])
    assert (results[1][1][~SELECTED] == 0).all()


def test_the_mean_is_over_the_selected_so_that_adding_unselected_examples_changes_nothing() -> None:
    few = selected_soft_target_loss(STUDENT[SELECTED], TEACHER[SELECTED], torch.ones(3, dtype=torch.bool))
    assert_close(selected_soft_target_loss(STUDENT, TEACHER, SELECTED), few)


def test_selection_is_strictly_above_the_threshold() -> None:
    student = torch.tensor([[3.0, 2.0, 1.0]]).expand(4, -1)
    teacher = torch.tensor([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])  # 1, 1/3, 0, -1
    assert select_agreeing(student, teacher).tolist() == [True, True, False, False]
    assert select_agreeing(student, teacher, threshold=0.5).tolist() == [True, False, False, False]
    assert select_agreeing(student, teacher, threshold=-0.5).tolist() == [True, True, True, False]
    assert select_agreeing(student, teacher, threshold=1.0).tolist() == [False] * 4
    assert select_agreeing(student, teacher).dtype == torch.bool


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    shifted = TEACHER + checks.randn(6, 1, seed=5)
    assert selected_soft_target_loss(shifted, TEACHER, SELECTED).item() == pytest.approx(0.0, abs=1e-14)
    assert selected_soft_target_loss(STUDENT, TEACHER, SELECTED) > 0.1
    assert paired_feature_loss(MAPS[1], MAPS[1]).item() == 0.0
    assert paired_feature_loss(*MAPS) > 0.1
    assert_close(rank_agreement(TEACHER, TEACHER), torch.ones(6, dtype=torch.float64))
    assert_close(rank_agreement(-TEACHER, TEACHER), -torch.ones(6, dtype=torch.float64))


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 10), shift=st.floats(-5, 5))
def test_rank_agreement_sees_nothing_but_order(seed: int, scale: float, shift: float) -> None:
    student, teacher = checks.randn(4, 6, seed=seed), checks.randn(4, 6, seed=seed + 1)
    plain, order = rank_agreement(student, teacher), torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert_close(rank_agreement(scale * student + shift, teacher.exp()), plain)
    assert_close(rank_agreement(student[:, order], teacher[:, order]), plain)
    assert_close(rank_agreement(teacher, student), plain)
    assert_close(rank_agreement(-student, teacher), -plain)
    loss = selected_soft_target_loss(student, teacher, plain > 0)
    assert_close(selected_soft_target_loss(student - shift, teacher + shift, plain > 0), loss)


def test_batch_permutation() -> None:
    for function in (rank_agreement, select_agreeing):
        checks.check_batch_permutation(function, STUDENT, TEACHER, per_example=True)
    checks.check_batch_permutation(
        lambda s, t, m: selected_soft_target_loss(s, t, m), STUDENT, TEACHER, SELECTED, per_example=False
    )
    checks.check_batch_permutation(lambda s, t: paired_feature_loss(s, t), *MAPS, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: selected_soft_target_loss(s, t, SELECTED, temperature=2.0), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t: paired_feature_loss(s, t), *MAPS)
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert not rank_agreement(student, teacher).requires_grad


def test_the_gradient_of_one_selected_example_is_that_of_soft_targets() -> None:
    student, alone = STUDENT.clone().requires_grad_(), torch.arange(6) == 2
    selected_soft_target_loss(student, TEACHER, alone, temperature=3.0).backward()
    q, p = ((x[2].detach() / 3).softmax(dim=-1) for x in (STUDENT, TEACHER))
    assert_close(student.grad[2], 3 * (q - p))
    assert (student.grad[~alone] == 0).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e4])
def test_extreme_input_stays_finite(scale: float) -> None:
    student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
    nothing = torch.zeros(6, dtype=torch.bool)
    for rows in (student, student[:1], student[:1].expand(6, -1), -teacher):
        for selected in (SELECTED, nothing, ~nothing):
            mask = selected[: len(rows)]
            checks.check_extremes(lambda s, t, m=mask: selected_soft_target_loss(s, t, m), rows, teacher[: len(rows)])
        checks.check_extremes(lambda s, t: paired_feature_loss(s, t), rows, teacher[: len(rows)])
        for dtype in (*checks.DTYPES, torch.float64):
            value = rank_agreement(rows.to(dtype), teacher[: len(rows)].to(dtype))
            assert value.dtype == torch.promote_types(dtype, torch.float32)
            assert (value.abs() <= 1).all()


def test_bad_input_is_named() -> None:
    of_pairs = (rank_agreement, select_agreeing, lambda s, t: selected_soft_target_loss(s, t, SELECTED))
    for function in of_pairs:
        with pytest.raises(ValueError, match=r"must both be \(B, C\), not empty, got \(6, 4\) and \(6, 5\)"):
            function(STUDENT[:, :4], TEACHER)
        with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
            function(STUDENT, TEACHER.long())
    with pytest.raises(ValueError, match=r"selected must be a bool tensor \(B,\), got \(5,\) for \(6, 5\)"):
        selected_soft_target_loss(STUDENT, TEACHER, SELECTED[:5])
    with pytest.raises(TypeError, match=r"selected must be a bool tensor \(B,\), got torch\.float32"):
        selected_soft_target_loss(STUDENT, TEACHER, SELECTED.float())
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            selected_soft_target_loss(STUDENT, TEACHER, SELECTED, temperature=temperature)
    for threshold in (-1.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"threshold must be in \[-1, 1\], got {threshold}"):
            select_agreeing(STUDENT, TEACHER, threshold=threshold)
    with pytest.raises(ValueError, match="match channels with a regressor"):
        paired_feature_loss(MAPS[0][:, :2], MAPS[1])
    with pytest.raises(TypeError, match="the student's features must be floating point"):
        paired_feature_loss(MAPS[0].long(), MAPS[1])


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: selected_soft_target_loss(s, t, select_agreeing(s, t)), STUDENT, TEACHER)
    checks.check_compiles(lambda s, t: paired_feature_loss(s, t), *MAPS)


def test_a_tiny_student_of_one_sense_learns_from_a_teacher_of_another() -> None:
    # both sensors see the same hidden cause through different mixtures; the student never sees a label
    torch.manual_seed(5)
    cause = checks.randn(128, 3, seed=6)
    teacher = cause @ checks.randn(3, 4, seed=7)
    seen = cause @ checks.randn(3, 6, seed=8)
    student = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        logits = student(seen)
        selected_soft_target_loss(logits, teacher, select_agreeing(logits, teacher, threshold=-0.5)).backward()
        optimizer.step()
    assert (student(seen).argmax(dim=1) == teacher.argmax(dim=1)).double().mean() > 0.9
    assert F.kl_div(student(seen).log_softmax(1), teacher.softmax(1), reduction="batchmean") < 0.05
