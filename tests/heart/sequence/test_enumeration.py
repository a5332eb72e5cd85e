"""Tiny languages counted out: the chain rule, and what losses on drawn sequences do in expectation."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.sequence import (
    enumerate_sequences,
    markov_logits,
    on_policy_loss,
    sequence_kl_divergence,
    sequence_level_loss,
    sequence_log_prob,
)
from tests import checks

V, L = 3, 4
SEQUENCES = enumerate_sequences(vocabulary=V, length=L)
Language = tuple[Tensor, Tensor]  # first token's logits, transitions


def language(seed: int, *, grad: bool = False) -> Language:
    tables = checks.randn(V, seed=seed, scale=1.5), checks.randn(V, V, seed=seed + 100, scale=1.5)
    return tuple(table.requires_grad_(grad) for table in tables)


TEACHER, STUDENT = language(1), language(2)


def logits_of(tables: Language, tokens: Tensor = SEQUENCES) -> Tensor:
    return markov_logits(*tables, tokens)


def chain(tables: Language) -> tuple[list[float], list[list[float]]]:
    """Probabilities of the first token and of the transitions, in plain Python."""
    return checks.softmax(tables[0].tolist()), [checks.softmax(row) for row in tables[1].tolist()]


def probability(tables: Language, sequence: tuple[int, ...]) -> float:
    first, transitions = chain(tables)
    return first[sequence[0]] * math.prod(transitions[a][b] for a, b in itertools.pairwise(sequence))


def divergence_by_the_chain_rule(teacher: Language, student: Language, length: int = L) -> float:
    """The divergence of the first token, and of each later one weighted by where the teacher then is."""
    (at, p), (first, q) = chain(teacher), chain(student)
    total = checks.kl(at, first)
    for _ in range(length - 1):
        total += sum(weight * checks.kl(p[v], q[v]) for v, weight in enumerate(at))
        at = [sum(at[u] * p[u][v] for u in range(V)) for v in range(V)]
    return total


def test_every_sequence_is_there_once_in_order() -> None:
    assert [tuple(row) for row in enumerate_sequences(vocabulary=3, length=4).tolist()] == list(
        itertools.product(range(3), repeat=4)
    )
    assert enumerate_sequences(vocabulary=4, length=1).tolist() == [[0], [1], [2], [3]]
    assert enumerate_sequences(vocabulary=1, length=3).tolist() == [[0, 0, 0]]


def test_probabilities_match_the_definition_and_sum_to_one() -> None:
    log_probs = sequence_log_prob(logits_of(TEACHER), SEQUENCES)
    for row, value in zip(SEQUENCES.tolist(), log_probs.tolist(), strict=True):
        assert value == pytest.approx(math.log(probability(TEACHER, tuple(row))), rel=1e-12)
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    tempered = sequence_log_prob(logits_of(TEACHER), SEQUENCES, temperature=2.0)
    assert_close(tempered, sequence_log_prob(logits_of(TEACHER) / 2, SEQUENCES), rtol=1e-13, atol=0)


def test_sequence_divergence_matches_the_definition() -> None:
    expected = 0.0
    for sequence in itertools.product(range(V), repeat=L):
        p, q = probability(TEACHER, sequence), probability(STUDENT, sequence)
        expected += p * math.log(p / q)
    value = sequence_kl_divergence(logits_of(STUDENT), logits_of(TEACHER), SEQUENCES)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@given(seed=st.integers(0, 10**6), length=st.integers(1, 6))
def test_the_chain_rule_holds_exactly(seed: int, length: int) -> None:
    teacher, student = language(seed), language(seed + 1)
    tokens = enumerate_sequences(vocabulary=V, length=length)
    value = sequence_kl_divergence(logits_of(student, tokens), logits_of(teacher, tokens), tokens)
    assert value.item() == pytest.approx(divergence_by_the_chain_rule(teacher, student, length), abs=1e-12)


def test_known_values() -> None:
    # the first token is fair; the teacher then repeats it with ¾, the student with ½, twice
    sticky = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.float64).log()
    fair, tokens = torch.zeros(2, dtype=torch.float64), enumerate_sequences(vocabulary=2, length=3)
    expected = 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    teacher = markov_logits(fair, sticky, tokens)
    value = sequence_kl_divergence(torch.zeros_like(teacher), teacher, tokens)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    # 0, 0, 1: ½ · ¾ · ¼
    assert sequence_log_prob(teacher, tokens)[1].exp().item() == pytest.approx(3 / 32, rel=1e-12)


def test_divergence_is_zero_where_they_agree_and_grows_with_every_token() -> None:
    assert_close(
        sequence_kl_divergence(logits_of(TEACHER) + 5.0, logits_of(TEACHER), SEQUENCES),
        torch.zeros((), dtype=torch.float64),
        rtol=0,
        atol=1e-14,
    )
    values = []
    for length in range(1, 6):
        tokens = enumerate_sequences(vocabulary=V, length=length)
        values.append(sequence_kl_divergence(logits_of(STUDENT, tokens), logits_of(TEACHER, tokens), tokens))
    assert torch.stack(values).diff().min() > 1e-3


def test_languages_side_by_side_give_a_value_each() -> None:
    both = torch.stack([logits_of(STUDENT), logits_of(TEACHER)])
    values = sequence_kl_divergence(both, logits_of(TEACHER).expand_as(both), SEQUENCES.expand(2, -1, -1))
    assert values.shape == (2,)
    assert values[0] > 0.1
    assert abs(values[1]) < 1e-14


def expectation(tables: Language, tokens: Tensor, loss: object, weights: Tensor) -> list[Tensor]:
    """Mean gradient of a loss over sequences drawn one at a time, exactly: every sequence by its probability."""
    rows = [torch.autograd.grad(loss(logits_of(tables, tokens[n : n + 1]), n), tables) for n in range(len(tokens))]
    return [sum(w * row[k] for w, row in zip(weights.tolist(), rows, strict=True)) for k in range(2)]


def reverse_divergence(tables: Language, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL(Q‖P) as a function of the student's tables, for autograd: the weights count, too."""
    log_q = sequence_log_prob(logits_of(tables, tokens), tokens, mask=mask)
    return (log_q.exp() * (log_q - sequence_log_prob(logits_of(TEACHER, tokens), tokens, mask=mask))).sum()


def test_drawing_from_the_teacher_gives_the_gradient_of_the_sequences_divergence() -> None:
    student = language(2, grad=True)
    weights = sequence_log_prob(logits_of(TEACHER), SEQUENCES).exp()
    expected = torch.autograd.grad(sequence_kl_divergence(logits_of(student), logits_of(TEACHER), SEQUENCES), student)
    found = expectation(
        student, SEQUENCES, lambda z, n: sequence_level_loss(z, SEQUENCES[n : n + 1], num_tokens=1), weights
    )
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 1.7])
def test_drawing_from_the_student_gives_the_gradient_of_the_reverse_divergence(baseline: float) -> None:
    student = language(2, grad=True)
    weights = sequence_log_prob(logits_of(student), SEQUENCES).exp().detach()
    expected = torch.autograd.grad(reverse_divergence(student, SEQUENCES), student)
    found = expectation(
        student,
        SEQUENCES,
        lambda z, n: on_policy_loss(
            z, logits_of(TEACHER)[n : n + 1], SEQUENCES[n : n + 1], num_tokens=1, baseline=baseline
        ),
        weights,
    )
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)
        assert b.abs().max() > 0.01


def test_the_log_ratio_differentiated_as_it_stands_pulls_nowhere_on_average() -> None:
    student = language(2, grad=True)
    weights = sequence_log_prob(logits_of(student), SEQUENCES).exp().detach()
    log_p = sequence_log_prob(logits_of(TEACHER), SEQUENCES)
    naive = expectation(
        student, SEQUENCES, lambda z, n: (sequence_log_prob(z, SEQUENCES[n : n + 1]) - log_p[n]).sum(), weights
    )
    for gradient in naive:
        assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)


def test_tokens_that_answer_for_themselves_give_the_tokens_divergences_with_prefixes_held_fixed() -> None:
    student = language(2, grad=True)
    z, log_p = logits_of(student), logits_of(TEACHER).log_softmax(-1)
    weights = sequence_log_prob(z, SEQUENCES).exp().detach()
    log_q = z.log_softmax(-1)
    fixed = (weights[:, None] * (log_q.exp() * (log_q - log_p)).sum(-1)).sum()
    expected = torch.autograd.grad(fixed, student)
    whole = torch.autograd.grad(reverse_divergence(student, SEQUENCES), student)
    found = expectation(
        student,
        SEQUENCES,
        lambda z, n: on_policy_loss(
            z, logits_of(TEACHER)[n : n + 1], SEQUENCES[n : n + 1], num_tokens=1, whole_sequence=False
        ),
        weights,
    )
    for a, b, c in zip(found, expected, whole, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)
        assert (a - c).abs().max() > 0.01, "the whole sequence's gradient is another one"


END = 2
AFTER = (SEQUENCES == END).cumsum(1) - (SEQUENCES == END).int() > 0
ENDING = SEQUENCES[((SEQUENCES == END) | ~AFTER).all(dim=1)]  # nothing but END after the first END
WRITTEN = (ENDING == END).cumsum(1) - (ENDING == END).int() == 0


def test_sequences_that_end_early_are_a_language_too() -> None:
    log_p, log_q = (sequence_log_prob(logits_of(tables, ENDING), ENDING, mask=WRITTEN) for tables in (TEACHER, STUDENT))
    assert len(ENDING) == 2**4 + 2**3 + 2**2 + 2 + 1
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    value = sequence_kl_divergence(logits_of(STUDENT, ENDING), logits_of(TEACHER, ENDING), ENDING, mask=WRITTEN)
    assert_close(value, (log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.parametrize(("num_tokens", "exact"), [(1, True), (None, False)])
def test_where_lengths_are_drawn_only_a_fixed_number_of_tokens_is_exact(num_tokens: int | None, exact: bool) -> None:
    student = language(2, grad=True)
    weights = sequence_log_prob(logits_of(student, ENDING), ENDING, mask=WRITTEN).exp().detach()
    expected = torch.autograd.grad(reverse_divergence(student, ENDING, WRITTEN), student)
    found = expectation(
        student,
        ENDING,
        lambda z, n: on_policy_loss(
            z,
            logits_of(TEACHER, ENDING)[n : n + 1],
            ENDING[n : n + 1],
            mask=WRITTEN[n : n + 1],
            num_tokens=num_tokens,
        ),
        weights,
    )
    if exact:
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b, rtol=0, atol=1e-12)
    else:
        a, b = (torch.cat([table.flatten() for table in tables]) for tables in (found, expected))
        assert torch.cosine_similarity(a, b, dim=0) < 0.999, "not even a multiple of it"


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: sequence_kl_divergence(s, t, SEQUENCES), logits_of(STUDENT), logits_of(TEACHER))
    checks.check_gradient(lambda s: sequence_log_prob(s, SEQUENCES), logits_of(STUDENT))
    tables = [table.clone().requires_grad_() for table in STUDENT]
    assert torch.autograd.gradcheck(lambda a, b: markov_logits(a, b, SEQUENCES[:20]), tables)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    student, teacher = (z / z.abs().max() * scale for z in (logits_of(STUDENT), logits_of(TEACHER)))
    for rows in ((student, teacher), (student * 0, teacher), (student, -student)):
        checks.check_extremes(lambda s, t: sequence_kl_divergence(s, t, SEQUENCES), *rows)
        checks.check_extremes(lambda s: sequence_log_prob(s, SEQUENCES), rows[0])


def test_what_the_teacher_never_writes_costs_nothing_and_what_only_it_writes_everything() -> None:
    excluded = TEACHER[0].index_fill(0, torch.tensor([1]), -math.inf), TEACHER[1]
    student = logits_of(STUDENT).requires_grad_()
    value = sequence_kl_divergence(student, logits_of(excluded), SEQUENCES)
    rest = SEQUENCES[SEQUENCES[:, 0] != 1]
    assert_close(value, sequence_kl_divergence(logits_of(STUDENT, rest), logits_of(excluded, rest), rest))
    value.backward()
    assert student.grad.isfinite().all()
    assert sequence_kl_divergence(logits_of(excluded), logits_of(STUDENT), SEQUENCES) == math.inf


def test_bad_input_is_named() -> None:
    for vocabulary, length in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"must be at least 1, got {vocabulary} and {length}"):
            enumerate_sequences(vocabulary=vocabulary, length=length)
    with pytest.raises(ValueError, match=r"10\*\*8 sequences are more than 10000000"):
        enumerate_sequences(vocabulary=10, length=8)
    with pytest.raises(ValueError, match=r"\(V,\) and transitions \(V, V\), got \(3,\) and \(2, 3\)"):
        markov_logits(TEACHER[0], TEACHER[1][:2], SEQUENCES)
    with pytest.raises(TypeError, match=r"tokens must be int64 ids, got torch.float32"):
        markov_logits(*TEACHER, SEQUENCES.float())
    with pytest.raises(ValueError, match=r"must be \(..., V\), got \(81, 4, 3\) and \(80, 4, 3\)"):
        sequence_kl_divergence(logits_of(STUDENT), logits_of(TEACHER)[:80], SEQUENCES)
    with pytest.raises(ValueError, match=r"expected tokens \(..., N, L\), got \(4,\)"):
        sequence_kl_divergence(logits_of(STUDENT)[0], logits_of(TEACHER)[0], SEQUENCES[0])
    with pytest.raises(ValueError, match=r"tokens \(..., L\), got \(81, 4, 3\) and \(81, 3\)"):
        sequence_log_prob(logits_of(STUDENT), SEQUENCES[:, :3])
    with pytest.raises(TypeError, match=r"mask must be a bool tensor \(81, 4\), .* got torch.int64"):
        sequence_log_prob(logits_of(STUDENT), SEQUENCES, mask=SEQUENCES)
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        sequence_log_prob(logits_of(STUDENT), SEQUENCES, temperature=0.0)


def test_compiles_to_one_graph() -> None:
    def both(first: Tensor, transitions: Tensor, teacher: Tensor, tokens: Tensor) -> Tensor:
        student = markov_logits(first, transitions, tokens)
        return sequence_kl_divergence(student, teacher, tokens) + sequence_log_prob(student, tokens).mean()

    checks.check_compiles(both, *STUDENT, logits_of(TEACHER), SEQUENCES)
