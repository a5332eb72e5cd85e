"""A teacher kept in a few numbers: what each policy loses, what sampling does not, and what is stored."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.language import (
    sampled_teacher,
    sampled_teacher_loss,
    sparse_teacher,
    sparse_teacher_loss,
    token_loss,
)
from tests import checks
from tests.heart.language.test_tokens import CASES, definition

STUDENT, TEACHER = checks.randn(4, 6, seed=1, scale=2.0), checks.randn(4, 6, seed=2, scale=2.0)
TOP = checks.randn(3, 4, 5, seed=2, scale=2.0)
MASK = torch.tensor([True, False, True, True])
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)


def oracle(
    student: list[float], teacher: list[float], k: int, tail: str, kind: str = "forward", mix: float | None = None
) -> float:
    q, p = checks.softmax(student), checks.softmax(teacher)
    kept = sorted(range(len(p)), key=lambda v: -p[v])[:k]
    first, second = [p[v] for v in kept], [q[v] for v in kept]
    if tail == "bucket":
        rest = [v for v in range(len(p)) if v not in kept]
        first, second = [*first, sum(p[v] for v in rest)], [*second, sum(q[v] for v in rest)]
        return definition(kind, first, second, math.nan if mix is None else mix)
    return checks.kl([value / sum(first) for value in first], second)


def bucket(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    return sparse_teacher_loss(student, *sparse_teacher(teacher, k=3), tail="bucket", mask=mask)


def renormalized(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    return sparse_teacher_loss(student, *sparse_teacher(teacher, k=3), tail="renormalize", mask=mask)


def sampled(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    drawn = sampled_teacher(teacher.nan_to_num(0, 0, 0), k=3, generator=torch.Generator().manual_seed(0))
    return sampled_teacher_loss(student, *drawn, mask=mask)


every_loss = pytest.mark.parametrize("loss", [bucket, renormalized, sampled])


@pytest.mark.parametrize("tail", ["bucket", "renormalize"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_each_policy_matches_its_definition(tail: str, k: int) -> None:
    rows = zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
    expected = [oracle(s, t, k, tail) for s, t in rows]
    kept = sparse_teacher(TEACHER, k=k)
    assert sparse_teacher_loss(STUDENT, *kept, tail=tail).item() == pytest.approx(sum(expected) / 4, rel=1e-9)
    some = [value for value, counts in zip(expected, MASK.tolist(), strict=True) if counts]
    masked = sparse_teacher_loss(STUDENT, *kept, tail=tail, mask=MASK)
    assert masked.item() == pytest.approx(sum(some) / 3, rel=1e-9)


def test_with_every_word_kept_both_policies_are_the_whole_kl() -> None:
    whole = token_loss(STUDENT, TEACHER, kind="forward")
    for tail in ("bucket", "renormalize"):
        assert_close(sparse_teacher_loss(STUDENT, *sparse_teacher(TEACHER, k=6), tail=tail), whole)


@given(seed=st.integers(0, 10**6))
def test_the_bucket_is_never_more_than_the_whole_kl_and_grows_with_k(seed: int) -> None:
    student, teacher = checks.randn(3, 6, seed=seed, scale=2), checks.randn(3, 6, seed=seed + 1, scale=2)
    values = [sparse_teacher_loss(student, *sparse_teacher(teacher, k=k), tail="bucket").item() for k in range(1, 7)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert values[-1] == pytest.approx(token_loss(student, teacher, kind="forward").item(), rel=1e-9)


def test_a_perfect_student_has_no_loss_with_the_bucket_and_is_pulled_away_without_a_tail() -> None:
    perfect = TEACHER.clone().requires_grad_()
    value = bucket(perfect, TEACHER)
    value.backward()
    assert_close((value.detach(), perfect.grad), (torch.zeros((), dtype=torch.float64), torch.zeros_like(TEACHER)))
    perfect.grad = None
    renormalized(perfect, TEACHER).backward()
    tail = sparse_teacher(TEACHER, k=3)[2].exp()
    assert_close(perfect.grad.abs().sum(-1) * 4 / 2, tail)  # the whole tail's mass is moved to the words kept


@every_loss
@pytest.mark.parametrize("filler", [0.0, torch.nan])
def test_what_stands_in_the_padding_does_not_matter(loss, filler: float) -> None:
    results = []
    for fill in (None, filler):
        student, teacher = (
            x.clone() if fill is None else x.masked_fill(~MASK[:, None], fill) for x in (STUDENT, TEACHER)
        )
        student.requires_grad_()
        value = loss(student, TEACHER if loss is sampled else teacher, mask=MASK)
        value.backward()
        results.append((value.detach(), student.grad))
    assert_close(results[1], results[0])


@every_loss
def test_nothing_that_counts_gives_zero_with_a_way_back(loss) -> None:
    checks.check_nothing_that_counts(loss, STUDENT, TEACHER, MASK)


@every_loss
def test_gradients_are_right_and_stay_finite(loss) -> None:
    checks.check_gradient(lambda s, m: loss(s, TEACHER, mask=m), STUDENT, MASK)  # of lists: see test_sparse_lists.py
    for scale in (60.0, 1e4):
        student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
        for rows in (student, student * 0, student[:1].expand_as(student)):
            for other in (teacher, teacher * 0):
                checks.check_extremes(lambda s, t: loss(s, t), rows, other)


def test_compiles_to_one_graph() -> None:
    for loss in (bucket, renormalized):
        checks.check_compiles(lambda s, t, m, loss=loss: loss(s, t, mask=m), STUDENT, TEACHER, MASK)


def test_sparse_teacher_matches_the_definition() -> None:
    indices, log_probs, tail = sparse_teacher(TOP, k=2)
    assert (indices.dtype, indices.shape, log_probs.shape, tail.shape) == (torch.int64, (3, 4, 2), (3, 4, 2), (3, 4))
    for row, kept, logs, rest in zip(
        TOP.flatten(0, 1).tolist(),
        indices.flatten(0, 1).tolist(),
        log_probs.flatten(0, 1).tolist(),
        tail.flatten().tolist(),
        strict=True,
    ):
        p = checks.softmax(row)
        assert kept == sorted(range(5), key=lambda v, p=p: -p[v])[:2]
        assert logs == pytest.approx([math.log(p[v]) for v in kept], rel=1e-10)
        assert rest == pytest.approx(math.log(sum(p[v] for v in range(5) if v not in kept)), rel=1e-9)


def test_the_tail_of_a_sure_teacher_keeps_its_digits_and_an_empty_one_is_minus_infinity() -> None:
    logits = torch.tensor([30.0, 0.0, 0.0])  # 1 - p is 0 in float32, the tail is 2 e^-30
    assert sparse_teacher(logits, k=1)[2].item() == pytest.approx(math.log(2) - 30, rel=1e-6)
    indices, log_probs, tail = sparse_teacher(logits, k=3)
    assert tail.item() == -math.inf
    assert_close(log_probs, logits.log_softmax(-1)[indices])
    for dtype in checks.DTYPES:
        assert {x.dtype for x in sparse_teacher(logits.to(dtype).requires_grad_(), k=1)[1:]} == {torch.float32}
        assert not sparse_teacher(logits.to(dtype).requires_grad_(), k=1)[1].requires_grad


@given(k=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_top_k_made_to_sum_to_one_is_biased_by_exactly_the_tails_mass(k: int, seed: int) -> None:
    teacher = checks.randn(3, 5, seed=seed, scale=2)
    indices, log_probs, tail = sparse_teacher(teacher, k=k)
    p, target = teacher.softmax(-1), torch.zeros(3, 5, dtype=torch.float64)
    target = target.scatter(-1, indices, log_probs.softmax(-1))
    assert_close((target - p).abs().sum(-1) / 2, tail.exp(), rtol=1e-9, atol=1e-14)
    assert_close(log_probs.exp().sum(-1) + tail.exp(), torch.ones(3, dtype=torch.float64))


# Other divergences, the tail kept -------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("k", [1, 3, 5])
def test_every_divergence_with_the_tail_as_one_word_matches_its_definition(
    kind: str, mix: float | None, k: int
) -> None:
    rows = zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
    expected = [oracle(s, t, k, "bucket", kind, mix) for s, t in rows]
    kept = sparse_teacher(TEACHER, k=k)
    loss = sparse_teacher_loss(STUDENT, *kept, tail="bucket", kind=kind, mix=mix)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-9)
    some = [value for value, counts in zip(expected, MASK.tolist(), strict=True) if counts]
    masked = sparse_teacher_loss(STUDENT, *kept, tail="bucket", kind=kind, mix=mix, mask=MASK)
    assert masked.item() == pytest.approx(sum(some) / 3, rel=1e-9)


@every_kind
def test_with_every_word_kept_it_is_the_dense_loss_in_value_and_gradient(kind: str, mix: float | None) -> None:
    teacher = TEACHER.clone()
    teacher[0, 2] = teacher[3, :4] = -math.inf  # words that the teacher lacks, too
    student = STUDENT.clone()
    student[0, 2] = student[3, :4] = -math.inf
    results = []
    for sparse in (True, False):
        leaf = student.clone().requires_grad_()
        if sparse:
            value = sparse_teacher_loss(leaf, *sparse_teacher(teacher, k=6), tail="bucket", kind=kind, mix=mix)
        else:
            value = token_loss(leaf, teacher, kind=kind, mix=mix)
        value.backward()
        results.append((value.detach(), leaf.grad))
    assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)
    assert results[0][0] > 0


@given(seed=st.integers(0, 10**6), case=st.sampled_from(CASES))
def test_merged_words_never_add_divergence(seed: int, case: tuple[str, float | None]) -> None:
    student, teacher = checks.randn(3, 6, seed=seed, scale=2), checks.randn(3, 6, seed=seed + 1, scale=2)
    how = {"tail": "bucket", "kind": case[0], "mix": case[1]}
    values = [sparse_teacher_loss(student, *sparse_teacher(teacher, k=k), **how).item() for k in range(1, 7)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert values[0] >= 0
    assert values[-1] == pytest.approx(token_loss(student, teacher, kind=case[0], mix=case[1]).item(), rel=1e-9)


@every_kind
def test_every_divergence_is_zero_for_a_student_who_differs_within_the_tail_only(kind: str, mix: float | None) -> None:
    indices, log_probs, tail = sparse_teacher(TEACHER, k=3)
    student = torch.zeros_like(TEACHER) + (tail.exp() / 3).log()[:, None]  # the tail's three words share its mass
    student = student.scatter(-1, indices, log_probs).requires_grad_()
    value = sparse_teacher_loss(student, indices, log_probs, tail, tail="bucket", kind=kind, mix=mix)
    assert value.item() == pytest.approx(0, abs=1e-12)
    if kind != "total_variation":  # which has a corner there
        value.backward()
        assert_close(student.grad, torch.zeros_like(TEACHER), rtol=0, atol=1e-12)


@every_kind
def test_gradients_of_every_divergence(kind: str, mix: float | None) -> None:
    kept = sparse_teacher(TEACHER, k=3)
    how = {"tail": "bucket", "kind": kind, "mix": mix}
    for mask in (None, MASK):
        checks.check_gradient(
            lambda s, p, t, mask=mask: sparse_teacher_loss(s, kept[0], p, t, mask=mask, **how), STUDENT, *kept[1:]
        )
    for scale in (60.0, 1e4):
        student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
        for rows in (student, student * 0, student[:1].expand_as(student)):
            for other in (teacher, teacher * 0):
                checks.check_extremes(lambda s, t: sparse_teacher_loss(s, *sparse_teacher(t, k=3), **how), rows, other)
    checks.check_compiles(lambda s, *kept: sparse_teacher_loss(s, *kept, mask=MASK, **how), STUDENT, *kept)


def test_known_values_of_a_tail_as_one_word() -> None:
    # P = (1/2, 1/4, tail 1/4), Q = (1/4, 1/4, and 1/2 for two words): TV = (1/4 + 0 + 1/4) / 2
    kept = torch.tensor([[2, 0]]), torch.tensor([[0.5, 0.25]]).log(), torch.tensor([0.25]).log()
    values = {
        "forward": math.log(2) / 2 - math.log(2) / 4,
        "reverse": -math.log(2) / 4 + math.log(2) / 2,
        "total_variation": 0.25,
        # M = (3/8, 1/4, 3/8): each side has 1/2 log 4/3 + 1/4 log 2/3
        "jensen_shannon": math.log(4 / 3) / 2 + math.log(2 / 3) / 4,
    }
    for kind, expected in values.items():
        mix = 0.5 if kind == "jensen_shannon" else None
        loss = sparse_teacher_loss(torch.zeros(1, 4), *kept, tail="bucket", kind=kind, mix=mix)
        assert loss.item() == pytest.approx(expected, rel=1e-6), kind


def test_bad_input_is_named() -> None:
    kept = indices, log_probs, tail = sparse_teacher(TEACHER, k=2)
    with pytest.raises(ValueError, match="tail must be 'bucket' or 'renormalize', got 'drop'"):
        sparse_teacher_loss(STUDENT, *kept, tail="drop")
    with pytest.raises(ValueError, match="tail must be 'bucket' for reverse, got 'renormalize'"):
        sparse_teacher_loss(STUDENT, *kept, tail="renormalize", kind="reverse")
    with pytest.raises(ValueError, match=r"kind must be one of forward, reverse, .* got 'backward'"):
        sparse_teacher_loss(STUDENT, *kept, tail="bucket", kind="backward")
    for kind, mix in (("jensen_shannon", None), ("forward", 0.5), ("skew_forward", 1.5)):
        with pytest.raises(ValueError, match=rf"mix must be in \[0, 1\] for .* got {mix} for '{kind}'"):
            sparse_teacher_loss(STUDENT, *kept, tail="bucket", kind=kind, mix=mix)
    with pytest.raises(TypeError, match=r"mix must be a number, got '0\.5'"):
        sparse_teacher_loss(STUDENT, *kept, tail="bucket", kind="jensen_shannon", mix="0.5")
    with pytest.raises(
        TypeError, match=r"need int64 indices and .* got torch\.int32 and torch\.float64: unpack_sparse"
    ):
        sparse_teacher_loss(STUDENT, indices.int(), log_probs, tail, tail="bucket")
    for wrong, kind in ((tail[:2], ValueError), (tail.long(), TypeError)):
        with pytest.raises(kind, match=r"tail_log_mass must be floating point \(4,\), one per token, got"):
            sparse_teacher_loss(STUDENT, indices, log_probs, wrong, tail="bucket")
    for student, words, logs in (
        (STUDENT[:3], indices, log_probs),
        (STUDENT, indices, log_probs[:, :1]),
        (STUDENT, indices[:, :0], log_probs[:, :0]),
    ):
        with pytest.raises(
            ValueError, match=r"need logits \(\.\.\., V\), indices \(\.\.\., k\) and as many logarithms"
        ):
            sparse_teacher_loss(student, words, logs, tail, tail="bucket")
    for index in (6, -1):
        with pytest.raises(ValueError, match=rf"indices must be in \[0, 6\), got {index}"):
            sparse_teacher_loss(STUDENT, torch.full_like(indices, index), log_probs, tail, tail="bucket")
    with pytest.raises(TypeError, match=r"mask must be a bool tensor \(4,\), one per token, got torch\.int64"):
        sparse_teacher_loss(STUDENT, *kept, tail="bucket", mask=MASK.long())
    for k in (0, 6):
        with pytest.raises(ValueError, match=rf"k from 1 to V, got \(3, 4, 5\) and {k}"):
            sparse_teacher(TOP, k=k)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        sparse_teacher(indices, k=1)
