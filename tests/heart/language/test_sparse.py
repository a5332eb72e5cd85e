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
    pack_sparse,
    sampled_teacher,
    sampled_teacher_loss,
    sparse_teacher,
    sparse_teacher_loss,
    token_loss,
    unpack_sparse,
)
from tests import checks

STUDENT, TEACHER = checks.randn(4, 6, seed=1, scale=2.0), checks.randn(4, 6, seed=2, scale=2.0)
MASK = torch.tensor([True, False, True, True])


def oracle(student: list[float], teacher: list[float], k: int, tail: str) -> float:
    q, p = checks.softmax(student), checks.softmax(teacher)
    kept = sorted(range(len(p)), key=lambda v: -p[v])[:k]
    first, second = [p[v] for v in kept], [q[v] for v in kept]
    if tail == "bucket":
        return checks.kl([*first, 1 - sum(first)], [*second, 1 - sum(second)])
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


def test_the_pull_of_top_k_on_a_perfect_student_is_the_tails_mass_and_that_of_samples_is_nothing_on_average() -> None:
    # every pair of draws of four words, with its probability: the mean is exact
    teacher = checks.randn(4, seed=3)
    for heat in (0.5, 1.0, 2.0):
        p, r = teacher.softmax(-1), (teacher / heat).softmax(-1)
        mean, weights, second = torch.zeros(4), torch.zeros(()), torch.zeros(4)
        mean, weights, second = mean.double(), weights.double(), second.double()
        for pair in itertools.product(range(4), repeat=2):
            indices = torch.tensor(pair)
            log_weights = (p[indices] / (2 * r[indices])).log()
            student = teacher.clone().requires_grad_()
            sampled_teacher_loss(student[None], indices[None], log_weights[None]).backward()
            chance = r[indices].prod()
            mean += chance * student.grad
            weights += chance * log_weights.exp().sum()
            second += chance * student.grad.square()
        assert_close(mean, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
        assert weights.item() == pytest.approx(1, rel=1e-12)
        assert (second > 1e-3).all()  # single draws are far from it


@pytest.mark.parametrize("heat", [0.7, 1.0, 1.5])
def test_drawn_weights_are_unbiased(heat: float) -> None:
    logits, draws, k = checks.randn(6, seed=4, scale=1.5), 4000, 8
    generator = torch.Generator().manual_seed(5)
    indices, log_weights = sampled_teacher(logits.expand(draws, 6), k=k, proposal_temperature=heat, generator=generator)
    assert indices.shape == log_weights.shape == (draws, k)
    p, r = logits.softmax(-1), (logits / heat).softmax(-1)
    assert_close(log_weights.exp(), (p / r)[indices] / k)
    found = torch.zeros(draws, 6, dtype=torch.float64).scatter_add(1, indices, log_weights.exp())
    spread = (p * p / r - p * p).clamp(min=0) / (k * draws)  # variance of the mean
    assert ((found.mean(0) - p).abs() < 4.5 * spread.sqrt()).all()
    if heat == 1.0:
        assert_close(log_weights.exp().sum(-1), torch.ones(draws, dtype=torch.float64))


def test_a_draw_repeats_with_its_generator_and_takes_no_gradient() -> None:
    logits = TEACHER.clone().requires_grad_()
    first, second = (sampled_teacher(logits, k=5, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert not first[1].requires_grad


def test_sampled_loss_is_the_weighted_cross_entropy() -> None:
    indices, weights = torch.tensor([[0, 3, 3], [5, 1, 0]]), torch.tensor([[0.2, 0.5, 0.4], [0.3, 0.3, 0.1]])
    values = []
    for row, picked, shares in zip(STUDENT.tolist(), indices.tolist(), weights.tolist(), strict=False):
        q = checks.softmax(row)
        values.append(sum(-w * math.log(q[v]) for v, w in zip(picked, shares, strict=True)))
    loss = sampled_teacher_loss(STUDENT[:2], indices, weights.log())
    assert loss.item() == pytest.approx(sum(values) / 2, rel=1e-6)


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
def test_gradients_reach_the_student_only_and_stay_finite(loss) -> None:
    checks.check_gradient(lambda s, t, m: loss(s, t, mask=m), STUDENT, TEACHER, MASK)
    for scale in (60.0, 1e4):
        student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
        for rows in (student, student * 0, student[:1].expand_as(student)):
            for other in (teacher, teacher * 0):
                checks.check_extremes(lambda s, t: loss(s, t), rows, other)


def test_compiles_to_one_graph() -> None:
    for loss in (bucket, renormalized):
        checks.check_compiles(lambda s, t, m, loss=loss: loss(s, t, mask=m), STUDENT, TEACHER, MASK)


def test_an_entry_takes_six_bytes_and_comes_back_within_half_a_thousandth() -> None:
    logits = checks.randn(3, 70_000, seed=6, scale=3.0)
    indices, log_probs, tail = sparse_teacher(logits, k=50)
    assert indices.max() > 2**16
    packed = pack_sparse(indices, log_probs)
    assert sum(x.numel() * x.element_size() for x in packed) == 6 * 3 * 50
    back = unpack_sparse(*packed)
    assert (back[0].dtype, back[1].dtype) == (torch.int64, torch.float32)
    assert (back[0] == indices).all()
    assert ((back[1] - log_probs).abs() <= 2**-11 * log_probs.abs()).all()
    rare = torch.tensor([-12.0, -40.0])
    assert_close(unpack_sparse(*pack_sparse(torch.tensor([0, 1]), rare))[1], rare, rtol=2**-11, atol=0)
    student = checks.randn(3, 70_000, seed=7)
    exact = sparse_teacher_loss(student, indices, log_probs, tail, tail="bucket")
    assert sparse_teacher_loss(student, *back, tail, tail="bucket").item() == pytest.approx(exact.item(), rel=0.01)


def test_bad_input_is_named() -> None:
    indices, log_probs, tail = sparse_teacher(TEACHER, k=2)
    with pytest.raises(ValueError, match="tail must be 'bucket' or 'renormalize', got 'drop'"):
        sparse_teacher_loss(STUDENT, indices, log_probs, tail, tail="drop")
    with pytest.raises(TypeError, match=r"int64 indices, got torch\.float64 and torch\.int32: unpack_sparse"):
        sparse_teacher_loss(STUDENT, indices.int(), log_probs, tail, tail="bucket")
    with pytest.raises(ValueError, match=r"need indices \(\.\.\., k\), log_probs \(\.\.\., k\), tail_log_mass"):
        sparse_teacher_loss(STUDENT, indices, log_probs, tail[:2], tail="bucket")
    with pytest.raises(ValueError, match=r"need logits \(\.\.\., V\), indices \(\.\.\., k\)"):
        sampled_teacher_loss(STUDENT[:3], indices, log_probs)
    with pytest.raises(ValueError, match="need a weight per index"):
        sampled_teacher_loss(STUDENT, indices, log_probs[:, :1])
    with pytest.raises(TypeError, match=r"mask must be bool \(4,\), got torch\.int64"):
        sampled_teacher_loss(STUDENT, indices, log_probs, mask=MASK.long())
    with pytest.raises(ValueError, match=r"at least one draw, got .* and k = 0"):
        sampled_teacher(TEACHER, k=0)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        sampled_teacher(indices, k=1)
    for heat in (0.0, math.inf):
        with pytest.raises(ValueError, match=f"proposal_temperature must be positive and finite, got {heat}"):
            sampled_teacher(TEACHER, k=1, proposal_temperature=heat)
    with pytest.raises(TypeError, match="need int64 indices and floating-point logarithms"):
        pack_sparse(indices.int(), log_probs)
