"""Losses on drawn sequences, checked by counting out whole tiny languages, and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.sequence import on_policy_loss, rejection_sample, sequence_level_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 5, 3, seed=1, scale=1.5), checks.randn(4, 5, 3, seed=2, scale=1.5)
TOKENS = checks.labels_for(20, 3, seed=3).reshape(4, 5)
LENGTHS = torch.tensor([5, 3, 1, 0])
MASK = torch.arange(5) < LENGTHS[:, None]


def log_probs(logits: Tensor, temperature: float = 1.0) -> list[list[float]]:
    """Log-probability of each drawn token, in plain Python."""
    return [
        [math.log(checks.softmax(row, temperature)[token]) for row, token in zip(rows, tokens, strict=True)]
        for rows, tokens in zip(logits.tolist(), TOKENS.tolist(), strict=True)
    ]


def ratios(temperature: float = 1.0) -> list[list[float]]:
    both = zip(log_probs(STUDENT, temperature), log_probs(TEACHER, temperature), strict=True)
    return [[a - b for a, b in zip(q, p, strict=True)] for q, p in both]


def test_sequence_level_loss_matches_the_definition() -> None:
    values = log_probs(STUDENT)
    assert sequence_level_loss(STUDENT, TOKENS).item() == pytest.approx(-sum(map(sum, values)) / 20, rel=1e-12)
    counted = -sum(sum(row[:length]) for row, length in zip(values, LENGTHS.tolist(), strict=True))
    assert sequence_level_loss(STUDENT, TOKENS, mask=MASK).item() == pytest.approx(counted / 9, rel=1e-12)
    loss = sequence_level_loss(STUDENT, TOKENS, mask=MASK, num_tokens=7)
    assert loss.item() == pytest.approx(counted / 7, rel=1e-12)


def test_on_policy_value_is_the_mean_log_ratio() -> None:
    for temperature in (1.0, 2.5):
        values = ratios(temperature)
        loss = on_policy_loss(STUDENT, TEACHER, TOKENS, temperature=temperature)
        assert loss.item() == pytest.approx(sum(map(sum, values)) / 20, rel=1e-12)
        counted = sum(sum(row[:length]) for row, length in zip(values, LENGTHS.tolist(), strict=True))
        loss = on_policy_loss(STUDENT, TEACHER, TOKENS, mask=MASK, temperature=temperature, baseline=3.0)
        assert loss.item() == pytest.approx(counted / 9, rel=1e-12)


def test_on_policy_gradient_matches_the_definition() -> None:
    for whole, baseline, temperature in ((True, 0.0, 1.0), (True, 0.4, 2.5), (False, -1.0, 1.0)):
        student, values = STUDENT.clone().requires_grad_(), ratios(temperature)
        options = {"whole_sequence": whole, "baseline": baseline, "temperature": temperature}
        on_policy_loss(student, TEACHER, TOKENS, mask=MASK, **options).backward()
        for i, length in enumerate(LENGTHS.tolist()):
            for t in range(5):
                q = checks.softmax(STUDENT[i, t].tolist(), temperature)
                advantage = (sum(values[i][t:length]) if whole else values[i][t]) - baseline
                for v in range(3):
                    score = ((v == TOKENS[i, t].item()) - q[v]) / temperature  # of log q
                    expected = advantage * score / 9 if t < length else 0.0
                    assert student.grad[i, t, v].item() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_known_values() -> None:
    # q = (½, ½), p = (¾, ¼); drawn 1, 0: log 2 + log ⅔ = log 4/3 in two tokens
    student, teacher = torch.zeros(1, 2, 2, requires_grad=True), torch.tensor([3.0, 1.0]).log().expand(1, 2, 2)
    loss = on_policy_loss(student, teacher, torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(math.log(4 / 3) / 2, rel=1e-6)
    loss.backward()
    # token 1 answers for both, log 4/3, token 0 for itself, log ⅔; each times ½ for the token drawn, -½ for the other
    first, second = math.log(4 / 3) / 4, math.log(2 / 3) / 4
    assert_close(student.grad, torch.tensor([[[-first, first], [second, -second]]]))
    assert sequence_level_loss(teacher, torch.tensor([[1, 0]])).item() == pytest.approx(math.log(16 / 3) / 2, rel=1e-6)


def test_on_policy_loss_is_zero_where_they_agree_and_pulls_nowhere() -> None:
    student = STUDENT.clone().requires_grad_()
    loss = on_policy_loss(student, STUDENT + 3.0, TOKENS)
    loss.backward()
    assert_close(loss.detach(), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-14)
    assert_close(student.grad, torch.zeros_like(STUDENT), rtol=0, atol=1e-14)


def masked_losses(student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor, count: float | None = None) -> Tensor:
    first = sequence_level_loss(student, tokens, mask=mask, num_tokens=count)
    return torch.stack([first, on_policy_loss(student, teacher, tokens, mask=mask, num_tokens=count)])


def value_and_gradient(student: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    losses = masked_losses(student, *rest)
    return losses.detach(), torch.autograd.grad(losses @ torch.tensor([1.0, 0.7], dtype=losses.dtype), student)[0]


def test_padding_counts_for_nothing_whatever_it_holds_and_however_long_it_is() -> None:
    value, gradient = value_and_gradient(STUDENT, TEACHER, TOKENS, MASK)
    for filling in (0.0, 1e30, math.nan, math.inf):
        student, teacher = (z.masked_fill(~MASK[..., None], filling) for z in (STUDENT, TEACHER))
        for ids in (0, -100):
            same, same_gradient = value_and_gradient(student, teacher, TOKENS.masked_fill(~MASK, ids), MASK)
            assert_close(same, value, rtol=1e-14, atol=0)
            assert_close(same_gradient, gradient, rtol=1e-14, atol=0)
    longer = [torch.cat([z, torch.full_like(z, math.nan)], dim=1) for z in (STUDENT, TEACHER)]
    mask, tokens = torch.cat([MASK, torch.zeros_like(MASK)], dim=1), torch.cat([TOKENS, TOKENS], dim=1)
    same, same_gradient = value_and_gradient(*longer, tokens, mask)
    assert_close(same, value, rtol=1e-14, atol=0)
    assert_close(same_gradient[:, :5], gradient, rtol=1e-14, atol=0)


def test_the_end_of_a_sequence_counts_also_where_padding_has_its_id() -> None:
    tokens, mask = torch.tensor([[1, 2, 2, 2]]), torch.tensor([[True, True, False, False]])  # 2 ends, and pads
    log_q, log_p = (z.log_softmax(-1) for z in (STUDENT[0], TEACHER[0]))
    student = STUDENT[:1, :4].clone().requires_grad_()
    loss = sequence_level_loss(student, tokens, mask=mask)
    assert loss.item() == pytest.approx(-(log_q[0, 1] + log_q[1, 2]).item() / 2, rel=1e-12)
    loss.backward()
    assert (student.grad[0, 1] != 0).all()
    assert (student.grad[0, 2:] == 0).all()
    loss = on_policy_loss(student, TEACHER[:1, :4], tokens, mask=mask)
    expected = (log_q[0, 1] + log_q[1, 2] - log_p[0, 1] - log_p[1, 2]).item() / 2
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_micro_batches_add_up() -> None:
    count = float(MASK.sum())
    whole = value_and_gradient(STUDENT, TEACHER, TOKENS, MASK)
    parts = [
        value_and_gradient(STUDENT[rows], TEACHER[rows], TOKENS[rows], MASK[rows], count)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert_close(parts[0][0] + parts[1][0], whole[0])
    assert_close(torch.cat([parts[0][1], parts[1][1]]), whole[1])


def test_nothing_to_learn_from_gives_zero_with_a_gradient_path() -> None:
    nothing, student = torch.zeros_like(MASK), STUDENT.clone().requires_grad_()
    for loss in (
        sequence_level_loss(student, TOKENS, mask=nothing),
        on_policy_loss(student, TEACHER, TOKENS, mask=nothing),
    ):
        assert loss == 0
        assert loss.requires_grad, "backward() would fail"
        assert (torch.autograd.grad(loss, student)[0] == 0).all()


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_shifts_and_the_order_of_the_batch_change_nothing(seed: int, shift: float) -> None:
    student, teacher = checks.randn(4, 5, 3, seed=seed), checks.randn(4, 5, 3, seed=seed + 1)
    plain = masked_losses(student, teacher, TOKENS, MASK)
    assert_close(masked_losses(student + shift, teacher - shift, TOKENS, MASK), plain, rtol=1e-8, atol=1e-12)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    assert_close(masked_losses(student[order], teacher[order], TOKENS[order], MASK[order]), plain)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, y: sequence_level_loss(s, y, mask=MASK), STUDENT, TOKENS)
    student, teacher, baseline = (z.clone().requires_grad_() for z in (STUDENT, TEACHER, STUDENT[..., 0]))
    on_policy_loss(student, teacher, TOKENS, baseline=baseline).backward()
    assert student.grad is not None
    assert teacher.grad is None
    assert baseline.grad is None


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher = STUDENT / STUDENT.abs().max() * scale, TEACHER / TEACHER.abs().max() * scale
    for rows in ((student, teacher), (student * 0, teacher), (student, -student)):
        checks.check_extremes(lambda s, t, y: on_policy_loss(s, t, y), *rows, TOKENS)
        checks.check_extremes(lambda s, t, y: on_policy_loss(s, t, y, mask=MASK), *rows, TOKENS)
        checks.check_extremes(lambda s, y: sequence_level_loss(s, y, mask=MASK), rows[0], TOKENS)


def test_a_token_that_the_teacher_excludes_shows_in_the_loss_if_drawn_and_only_then() -> None:
    teacher, drawn = TEACHER.clone(), TOKENS[0, 0].item()
    teacher[0, 0, drawn] = -math.inf
    student = STUDENT.clone().requires_grad_()
    loss = on_policy_loss(student, teacher, TOKENS)
    assert loss.item() == math.inf
    loss.backward()
    assert (student.grad[0, 0] == 0).all()
    assert student.grad.isfinite().all()
    assert (student.grad[0, 1:] != 0).all()
    teacher[0, 0] = TEACHER[0, 0].index_fill(0, torch.tensor([(drawn + 1) % 3]), -math.inf)
    assert on_policy_loss(STUDENT, teacher, TOKENS).isfinite()


def test_rejection_keeps_the_first_that_were_accepted() -> None:
    accepted = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    assert rejection_sample(accepted).int().tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert rejection_sample(accepted, keep=2).int().tolist() == [[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(rejection_sample(accepted, keep=4), accepted)
    assert torch.equal(rejection_sample(accepted[1]), torch.tensor([True, False, False, False]))


@pytest.mark.parametrize("keep", [1, 2])
def test_what_rejection_keeps_follows_the_law_given_acceptance(keep: int) -> None:
    law, right = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64), torch.tensor([False, True, True, False])
    draws = torch.cartesian_prod(*[torch.arange(4)] * 3)  # every outcome of three samples
    kept = rejection_sample(right[draws], keep=keep)
    weights = law[draws].prod(dim=1, keepdim=True).expand(-1, 3)[kept]
    counts = torch.zeros(4, dtype=torch.float64).index_add_(0, draws[kept], weights)
    given = torch.where(right, law, 0.0) / 0.5
    assert_close(counts / counts.sum(), given, rtol=1e-12, atol=1e-15)


def test_bad_input_is_named() -> None:
    calls = [
        lambda s=STUDENT, y=TOKENS, m=None: sequence_level_loss(s, y, mask=m),
        lambda s=STUDENT, y=TOKENS, m=None: on_policy_loss(s, s, y, mask=m),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"logits must be floating point, got torch.int64"):
            call(s=STUDENT.long())
        with pytest.raises(TypeError, match=r"tokens must be int64 ids, got torch.float64"):
            call(y=TOKENS.double())
        for tokens in (TOKENS[:, :4], TOKENS[0], TOKENS[..., None]):
            with pytest.raises(ValueError, match=r"logits \(..., L, V\) and tokens \(..., L\), got \(4, 5, 3\)"):
                call(y=tokens)
        with pytest.raises(TypeError, match=r"mask must be a bool tensor \(4, 5\), one per token, got torch.int64"):
            call(m=MASK.long())
        with pytest.raises(ValueError, match=r"mask must be a bool tensor \(4, 5\), .* got torch.bool \(4, 1\)"):
            call(m=MASK[:, :1])
        with pytest.raises(ValueError, match=r"there is no token \(shape \(0, 5\)\)"):
            call(s=STUDENT[:0], y=TOKENS[:0])
    cut = r"got \(4, 5, 3\) and \(4, 5, 2\): cut both to shared words, \[..., :2\], not -inf"
    with pytest.raises(ValueError, match=cut):
        on_policy_loss(STUDENT, TEACHER[..., :2], TOKENS)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            on_policy_loss(STUDENT, TEACHER, TOKENS, temperature=temperature)
    with pytest.raises(TypeError, match=r"accepted must be bool, got torch.int64"):
        rejection_sample(TOKENS)
    with pytest.raises(ValueError, match="axis of samples"):
        rejection_sample(torch.tensor(True))
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        rejection_sample(MASK, keep=0)


def test_compiles_to_one_graph() -> None:
    def all_of_them(student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return masked_losses(student, teacher, tokens, mask & rejection_sample(mask, keep=2)).sum()

    checks.check_compiles(all_of_them, STUDENT, TEACHER, TOKENS, MASK)


def test_a_student_learns_from_what_it_draws_itself() -> None:
    torch.manual_seed(0)
    teacher, student = checks.randn(6, 4, seed=5, scale=1.5, dtype=torch.float32), nn.Embedding(6, 4)
    states = torch.arange(6).repeat(64)  # one token per sequence, so the divergence is known in closed form

    def divergence() -> float:
        q = student.weight.detach().log_softmax(-1)
        return float((q.exp() * (q - teacher.log_softmax(-1))).sum(-1).mean())

    before, optimizer = divergence(), torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(150):
        logits = student(states)
        drawn = torch.multinomial(logits.detach().softmax(-1), 1)
        optimizer.zero_grad()
        on_policy_loss(logits[:, None], teacher[states][:, None], drawn).backward()
        optimizer.step()
    assert before > 0.3
    assert divergence() < before / 20
