"""Spans of two segmentations, and the loss on them, checked against loops over bytes."""

import math
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.language import align_spans, likelihood_matching_loss, span_log_probs
from tests import checks

TEXT = "Für naïve 猫: 20 € – ok?".encode()
KINDS = ("forward", "reverse", "total_variation")
STUDENT = torch.tensor([[-0.1, -2.0, -0.7, -5.0], [-3.0, -0.02, -1.0, -0.4]], dtype=torch.float64)
TEACHER = torch.tensor([[-0.3, -1.0, -0.7, -9.0], [-2.0, -0.5, -0.01, -6.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, False], [True, False, True, True]])
every_kind = pytest.mark.parametrize("kind", KINDS)


def byte_log_prob(text: bytes, place: int) -> float:
    """A model of bytes: each depends on the two before it, and their place in the alphabet is all that matters."""
    before = sum(text[max(place - 2, 0) : place])
    scores = [math.sin(0.37 * byte + 0.11 * before) for byte in range(256)]
    return scores[text[place]] - math.log(sum(math.exp(score) for score in scores))


def token_log_probs(text: bytes, ends: Sequence[int]) -> list[float]:
    """What the model of bytes says of each token of a segmentation."""
    starts = [0, *ends[:-1]]
    return [sum(byte_log_prob(text, i) for i in range(a, b)) for a, b in zip(starts, ends, strict=True)]


def segmentation(seed: int, length: int, tokens: int) -> list[int]:
    """Where tokens end: at random places, in the middle of characters too."""
    return [*sorted(random.Random(seed).sample(range(1, length), tokens - 1)), length]


def spans_by_loop(own: Sequence[int], other: Sequence[int]) -> list[int]:
    """A span is closed by a token at whose end a token of the other side ends too."""
    result, open_tokens, span = [], [], 0
    for i, end in enumerate(own):
        open_tokens.append(i)
        if end in other:
            result += [span] * len(open_tokens)
            open_tokens, span = [], span + 1
    return result + [-1] * len(open_tokens)


def divergence_by_loop(log_q: float, log_p: float, kind: str, temperature: float) -> float:
    q, p = math.exp(log_q / temperature), math.exp(log_p / temperature)
    if kind == "total_variation":
        return abs(p - q)
    return checks.kl([p, 1 - p], [q, 1 - q]) if kind == "forward" else checks.kl([q, 1 - q], [p, 1 - p])


@given(st.sets(st.integers(1, 12), min_size=1), st.sets(st.integers(1, 12), min_size=1))
def test_spans_are_those_of_a_loop_over_tokens(student: set[int], teacher: set[int]) -> None:
    s, t = sorted(student), sorted(teacher)
    of_student, of_teacher, mask = align_spans(torch.tensor(s), torch.tensor(t))
    assert of_student.tolist() == spans_by_loop(s, t)
    assert of_teacher.tolist() == spans_by_loop(t, s)
    assert mask.sum().item() == len(student & teacher)
    assert mask.shape == (min(len(s), len(t)),)
    assert mask.tolist() == sorted(mask.tolist(), reverse=True)


def test_spans_of_two_segmentations_worked_out_by_hand() -> None:
    # bytes 0 1 2 3 4 5: the student's tokens are 01|2|345, the teacher's 0|1|23|45, so both end at 2 and at 6 alone
    student, teacher, mask = align_spans(torch.tensor([2, 3, 6]), torch.tensor([1, 2, 4, 6]))
    assert student.tolist() == [0, 1, 1]
    assert teacher.tolist() == [0, 0, 1, 1]
    assert mask.tolist() == [True, True, False]


def test_tokens_of_a_span_cover_the_same_bytes_on_both_sides() -> None:
    for seed in range(20):
        ends = [segmentation(seed + 100 * side, len(TEXT), 8 + side) for side in (0, 1)]
        *spans, mask = align_spans(torch.tensor(ends[0]), torch.tensor(ends[1]))
        for span in range(int(mask.sum())):
            covered = []
            for own, of_token in zip(ends, spans, strict=True):
                starts = [0, *own[:-1]]
                covered.append(b"".join(TEXT[starts[i] : own[i]] for i in range(len(own)) if of_token[i] == span))
            assert covered[0] == covered[1] != b""


def test_padding_at_either_end_and_a_batch_change_nothing() -> None:
    rows = [([2, 4, 6], [2, 5, 6]), ([1, 3], [3, 4, 9]), ([5], [1, 5])]
    student = torch.tensor([[-1, *s, *[-1] * (3 - len(s))] for s, _ in rows])
    teacher = torch.tensor([[*[-1] * (3 - len(t)), *t, -1, -1] for _, t in rows])
    of_student, of_teacher, mask = align_spans(student, teacher)
    for i, (s, t) in enumerate(rows):
        one_student, one_teacher, one_mask = align_spans(torch.tensor(s), torch.tensor(t))
        assert of_student[i][student[i] >= 0].tolist() == one_student.tolist()
        assert of_teacher[i][teacher[i] >= 0].tolist() == one_teacher.tolist()
        assert mask[i].sum() == one_mask.sum()
    assert (of_student[student < 0] == -1).all()
    assert (of_teacher[teacher < 0] == -1).all()


def test_a_shift_of_all_bytes_changes_nothing_and_ends_are_mirrored_with_the_sides() -> None:
    s, t = torch.tensor([[2, 3, 6], [1, 4, 5]]), torch.tensor([[1, 2, 4, 6], [2, 4, 6, -1]])
    student, teacher, mask = align_spans(s, t)
    for got, expected in zip(align_spans(s + 7, torch.where(t < 0, t, t + 7)), (student, teacher, mask), strict=True):
        assert_close(got, expected)
    for got, expected in zip(align_spans(t, s), (teacher, student, mask), strict=True):
        assert_close(got, expected)


def test_a_token_without_bytes_belongs_to_what_it_ends_with() -> None:
    # ends in characters: a character cut into two tokens gives both the same end
    student, teacher, mask = align_spans(torch.tensor([1, 3, 3, 4]), torch.tensor([3, 4]))
    assert student.tolist() == [0, 0, 0, 1]
    assert teacher.tolist() == [0, 1]
    assert mask.tolist() == [True, True]


def test_an_end_of_the_text_with_an_end_of_its_own_is_a_span_of_its_own() -> None:
    student, teacher, mask = align_spans(torch.tensor([2, 4, 5, -1]), torch.tensor([1, 4, 5]))
    assert (student.tolist(), teacher.tolist()) == ([0, 0, 1, -1], [0, 0, 1])
    assert mask.tolist() == [True, True, False]


@pytest.mark.parametrize("seed", range(4))
def test_a_model_of_bytes_says_the_same_of_a_span_under_both_segmentations_and_has_no_loss(seed: int) -> None:
    ends = [segmentation(seed + 50 * side, len(TEXT), 16 + 4 * side) for side in (0, 1)]
    *spans, mask = align_spans(torch.tensor(ends[0]), torch.tensor(ends[1]))
    logs = [torch.tensor(token_log_probs(TEXT, e), dtype=torch.float64) for e in ends]
    s, t = (span_log_probs(x, span, mask.shape[-1]) for x, span in zip(logs, spans, strict=True))
    assert_close(s, t)
    assert_close(s.sum().item(), sum(byte_log_prob(TEXT, i) for i in range(len(TEXT))))
    for kind in KINDS:
        for temperature in (1.0, 100.0):
            loss = likelihood_matching_loss(s, t, mask=mask, kind=kind, temperature=temperature)
            assert_close(loss.item(), 0.0, atol=1e-12, rtol=0)
    other = [value - 0.1 * (i % 3) for i, value in enumerate(logs[0].tolist())]  # no longer a model of those bytes
    wrong = span_log_probs(torch.tensor(other, dtype=torch.float64), spans[0], mask.shape[-1])
    assert likelihood_matching_loss(wrong, t, mask=mask) > 1e-6


def test_span_log_probs_are_sums_over_tokens() -> None:
    logs, spans = checks.randn(3, 5, seed=1), torch.tensor([[0, 0, 1, 2, -1], [-1, 0, 0, 0, 0], [0, 1, 2, 3, 3]])
    sums = span_log_probs(logs, spans, 4)
    for row in range(3):
        for span in range(4):
            expected = sum(logs[row, i].item() for i in range(5) if spans[row, i] == span)
            assert sums[row, span].item() == pytest.approx(expected, abs=1e-12)
    assert span_log_probs(logs[0], spans[0], 3).tolist() == pytest.approx(sums[0, :3].tolist())


def test_a_token_outside_all_spans_neither_counts_nor_spoils() -> None:
    spans = torch.tensor([0, 1, -1, 1])
    logs = torch.tensor([-1.0, -2.0, torch.nan, -4.0], requires_grad=True)
    sums = span_log_probs(logs, spans, 2)
    assert sums.tolist() == [-1.0, -6.0]
    sums.sum().backward()
    assert logs.grad is not None
    assert logs.grad.tolist() == [1.0, 1.0, 0.0, 1.0]


@every_kind
@pytest.mark.parametrize("temperature", [1.0, 3.0, 100.0])
def test_loss_matches_the_definition(kind: str, temperature: float) -> None:
    pairs = list(zip(STUDENT.flatten().tolist(), TEACHER.flatten().tolist(), strict=True))
    values = [divergence_by_loop(s, t, kind, temperature) for s, t in pairs]
    loss = likelihood_matching_loss(STUDENT, TEACHER, kind=kind, temperature=temperature)
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-9)
    kept = [value for value, counts in zip(values, MASK.flatten().tolist(), strict=True) if counts]
    loss = likelihood_matching_loss(STUDENT, TEACHER, mask=MASK, kind=kind, temperature=temperature)
    assert loss.item() == pytest.approx(sum(kept) / len(kept), rel=1e-9)


def test_known_values_of_a_half_and_a_quarter() -> None:
    half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    # forward: log(2)/2 + log(2/3)/2 = log(4/3)/2; reverse: log(1/2)/4 + 3/4 log(3/2); the distance is a quarter
    for kind, value in (("forward", math.log(4 / 3) / 2), ("reverse", 0.75 * math.log(1.5) - math.log(2) / 4)):
        assert likelihood_matching_loss(quarter, half, kind=kind, temperature=1.0).item() == pytest.approx(value)
    distance = likelihood_matching_loss(quarter, half, kind="total_variation", temperature=1.0)
    assert distance.item() == pytest.approx(0.25)
    # at temperature 2 a quarter is a half: (1/4)^(1/2)
    assert_close(
        likelihood_matching_loss(2 * quarter, 2 * half, kind="reverse", temperature=2.0).item(),
        0.1308124,
        atol=1e-6,
        rtol=0,
    )


def test_the_default_is_forward_at_a_hundred() -> None:
    loss = likelihood_matching_loss(STUDENT, TEACHER)
    assert_close(loss, likelihood_matching_loss(STUDENT, TEACHER, kind="forward", temperature=100.0))


def test_reverse_is_forward_with_the_sides_swapped() -> None:
    swapped = likelihood_matching_loss(TEACHER, STUDENT, kind="reverse", temperature=2.0)
    assert_close(likelihood_matching_loss(STUDENT, TEACHER, temperature=2.0), swapped)


def test_at_high_temperature_the_loss_times_the_temperature_compares_log_probabilities() -> None:
    # of events that are nearly sure, 1 - p^(1/τ) = -log(p)/τ, and the KL is that of two rates, -log p and -log q
    q, p = STUDENT.neg(), TEACHER.neg()
    limit = (p * (p / q).log() - p + q).mean()
    assert_close(1e6 * likelihood_matching_loss(STUDENT, TEACHER, temperature=1e6), limit, rtol=1e-4, atol=0)
    assert_close(100 * likelihood_matching_loss(STUDENT, TEACHER), limit, rtol=0.1, atol=0)


def test_gradient_is_that_of_binary_cross_entropy_in_closed_form() -> None:
    for temperature in (1.0, 100.0):
        student = STUDENT.clone().requires_grad_()
        likelihood_matching_loss(student, TEACHER, temperature=temperature).backward()
        q, p = (STUDENT / temperature).exp(), (TEACHER / temperature).exp()
        assert student.grad is not None
        assert_close(student.grad, (q - p) / (1 - q) / temperature / STUDENT.numel())


@every_kind
def test_gradients_reach_the_student_only(kind: str) -> None:
    def loss(s: Tensor, t: Tensor) -> Tensor:
        return likelihood_matching_loss(s, t, mask=MASK, kind=kind, temperature=2.0)

    checks.check_gradient(loss, STUDENT, TEACHER)


def test_a_student_with_other_tokens_learns_the_teachers_probabilities() -> None:
    ends = torch.tensor([2, 3, 5, 8]), torch.tensor([1, 3, 4, 6, 8])
    torch.manual_seed(0)
    teacher = torch.tensor([[-0.2, -0.9, -0.1, -1.0, -0.6], [-2.0, -0.3, -0.3, -0.1, -0.1]])
    of_student, of_teacher, mask = align_spans(*(e.expand(2, -1) for e in ends))
    target, words = span_log_probs(teacher, of_teacher, mask.shape[-1]), torch.tensor([[1, 3, 0, 2], [4, 4, 2, 1]])
    network = nn.Embedding(8, 5)  # a place of one of two texts in, five words out
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(300):
        logs = network(torch.arange(8).reshape(2, 4)).log_softmax(-1).gather(-1, words[..., None])[..., 0]
        spans = span_log_probs(logs, of_student, mask.shape[-1])
        optimizer.zero_grad()
        (100 * likelihood_matching_loss(spans, target, mask=mask)).backward()
        optimizer.step()
    assert_close(spans[mask], target[mask], atol=0.02, rtol=0)
