"""Words drawn from a teacher: right on average, and what is stored of them."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from kdref.language import (
    pack_sparse,
    sampled_teacher,
    sampled_teacher_loss,
    sparse_teacher,
    sparse_teacher_loss,
    unpack_sparse,
)
from tests import checks

STUDENT, TEACHER = checks.randn(4, 6, seed=1, scale=2.0), checks.randn(4, 6, seed=2, scale=2.0)
MASK = torch.tensor([True, False, True, True])


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


def test_a_weight_of_zero_is_no_word_whatever_its_index_and_whatever_the_student_says_of_it() -> None:
    student = STUDENT.clone()
    student[:, 0] = -math.inf
    indices, weights = torch.tensor([[1, 2]]).expand(4, 2), torch.tensor([0.5, 0.5]).log().expand(4, 2)
    expected = sampled_teacher_loss(student, indices, weights)
    for filler in (0, -1, 99):
        leaf = student.clone().requires_grad_()
        padded = torch.nn.functional.pad(indices, (0, 2), value=filler)
        loss = sampled_teacher_loss(leaf, padded, torch.nn.functional.pad(weights, (0, 2), value=-math.inf))
        loss.backward()
        assert_close(loss.detach().double(), expected.double())
        assert leaf.grad.isfinite().all()


def test_no_gradient_reaches_the_weights() -> None:
    indices, log_weights = sampled_teacher(TEACHER, k=3, generator=torch.Generator().manual_seed(0))
    checks.check_gradient(lambda s, w: sampled_teacher_loss(s, indices, w), STUDENT, log_weights)


def test_what_stands_in_the_padding_of_a_list_does_not_matter() -> None:
    drawn = sampled_teacher(TEACHER, k=3, generator=torch.Generator().manual_seed(0))
    spoiled = [x.clone() for x in drawn]
    spoiled[0][1], spoiled[1][1] = -100, math.nan
    assert_close(sampled_teacher_loss(STUDENT, *spoiled, mask=MASK), sampled_teacher_loss(STUDENT, *drawn, mask=MASK))


def test_a_word_that_the_teacher_lacks_is_never_drawn() -> None:
    teacher = TEACHER.clone()
    teacher[:, 2] = -math.inf
    indices, log_weights = sampled_teacher(teacher, k=200, generator=torch.Generator().manual_seed(0))
    assert (indices != 2).all()
    assert log_weights.isfinite().all()


def test_an_index_that_does_not_fit_is_not_packed() -> None:
    logs = torch.tensor([-1.0])
    assert pack_sparse(torch.tensor([2**31 - 1]), logs)[0].item() == 2**31 - 1
    with pytest.raises(ValueError, match=r"indices must be in \[0, 2147483648\), got 2147483648: int32 cannot hold it"):
        pack_sparse(torch.tensor([2**31]), logs)
    assert pack_sparse(torch.tensor([-1]), logs)[0].item() == -1  # where a shorter list ends
    assert [x.numel() for x in pack_sparse(torch.zeros(0, dtype=torch.int64), torch.zeros(0))] == [0, 0]


def test_bad_input_is_named() -> None:
    indices, log_weights = sampled_teacher(TEACHER, k=2)
    with pytest.raises(ValueError, match=r"need logits \(\.\.\., V\), indices \(\.\.\., k\)"):
        sampled_teacher_loss(STUDENT[:3], indices, log_weights)
    with pytest.raises(ValueError, match="and as many logarithms"):
        sampled_teacher_loss(STUDENT, indices, log_weights[:, :1])
    with pytest.raises(ValueError, match=r"indices must be in \[0, 6\), got 6: a shorter list ends in -inf"):
        sampled_teacher_loss(STUDENT, torch.full_like(indices, 6), log_weights)
    with pytest.raises(TypeError, match=r"mask must be a bool tensor \(4,\), one per token, got torch\.int64"):
        sampled_teacher_loss(STUDENT, indices, log_weights, mask=MASK.long())
    with pytest.raises(ValueError, match=r"at least one draw, got .* and k = 0"):
        sampled_teacher(TEACHER, k=0)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        sampled_teacher(indices, k=1)
    for heat in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"proposal_temperature must be positive and finite, got {heat}"):
            sampled_teacher(TEACHER, k=1, proposal_temperature=heat)
    for pair in ((indices.int(), log_weights), (indices, indices)):
        with pytest.raises(TypeError, match="need int64 indices and floating-point logarithms"):
            pack_sparse(*pair)
    with pytest.raises(ValueError, match=r"need a logarithm per index, got \(4, 2\) and \(4, 1\)"):
        pack_sparse(indices, log_weights[:, :1])
    for pair in ((log_weights, log_weights), (indices, indices)):
        with pytest.raises(TypeError, match="need whole indices and floating-point logarithms"):
            unpack_sparse(*pair)
