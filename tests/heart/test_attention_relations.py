"""Relations of self-attention, checked against MiniLM and TinyBERT and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from kdref.attention import attention_relation_divergence, attention_score_loss, value_relation
from tests import checks

SCORES, TEACHER_SCORES = checks.randn(3, 2, 4, 4, seed=3), checks.randn(3, 2, 4, 4, seed=4)
ROWS, TEACHER_ROWS = SCORES.softmax(-1), TEACHER_SCORES.softmax(-1)
VALUES = checks.randn(3, 2, 4, 5, seed=5)
MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, False, False, False]])


def test_relation_divergence_matches_the_definition() -> None:
    for mask in (None, MASK):
        values = []
        for b in range(3):
            real = [i for i in range(4) if mask is None or mask[b, i]]
            pairs = [(TEACHER_ROWS[b, a, i].tolist(), ROWS[b, a, i].tolist()) for a in range(2) for i in real]
            values.append(sum(checks.kl(p, q) for p, q in pairs) / len(pairs))
        expected = torch.tensor(values, dtype=torch.float64)
        assert_close(attention_relation_divergence(ROWS, TEACHER_ROWS, mask=mask), expected)


def test_value_relation_matches_the_definition() -> None:
    for mask in (None, MASK):
        relation = value_relation(VALUES, mask=mask)
        for b, a, i in ((0, 0, 0), (1, 1, 3), (2, 0, 2)):
            keys = [j for j in range(4) if mask is None or mask[b, j]]
            rows = VALUES[b, a].tolist()
            scores = [sum(x * y for x, y in zip(rows[i], rows[j], strict=True)) / math.sqrt(5) for j in keys]
            expected = dict(zip(keys, checks.softmax(scores), strict=True))
            wanted = torch.tensor([expected.get(j, 0.0) for j in range(4)], dtype=torch.float64)
            assert_close(relation[b, a, i], wanted)


def test_score_loss_matches_the_definition() -> None:
    for mask in (None, MASK):
        squares = [
            (SCORES[b, a, i, j] - TEACHER_SCORES[b, a, i, j]).item() ** 2
            for b in range(3)
            for a in range(2)
            for i in range(4)
            for j in range(4)
            if mask is None or (mask[b, i] and mask[b, j])
        ]
        loss = attention_score_loss(SCORES, TEACHER_SCORES, mask=mask)
        assert loss.item() == pytest.approx(sum(squares) / len(squares), rel=1e-12)


def test_known_values() -> None:
    # a sure teacher and a fair coin on one of two rows, the other agrees: log 2 and 0
    fair, sure = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]), torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    assert_close(attention_relation_divergence(fair, sure), torch.tensor([math.log(2) / 2]))
    # products 0 and 4 in the second row, over √4: softmax(0, 2)
    values = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])
    assert value_relation(values)[0, 1, 1].item() == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-6)
    # squares 0 and 4
    assert attention_score_loss(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]])) == 2.0


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert_close(attention_relation_divergence(ROWS, ROWS), torch.zeros(3, dtype=torch.float64))
    assert (attention_relation_divergence(ROWS, TEACHER_ROWS) > 0).all()
    assert attention_score_loss(SCORES, SCORES) == 0
    assert attention_score_loss(SCORES, TEACHER_SCORES) > 0


@given(seed=st.integers(0, 10**6))
def test_relations_ignore_width_and_rotation_but_not_scale(seed: int) -> None:
    values = checks.randn(2, 3, 4, 5, seed=seed)
    rotation, _ = torch.linalg.qr(checks.randn(5, 5, seed=seed + 1))
    relation = value_relation(values)
    assert_close(value_relation(values @ rotation), relation)
    wider = torch.cat([values, torch.zeros(2, 3, 4, 15, dtype=torch.float64)], -1) * math.sqrt(2)  # (√2)² = √(20 / 5)
    assert_close(value_relation(wider), relation)
    assert_close(relation.sum(-1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert not torch.allclose(value_relation(2 * values), relation)
    wide = value_relation(checks.randn(2, 3, 4, 64, seed=seed + 2))
    assert (attention_relation_divergence(relation, wide) >= 0).all()


@given(seed=st.integers(0, 10**6), shift=st.floats(-20, 20))
def test_a_shift_of_a_row_of_scores_matters_to_scores_and_not_to_rows(seed: int, shift: float) -> None:
    student, teacher = checks.randn(2, 3, 4, 4, seed=seed), checks.randn(2, 3, 4, 4, seed=seed + 1)
    plain = attention_score_loss(student, teacher)
    assert_close(attention_score_loss(student + shift, teacher + shift), plain)
    assert_close(attention_score_loss(teacher + shift, teacher), torch.tensor(shift**2, dtype=torch.float64))
    heads = torch.tensor([2, 0, 1])
    assert_close(attention_score_loss(student[:, heads], teacher[:, heads]), plain)
    rows = [scores.softmax(-1) for scores in (student, teacher, student + shift)]
    divergence = attention_relation_divergence(rows[0], rows[1])
    assert_close(attention_relation_divergence(rows[2], rows[1]), divergence)
    assert_close(attention_relation_divergence(rows[0][:, heads], rows[1][:, heads]), divergence)


@pytest.mark.parametrize("content", [0.0, -1e4, -math.inf, math.nan])
def test_padding_is_left_out_whatever_it_holds(content: float) -> None:
    real = (MASK.view(3, 1, 4, 1) & MASK.view(3, 1, 1, 4)).expand(3, 2, 4, 4)
    student, teacher = (m.masked_fill(~real, content).requires_grad_() for m in (SCORES, TEACHER_SCORES))
    loss = attention_score_loss(student, teacher, mask=MASK)
    assert_close(loss, (SCORES - TEACHER_SCORES)[real].square().mean())
    loss.backward()
    assert student.grad.isfinite().all()
    assert (student.grad[~real] == 0).all()
    rows = [m.masked_fill(~MASK.view(3, 1, 4, 1), content).requires_grad_() for m in (ROWS, TEACHER_ROWS)]
    divergence = attention_relation_divergence(*rows, mask=MASK)
    assert_close(divergence, attention_relation_divergence(ROWS, TEACHER_ROWS, mask=MASK))
    divergence.sum().backward()
    assert rows[0].grad.isfinite().all()


def test_more_padding_changes_nothing() -> None:
    def padded(tensor: torch.Tensor, *axes: int) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, [size for axis in axes for size in (0, axis)])

    mask = padded(MASK, 3)
    score = attention_score_loss(padded(SCORES, 3, 3), padded(TEACHER_SCORES, 3, 3), mask=mask)
    assert_close(score, attention_score_loss(SCORES, TEACHER_SCORES, mask=MASK))
    relations = [value_relation(padded(v, 0, 3), mask=mask) for v in (VALUES, VALUES.cos())]
    short = [value_relation(v, mask=MASK) for v in (VALUES, VALUES.cos())]
    assert_close(relations[0][..., :4, :4], short[0])
    divergence = attention_relation_divergence(*relations, mask=mask)
    assert_close(divergence, attention_relation_divergence(*short, mask=MASK))


def test_where_no_token_is_real_the_loss_is_zero_with_a_gradient_path() -> None:
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    student, rows = SCORES.clone().requires_grad_(), ROWS.clone().requires_grad_()
    loss = attention_score_loss(student, TEACHER_SCORES, mask=nothing)
    divergence = attention_relation_divergence(rows, TEACHER_ROWS, mask=nothing)
    (loss + divergence.sum()).backward()
    assert loss == 0
    assert (divergence == 0).all()
    assert (student.grad == 0).all()
    assert (rows.grad == 0).all()
    assert_close(value_relation(VALUES, mask=nothing), torch.full((3, 2, 4, 4), 0.25, dtype=torch.float64))


def test_one_head_may_do_without_its_axis() -> None:
    for mask in (None, MASK):
        one = attention_relation_divergence(ROWS[:, 0], TEACHER_ROWS[:, 0], mask=mask)
        assert_close(one, attention_relation_divergence(ROWS[:, :1], TEACHER_ROWS[:, :1], mask=mask))
        assert_close(value_relation(VALUES[:, 0], mask=mask), value_relation(VALUES, mask=mask)[:, 0])
        loss = attention_score_loss(SCORES[:, 0], TEACHER_SCORES[:, 0], mask=mask)
        assert_close(loss, attention_score_loss(SCORES[:, :1], TEACHER_SCORES[:, :1], mask=mask))


def test_batch_permutation() -> None:
    checks.check_batch_permutation(
        lambda s, t, m: attention_relation_divergence(s, t, mask=m), ROWS, TEACHER_ROWS, MASK, per_example=True
    )
    checks.check_batch_permutation(lambda v, m: value_relation(v, mask=m), VALUES, MASK, per_example=True)
    checks.check_batch_permutation(
        lambda s, t, m: attention_score_loss(s, t, mask=m), SCORES, TEACHER_SCORES, MASK, per_example=False
    )


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t, m: attention_relation_divergence(s, t, mask=m), ROWS, TEACHER_ROWS, MASK)
    checks.check_gradient(lambda s, t: attention_relation_divergence(s, t), ROWS, TEACHER_ROWS)
    checks.check_gradient(lambda v, m: value_relation(v, mask=m), VALUES, MASK)
    checks.check_gradient(lambda s, t, m: attention_score_loss(s, t, mask=m), SCORES, TEACHER_SCORES, MASK)
    checks.check_gradient(lambda s, t: attention_score_loss(s, t), SCORES, TEACHER_SCORES)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_scores_and_certain_rows_stay_finite(scale: float) -> None:
    student, teacher = (m / m.abs().max() * scale for m in (SCORES, TEACHER_SCORES))
    for scores in (student, student[:1], torch.zeros_like(student)):
        target = teacher[: len(scores)]
        checks.check_extremes(lambda s, t: attention_score_loss(s, t), scores, target)
        checks.check_extremes(lambda s, t: attention_relation_divergence(s, t), scores.softmax(-1), target.softmax(-1))
        checks.check_extremes(lambda v: value_relation(v), scores)
    identity = torch.eye(4).expand(2, 4, 4)
    checks.check_extremes(lambda s, t: attention_relation_divergence(s, t), identity, identity.flip(-1))
    checks.check_extremes(lambda s, t: attention_relation_divergence(s.softmax(-1), t), 1e4 * identity, identity)
    assert_close(attention_relation_divergence(identity, identity), torch.zeros(2))  # 0 log 0 is 0


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"heads and tokens must be the same, got \(3, 1, 4, 4\) and \(3, 2, 4, 4\): split"
    ):
        attention_relation_divergence(ROWS[:, :1], TEACHER_ROWS)
    with pytest.raises(ValueError, match=r"heads and tokens must be the same"):
        attention_score_loss(SCORES[..., :3], TEACHER_SCORES)
    with pytest.raises(ValueError, match=r"expected \(B, heads, tokens, \.\.\.\), not empty, got shape \(3, 2\)"):
        value_relation(VALUES[..., 0, 0])
    with pytest.raises(ValueError, match=r"not empty, got shape \(0, 2, 4, 5\)"):
        value_relation(VALUES[:0])
    with pytest.raises(TypeError, match=r"attention must be floating point, got torch\.int64"):
        attention_score_loss(SCORES, TEACHER_SCORES.long())
    with pytest.raises(TypeError, match=r"the mask must be a boolean tensor, True for real tokens, got torch\.int64"):
        value_relation(VALUES, mask=MASK.long())
    with pytest.raises(ValueError, match=r"the mask must be \(B, L\) = \(3, 4\), got \(3, 2\)"):
        attention_relation_divergence(ROWS, TEACHER_ROWS, mask=MASK[:, :2])
    with pytest.raises(ValueError, match=r"a mask of tokens needs scores \(B, A, L, L\), got \(3, 2, 4, 3\)"):
        attention_score_loss(SCORES[..., :3], TEACHER_SCORES[..., :3], mask=MASK)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(
        lambda v, t, m: attention_relation_divergence(value_relation(v, mask=m), t, mask=m), VALUES, TEACHER_ROWS, MASK
    )
    checks.check_compiles(lambda s, t, m: attention_score_loss(s, t, mask=m), SCORES, TEACHER_SCORES, MASK)


def test_a_narrow_student_learns_a_wide_teachers_relations() -> None:
    torch.manual_seed(6)
    x = checks.randn(8, 4, 6, seed=7)
    teacher = value_relation(x @ checks.randn(6, 12, seed=8))
    student = nn.Linear(6, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    first = attention_relation_divergence(value_relation(student(x)), teacher).mean().item()
    for _ in range(300):
        loss = attention_relation_divergence(value_relation(student(x)), teacher).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4
