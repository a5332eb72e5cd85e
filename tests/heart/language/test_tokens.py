"""Divergences of next-token distributions, checked against their definitions, limits and what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.language import token_divergence, token_loss
from tests import checks

STUDENT, TEACHER = checks.randn(5, 4, seed=1, scale=2.0), checks.randn(5, 4, seed=2, scale=2.0)
PLAIN = ("forward", "reverse", "total_variation")
MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")
CASES = [*((kind, None) for kind in PLAIN), *((kind, mix) for kind in MIXED for mix in (0.1, 0.5, 0.9))]
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)


def blend(share: float, first: list[float], second: list[float]) -> list[float]:
    return [share * a + (1 - share) * b for a, b in zip(first, second, strict=True)]


def definition(kind: str, p: list[float], q: list[float], mix: float) -> float:
    match kind:
        case "forward":
            return checks.kl(p, q)
        case "reverse":
            return checks.kl(q, p)
        case "total_variation":
            return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
        case "jensen_shannon":
            middle = blend(mix, p, q)
            return mix * checks.kl(p, middle) + (1 - mix) * checks.kl(q, middle)
        case "skew_forward":
            return checks.kl(p, blend(mix, p, q))
        case _:
            return checks.kl(q, blend(mix, q, p))


def oracle(student: Tensor, teacher: Tensor, kind: str, mix: float | None, temperature: float = 1.0) -> Tensor:
    """The definitions in plain Python, row by row."""
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    pairs = [(checks.softmax(t, temperature), checks.softmax(s, temperature)) for s, t in rows]
    share = math.nan if mix is None else mix
    return torch.tensor([definition(kind, p, q, share) for p, q in pairs], dtype=torch.float64)


@every_kind
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence_matches_the_definition(kind: str, mix: float | None, temperature: float) -> None:
    values = token_divergence(STUDENT, TEACHER, kind=kind, mix=mix, temperature=temperature)
    assert_close(values, oracle(STUDENT, TEACHER, kind, mix, temperature), rtol=1e-10, atol=1e-13)


def test_known_values_of_a_sure_teacher_and_a_fair_student() -> None:
    # P = (1, 0), Q = (1/2, 1/2); at mix 1/2, M = (3/4, 1/4)
    fair, sure = torch.zeros(2, dtype=torch.float64), torch.tensor([400.0, 0.0], dtype=torch.float64)
    from_p, from_q = math.log(4 / 3), (math.log(2 / 3) + math.log(2)) / 2
    for kind, expected in {
        "forward": math.log(2),
        "reverse": 200 - math.log(2),  # log q - log p is log 1/2 at the first word and log 1/2 + 400 at the second
        "total_variation": 0.5,
        "jensen_shannon": (from_p + from_q) / 2,
        "skew_forward": from_p,
        "skew_reverse": from_q,
    }.items():
        value = token_divergence(fair, sure, kind=kind, mix=0.5 if kind in MIXED else None)
        assert value.item() == pytest.approx(expected, rel=1e-12), kind


def test_the_default_is_forward_kl_at_temperature_one() -> None:
    assert_close(token_divergence(STUDENT, TEACHER), oracle(STUDENT, TEACHER, "forward", None))


@every_kind
def test_divergence_is_zero_where_they_agree_and_positive_elsewhere(kind: str, mix: float | None) -> None:
    assert_close(token_divergence(TEACHER, TEACHER + 3, kind=kind, mix=mix), torch.zeros(5, dtype=torch.float64))
    assert (token_divergence(STUDENT, TEACHER, kind=kind, mix=mix) > 0).all()


@every_kind
def test_divergence_keeps_any_number_of_leading_axes(kind: str, mix: float | None) -> None:
    values = token_divergence(STUDENT.expand(3, 2, 5, 4), TEACHER.expand(3, 2, 5, 4), kind=kind, mix=mix)
    assert_close(values, oracle(STUDENT, TEACHER, kind, mix).expand(3, 2, 5))
    assert token_divergence(STUDENT[0], TEACHER[0], kind=kind, mix=mix).shape == ()


@given(shift=st.floats(-50, 50), case=st.sampled_from(CASES), seed=st.integers(0, 10**6))
def test_a_shift_of_the_logits_and_the_order_of_words_change_nothing(
    shift: float, case: tuple[str, float | None], seed: int
) -> None:
    kind, mix = case
    student, teacher = checks.randn(3, 6, seed=seed, scale=3), checks.randn(3, 6, seed=seed + 1, scale=3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    plain = token_divergence(student, teacher, kind=kind, mix=mix)
    assert_close(token_divergence(student[:, order] + shift, teacher[:, order] - shift, kind=kind, mix=mix), plain)


@given(seed=st.integers(0, 10**6), mix=st.floats(0.001, 0.999), scale=st.floats(0.1, 50))
def test_bounds(seed: int, mix: float, scale: float) -> None:
    student, teacher = checks.randn(3, 6, seed=seed, scale=scale), checks.randn(3, 6, seed=seed + 1, scale=scale)
    slack = 1 + 1e-9
    for kind in ("skew_forward", "skew_reverse"):
        assert (token_divergence(student, teacher, kind=kind, mix=mix) <= -math.log(mix) * slack).all()
    entropy = -mix * math.log(mix) - (1 - mix) * math.log(1 - mix)  # of the coin that says which side a word is from
    assert (token_divergence(student, teacher, kind="jensen_shannon", mix=mix) <= entropy * slack).all()
    variation = token_divergence(student, teacher, kind="total_variation")
    assert ((variation >= 0) & (variation <= 1)).all()
    for kind in ("forward", "reverse"):  # Pinsker
        assert (variation <= (token_divergence(student, teacher, kind=kind) / 2).sqrt() * slack).all()


@given(mix=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_kinds_mirror_each_other(mix: float, seed: int) -> None:
    student, teacher = checks.randn(3, 6, seed=seed), checks.randn(3, 6, seed=seed + 1)
    for kind, mirrored, other in (
        ("forward", "reverse", None),
        ("total_variation", "total_variation", None),
        ("skew_forward", "skew_reverse", mix),
    ):
        ours = token_divergence(student, teacher, kind=kind, mix=None if other is None else mix)
        assert_close(token_divergence(teacher, student, kind=mirrored, mix=None if other is None else mix), ours)
    ours = token_divergence(student, teacher, kind="jensen_shannon", mix=mix)
    assert_close(token_divergence(teacher, student, kind="jensen_shannon", mix=1 - mix), ours, rtol=1e-9, atol=1e-12)


def test_jensen_shannon_is_continuous_and_zero_at_both_ends() -> None:
    def values(mix: float) -> Tensor:
        return token_divergence(STUDENT, TEACHER, kind="jensen_shannon", mix=mix)

    for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        assert_close(values(end), torch.zeros(5, dtype=torch.float64))
        assert (values(near) < 1e-7).all()


def test_jensen_shannon_by_its_weight_tends_to_a_kl_at_each_end() -> None:
    for sign, kind in ((0, "forward"), (1, "reverse")):
        limit = oracle(STUDENT, TEACHER, kind, None)
        errors = []
        for small in (1e-3, 1e-4, 1e-5):
            mix = abs(sign - small)
            value = token_divergence(STUDENT, TEACHER, kind="jensen_shannon", mix=mix) / small
            errors.append(((value - limit).abs() / limit).max().item())
        assert errors[2] < errors[1] / 5 < errors[0] / 25, kind
        assert errors[2] < 0.01, kind


def test_skew_is_the_plain_kl_at_zero_and_nothing_at_one() -> None:
    for kind in ("forward", "reverse"):
        plain = oracle(STUDENT, TEACHER, kind, None)
        assert_close(token_divergence(STUDENT, TEACHER, kind=f"skew_{kind}", mix=0.0), plain)
        assert_close(token_divergence(STUDENT, TEACHER, kind=f"skew_{kind}", mix=1.0), torch.zeros_like(plain))


@every_kind
def test_words_at_minus_infinity_on_both_sides_are_as_if_not_there(kind: str, mix: float | None) -> None:
    dead = torch.full((5, 2), -math.inf, dtype=torch.float64)
    student, padded = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    expected = token_divergence(student, TEACHER, kind=kind, mix=mix)
    value = token_divergence(torch.cat([padded, dead], 1), torch.cat([TEACHER, dead], 1), kind=kind, mix=mix)
    assert_close(value, expected)
    expected.sum().backward()
    value.sum().backward()
    assert_close(padded.grad, student.grad)


def test_a_word_that_one_side_lacks_is_infinite_for_the_kl_that_needs_it_and_finite_for_others() -> None:
    lacking, knowing = torch.tensor([0.0, 0.0, -math.inf]), torch.zeros(3)
    third = math.log(3 / 2)  # KL of a half, a half, from thirds
    assert token_divergence(lacking, knowing, kind="forward").item() == math.inf
    assert token_divergence(knowing, lacking, kind="reverse").item() == math.inf
    assert token_divergence(lacking, knowing, kind="reverse").item() == pytest.approx(third, rel=1e-6)
    assert token_divergence(knowing, lacking, kind="forward").item() == pytest.approx(third, rel=1e-6)
    for kind in ("total_variation", *MIXED):
        for pair in ((lacking, knowing), (knowing, lacking)):
            value = token_divergence(*pair, kind=kind, mix=0.5 if kind in MIXED else None)
            assert 0 < value.item() < 1, kind
    assert token_divergence(knowing, knowing * math.nan, kind="forward").isnan()


def test_a_smaller_vocabulary_is_refused_and_the_advice_gives_the_right_number() -> None:
    advice = r": cut both to shared words, \[\.\.\., :3\], not -inf"
    for student, teacher in ((STUDENT[:, :3], TEACHER), (STUDENT, TEACHER[:, :3])):
        with pytest.raises(ValueError, match=rf"both logits must be \(\.\.\., V\), got \(5, .\) and \(5, .\){advice}"):
            token_divergence(student, teacher)
        with pytest.raises(ValueError, match=advice):
            token_loss(student, teacher, kind="forward")
    for kind, mix in CASES:  # over the words that both have, as if there were no others
        value = token_divergence(STUDENT[..., :3], TEACHER[..., :3], kind=kind, mix=mix)
        assert_close(value, oracle(STUDENT[:, :3], TEACHER[:, :3], kind, mix))
        assert value.isfinite().all()


@every_kind
def test_gradients_reach_the_student_only(kind: str, mix: float | None) -> None:
    checks.check_gradient(lambda s, t: token_divergence(s, t, kind=kind, mix=mix, temperature=1.5), STUDENT, TEACHER)
    mask = torch.tensor([True, False, True, True, False])
    checks.check_gradient(lambda s, t, m: token_loss(s, t, kind=kind, mix=mix, mask=m), STUDENT, TEACHER, mask)


def test_closed_form_gradients_of_both_kls() -> None:
    # d KL(p‖q) / dz = (q - p) / τ and d KL(q‖p) / dz = q (log q - log p - KL) / τ
    q, p = (torch.tensor([checks.softmax(row, 2.0) for row in z.tolist()]).double() for z in (STUDENT, TEACHER))
    ratio = q.log() - p.log()
    wanted = {"forward": (q - p) / 2, "reverse": q * (ratio - (q * ratio).sum(1, keepdim=True)) / 2}
    for kind, expected in wanted.items():
        student = STUDENT.clone().requires_grad_()
        token_divergence(student, TEACHER, kind=kind, temperature=2.0).sum().backward()
        assert_close(student.grad, expected, rtol=1e-6, atol=1e-7)


@every_kind
def test_extreme_logits_stay_finite(kind: str, mix: float | None) -> None:
    for scale in (60.0, 1e4):
        student, teacher = (z / z.abs().max() * scale for z in (STUDENT, TEACHER))
        for s in (student, student[:1], student * 0, student[:1].expand(5, 4)):
            for t in (teacher, teacher * 0):
                checks.check_extremes(lambda s, t: token_divergence(s, t, kind=kind, mix=mix), s, t[: len(s)])
                checks.check_extremes(lambda s, t: token_loss(s, t, kind=kind, mix=mix), s, t[: len(s)])


@every_kind
def test_batch_permutation(kind: str, mix: float | None) -> None:
    checks.check_batch_permutation(
        lambda s, t: token_divergence(s, t, kind=kind, mix=mix), STUDENT, TEACHER, per_example=True
    )
    checks.check_batch_permutation(
        lambda s, t: token_loss(s, t, kind=kind, mix=mix), STUDENT, TEACHER, per_example=False
    )


@every_kind
def test_compiles_to_one_graph(kind: str, mix: float | None) -> None:
    mask = torch.tensor([True, False, True, True, False])
    checks.check_compiles(lambda s, t, m: token_loss(s, t, kind=kind, mix=mix, mask=m), STUDENT, TEACHER, mask)


def test_bad_kinds_and_shares_are_named() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of forward, reverse, .*, got 'backward'"):
        token_divergence(STUDENT, TEACHER, kind="backward")
    for kind, mix in (("jensen_shannon", None), ("forward", 0.5), ("skew_forward", 1.5), ("skew_reverse", math.nan)):
        with pytest.raises(ValueError, match=rf"mix must be in \[0, 1\] for .* got {mix} for '{kind}'"):
            token_divergence(STUDENT, TEACHER, kind=kind, mix=mix)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            token_divergence(STUDENT, TEACHER, temperature=temperature)
    for pair in ((STUDENT.long(), TEACHER), (STUDENT, TEACHER.long())):
        with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64: pass raw scores"):
            token_divergence(*pair)
    for bad in (torch.tensor(1.0), torch.zeros(3, 0)):
        with pytest.raises(ValueError, match=r"logits need a class axis at the end, got shape"):
            token_divergence(bad, bad)
    with pytest.raises(ValueError, match=r"must be \(\.\.\., V\), got \(5, 4\) and \(1, 4\)$"):
        token_divergence(STUDENT, TEACHER[:1])


def test_a_learnable_temperature_gets_a_gradient() -> None:
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: token_divergence(STUDENT, TEACHER, temperature=t), (temperature,))


@every_kind
def test_a_tiny_student_learns_a_tiny_teacher(kind: str, mix: float | None) -> None:
    x = checks.randn(64, 3, seed=7)
    teacher = x @ checks.randn(3, 4, seed=8)
    student = nn.Linear(3, 4, bias=False, dtype=torch.float64)
    nn.init.zeros_(student.weight)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    first = token_loss(student(x), teacher, kind=kind, mix=mix).item()
    for _ in range(150):
        loss = token_loss(student(x), teacher, kind=kind, mix=mix)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 20
