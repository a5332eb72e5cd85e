"""Speculative decoding: what comes out is the teacher's, exactly; how much is saved is what the formula says."""

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats
from torch import Tensor

from kdref.sequence import expected_tokens_per_call, speculative_acceptance, speculative_decoding, speculative_sample
from tests import checks

V = 3
TEACHER, STUDENT = (checks.randn(V, V, seed=seed, scale=1.2) for seed in (4, 5))  # logits after each token
P, Q = TEACHER.softmax(-1), STUDENT.softmax(-1)
START, ROWS, DRAFTS = 1, 100_000, 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(transitions: Tensor, sequence: tuple[int, ...], start: int = START) -> float:
    return math.prod(transitions[a, b].item() for a, b in itertools.pairwise((start, *sequence)))


def likely(observed: dict[tuple[int, ...], int], expected: dict[tuple[int, ...], float]) -> bool:
    """Pearson's chi-square test: are these counts draws from that law?"""
    total = sum(observed.values())
    counts = [observed.get(outcome, 0) for outcome in expected]
    assert sum(counts) == total, f"outcomes that cannot be: {set(observed) - set(expected)}"
    return stats.chisquare(counts, [total * p for p in expected.values()]).pvalue > 1e-4


def one_round(seed: int = 0, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    """Many independent rounds from the same start: drafts, tokens, how many count."""
    draw, at, drafts, q = generator(seed), torch.full((rows,), START), [], []
    for _ in range(DRAFTS):
        q.append(Q[at])
        at = torch.multinomial(Q[at], 1, generator=draw).squeeze(1)
        drafts.append(at)
    drafted = torch.stack(drafts, dim=1)
    p = P[torch.cat([torch.full((rows, 1), START), drafted], dim=1)]
    return drafted, *speculative_sample(drafted, torch.stack(q, dim=1), p, generator=draw)


def test_what_comes_out_follows_the_teachers_law() -> None:
    _, tokens, counts = one_round()
    draw = generator(1)
    for t in range(1, DRAFTS + 1):  # where a round stopped early, the teacher goes on alone
        alone = torch.multinomial(P[tokens[:, t - 1]], 1, generator=draw).squeeze(1)
        tokens[:, t] = torch.where(t < counts, tokens[:, t], alone)
    law = {y: chain(P, y) for y in itertools.product(range(V), repeat=DRAFTS + 1)}
    assert likely(Counter(map(tuple, tokens.tolist())), law)
    assert not likely(Counter(map(tuple, tokens.tolist())), {y: chain(Q, y) for y in law}), "the test has no power"


def test_as_many_drafts_are_accepted_as_the_overlap_says() -> None:
    _, _, counts = one_round()
    reach = {1: 1.0, 2: 0.0, 3: 0.0}  # probability of at least so many tokens
    for first in range(V):
        kept = min(P[START, first].item(), Q[START, first].item())
        reach[2] += kept
        reach[3] += kept * sum(min(a, b) for a, b in zip(P[first].tolist(), Q[first].tolist(), strict=True))
    law = {(1,): 1 - reach[2], (2,): reach[2] - reach[3], (3,): reach[3]}
    assert likely(Counter((count,) for count in counts.tolist()), law)
    accepted = speculative_acceptance(Q[START], P[START]).item()
    assert reach[2] == pytest.approx(accepted, rel=1e-12)


def test_a_round_keeps_drafts_up_to_the_first_rejection_then_adds_one() -> None:
    drafted, tokens, counts = one_round(rows=2000)
    before = torch.cat([torch.full((2000, 1), START), drafted], dim=1)
    for draft, row, at, count in zip(drafted.tolist(), tokens.tolist(), before.tolist(), counts.tolist(), strict=True):
        assert row[: count - 1] == draft[: count - 1]
        assert row[count:] == [-1] * (DRAFTS + 1 - count)
        if count <= DRAFTS:  # a rejected token, and what replaces it
            assert P[at[count - 1], draft[count - 1]] < Q[at[count - 1], draft[count - 1]]
            assert P[at[count - 1], row[count - 1]] > Q[at[count - 1], row[count - 1]]
    assert set(counts.tolist()) == {1, 2, 3}


def test_known_values() -> None:
    sure = torch.eye(3, dtype=torch.float64)  # row v: certainly v
    same = speculative_sample(torch.tensor([[0, 1]]), sure[None, [0, 1]], sure[None, [0, 1, 2]])
    assert [t.tolist() for t in same] == [[[0, 1, 2]], [3]]
    apart = speculative_sample(torch.tensor([[0, 1]]), sure[None, [0, 1]], sure[None, [0, 2, 2]])
    assert [t.tolist() for t in apart] == [[[0, 2, -1]], [2]]
    at_once = speculative_sample(torch.tensor([[0, 1]]), sure[None, [0, 1]], sure[None, [2, 1, 2]])
    assert [t.tolist() for t in at_once] == [[[2, -1, -1]], [1]]


def test_without_drafts_it_is_plain_sampling() -> None:
    none = torch.zeros(ROWS, 0, dtype=torch.int64)
    p = P[START].expand(ROWS, 1, V)
    tokens, counts = speculative_sample(none, p[:, :0], p, generator=generator())
    assert (counts == 1).all()
    assert likely(Counter(map(tuple, tokens.tolist())), {(v,): P[START, v].item() for v in range(V)})


def test_equal_distributions_accept_everything_also_where_rounding_leaves_no_residual() -> None:
    p = checks.randn(500, 4, 7, seed=9).softmax(-1)
    drafts = torch.multinomial(p[:, :3].flatten(0, 1), 1, generator=generator()).reshape(500, 3)
    for dtype in (torch.float64, torch.float32):
        tokens, counts = speculative_sample(drafts, p[:, :3].to(dtype), p.to(dtype), generator=generator())
        assert (counts == 4).all()
        assert torch.equal(tokens[:, :3], drafts)
    # a draft that had probability 0: rejected, with p = q there is nothing to prefer, so p decides
    certain = torch.tensor([[[1.0, 0.0]]])
    tokens, counts = speculative_sample(torch.tensor([[1]]), certain, certain.expand(1, 2, 2))
    assert [tokens.tolist(), counts.tolist()] == [[[0, -1]], [1]]


@pytest.mark.parametrize("dtype", checks.DTYPES)
def test_half_precision_and_tiny_probabilities_draw_what_can_be(dtype: torch.dtype) -> None:
    logits = checks.randn(64, 4, 50, seed=6, scale=1e3)
    p, q = logits.softmax(-1).to(dtype), logits[:, :3].flip(-1).softmax(-1).to(dtype)
    drafts = q.argmax(-1)
    tokens, counts = speculative_sample(drafts, q, p, generator=generator())
    rows = torch.arange(64)
    last = tokens[rows, counts - 1]
    assert (p[rows, counts - 1, last] > 0).all()
    assert tokens.dtype == torch.int64


def model(transitions: Tensor) -> object:
    return lambda tokens: transitions[tokens]


def test_decoded_text_follows_the_teachers_law_at_any_temperature() -> None:
    draw, prompt = generator(3), torch.tensor([0, START])
    for temperature, drafts in ((1.0, 2), (4.0, 4)):
        law = {y: chain((TEACHER / temperature).softmax(-1), y) for y in itertools.product(range(V), repeat=3)}
        counts = Counter()
        for _ in range(600):
            tokens, calls = speculative_decoding(
                model(STUDENT),
                model(TEACHER),
                prompt,
                max_new_tokens=3,
                num_drafts=drafts,
                temperature=temperature,
                generator=draw,
            )
            counts[tuple(tokens.tolist())] += 1
            assert 1 <= calls <= 3
        assert likely(counts, law)


def test_calls_are_saved_as_the_draft_model_deserves() -> None:
    def run(student: Tensor, drafts: int) -> int:
        draw = generator(4)
        tokens, calls = speculative_decoding(
            model(student), model(TEACHER), torch.tensor([0]), max_new_tokens=60, num_drafts=drafts, generator=draw
        )
        assert len(tokens) == 60
        return calls

    assert run(TEACHER, 4) == 12  # five tokens per call
    assert run(STUDENT, 0) == 60
    assert 12 < run(STUDENT, 4) < 60


def test_tokens_per_call_are_what_the_formula_says_where_every_draft_is_accepted_alike() -> None:
    p, q = P[:1].expand(V, V), Q[:1].expand(V, V)  # no memory, so one acceptance everywhere
    acceptance = speculative_acceptance(q[0], p[0])
    expected = expected_tokens_per_call(acceptance, num_drafts=DRAFTS).item()
    draw = generator(5)
    drafts = torch.multinomial(q[0], ROWS * DRAFTS, replacement=True, generator=draw).reshape(ROWS, DRAFTS)
    shape = (ROWS, DRAFTS, V)
    _, counts = speculative_sample(drafts, q[0].expand(shape), p[0].expand(ROWS, DRAFTS + 1, V), generator=draw)
    assert counts.double().mean().item() == pytest.approx(expected, abs=5 / math.sqrt(ROWS))
    alpha = acceptance.item()
    assert expected == pytest.approx((1 - alpha ** (DRAFTS + 1)) / (1 - alpha), rel=1e-12)


def test_it_stops_after_the_end_token_and_at_the_limit() -> None:
    counts_up = 1e4 * torch.eye(6).roll(1, dims=1)  # 0 → 1 → ... → 5 → 0
    for drafts in (0, 1, 3, 8):
        options = {"num_drafts": drafts, "generator": generator()}
        tokens, _ = speculative_decoding(
            model(counts_up), model(counts_up), torch.tensor([0]), max_new_tokens=20, end=3, **options
        )
        assert tokens.tolist() == [1, 2, 3]
        tokens, _ = speculative_decoding(
            model(counts_up), model(counts_up), torch.tensor([2, 0]), max_new_tokens=4, end=5, **options
        )
        assert tokens.tolist() == [1, 2, 3, 4]


def test_decoding_leaves_no_graph_behind() -> None:
    weights = TEACHER.clone().requires_grad_()
    seen = []

    def watched(tokens: Tensor) -> Tensor:
        logits = weights[tokens]
        seen.append(logits.requires_grad)
        return logits

    speculative_decoding(watched, watched, torch.tensor([0]), max_new_tokens=4)
    assert not any(seen)


def test_bad_input_is_named() -> None:
    drafts, q, p = torch.zeros(2, 3, dtype=torch.int64), P[:1].expand(2, 3, V), P[:1].expand(2, 4, V)
    with pytest.raises(TypeError, match=r"draft_tokens must be int64 ids, got torch.float32"):
        speculative_sample(drafts.float(), q, p)
    for wrong in ((drafts, q, p[:, :3]), (drafts, q, p[..., :2]), (drafts[:, :2], q, p), (drafts, q[0], p)):
        with pytest.raises(ValueError, match=r"expected drafts \(B, K\), the student's probabilities \(B, K, V\)"):
            speculative_sample(*wrong)
    with pytest.raises(TypeError, match=r"probabilities must be floating point, got torch.int64"):
        speculative_sample(drafts, q.long(), p)
    prompt = torch.tensor([0])
    for bad, message in (
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1 and num_drafts at least 0, got 0 and 4"),
        ({"max_new_tokens": 2, "num_drafts": -1}, "got 2 and -1"),
        ({"max_new_tokens": 2, "temperature": 0.0}, "temperature must be positive and finite, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            speculative_decoding(model(STUDENT), model(TEACHER), prompt, **bad)
    with pytest.raises(TypeError, match=r"tokens must be int64 ids, got torch.float32"):
        speculative_decoding(model(STUDENT), model(TEACHER), prompt.float(), max_new_tokens=1)
    for wrong_prompt in (prompt[None], prompt[:0]):
        with pytest.raises(ValueError, match=r"prompt must be one sequence \(L,\) of at least one token, got"):
            speculative_decoding(model(STUDENT), model(TEACHER), wrong_prompt, max_new_tokens=1)


def test_a_round_compiles_to_one_graph() -> None:
    sure = torch.eye(3, dtype=torch.float64)  # nothing is left to chance, so the results must be equal
    drafts, after = torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0, 1, 2], [0, 2, 2]])
    arguments = drafts, sure[drafts], sure[after]
    torch._dynamo.reset()
    compiled = torch.compile(lambda *tensors: speculative_sample(*tensors), fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(*arguments), speculative_sample(*arguments), strict=True):
        assert torch.equal(found, expected)


def test_the_same_generator_gives_the_same_text() -> None:
    texts = [
        speculative_decoding(
            model(STUDENT), model(TEACHER), torch.tensor([0]), max_new_tokens=30, generator=generator(seed)
        )
        for seed in (7, 7, 8)
    ]
    assert torch.equal(texts[0][0], texts[1][0])
    assert texts[0][1] == texts[1][1]
    assert not torch.equal(texts[0][0], texts[2][0])
