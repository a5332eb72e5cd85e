"""Spans and likelihood matching: extreme values, what is refused, and one graph."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.language import align_spans, likelihood_matching_loss, span_log_probs
from tests import checks

KINDS = ("forward", "reverse", "total_variation")
ENDS, OTHER_ENDS = torch.tensor([[2, 3, 6], [1, 4, -1]]), torch.tensor([[1, 2, 4, 6], [1, 2, 4, -1]])
STUDENT, TEACHER = -checks.randn(2, 3, seed=1).abs(), -checks.randn(2, 3, seed=2).abs()
MASK = torch.tensor([[True, True, False], [True, False, True]])
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_probabilities_of_nearly_one_and_nearly_zero_leave_loss_and_gradient_finite(
    kind: str, temperature: float
) -> None:
    extremes = torch.tensor([0.0, -1e-30, -1e-5, -1e-3, -0.5, -20.0, -200.0, -3e4])
    student, teacher = extremes.repeat_interleave(8), extremes.repeat(8)

    def loss(s: Tensor, t: Tensor) -> Tensor:
        return likelihood_matching_loss(s, t, kind=kind, temperature=temperature)

    checks.check_extremes(loss, student, teacher)
    checks.check_extremes(lambda s, t: loss(s, t) * 0 + loss(s, s.detach()), student, teacher)


@every_kind
def test_outcomes_without_any_probability_are_no_nan(kind: str) -> None:
    nothing, half = torch.tensor([-torch.inf], requires_grad=True), torch.tensor([0.5]).log()
    for pair in ((nothing, half), (half, nothing), (nothing, nothing)):
        value = likelihood_matching_loss(*pair, kind=kind, temperature=1.0)
        assert not value.isnan()
        if pair[0] is nothing:
            (gradient,) = torch.autograd.grad(value, nothing)
            assert gradient.isfinite().all()
    assert likelihood_matching_loss(nothing, nothing, kind=kind).item() == 0


def test_a_span_that_only_the_student_rules_out_costs_more_than_any_other() -> None:
    half, unlikely, never = torch.tensor([0.5]).log(), torch.tensor([-1e4]), torch.tensor([-torch.inf])
    assert likelihood_matching_loss(never, half) > likelihood_matching_loss(unlikely, half) > 1


def test_the_other_outcome_counts_in_full_precision() -> None:
    # 1 - p for p = 1 - 1e-6 and q = 1 - 1e-5: KL(p, q) = 1e-5 - 1e-6 + 1e-6 log(0.1), where 1 - exp(x) is coarse
    p, q = (torch.tensor([-x]) for x in (1e-6, 1e-5))
    value = likelihood_matching_loss(q, p, temperature=1.0).item()
    assert value == pytest.approx(9e-6 + 1e-6 * torch.tensor(0.1).log().item(), rel=1e-3)
    # and for p = 1e-9, q = 1e-8, where it is 1 - p that rounds to 1: KL(p, q) = q - p + p log(p / q)
    p, q = (torch.tensor([x]).log() for x in (1e-9, 1e-8))
    value = likelihood_matching_loss(q, p, temperature=1.0).item()
    assert value == pytest.approx(9e-9 + 1e-9 * torch.tensor(0.1).log().item(), rel=1e-3)


def test_a_sure_student_is_drawn_back_by_a_teacher_that_is_not() -> None:
    logits = torch.tensor([12.0, 0.0], requires_grad=True)  # a probability of 0.999994
    loss = likelihood_matching_loss(logits.log_softmax(-1)[:1], torch.tensor([0.5]).log())
    loss.backward()
    assert logits.grad is not None
    # through the log-softmax, (q - p) / (1 - q) / τ times 1 - q tends to log(1 / p) / τ
    assert logits.grad[0].item() == pytest.approx(torch.tensor(2.0).log().item() / 100, rel=1e-2)


@every_kind
def test_agreement_is_zero_and_all_else_is_positive(kind: str) -> None:
    assert_close(likelihood_matching_loss(STUDENT, STUDENT, kind=kind).item(), 0.0)
    for temperature in (0.5, 1.0, 100.0):
        values = likelihood_matching_loss(STUDENT, TEACHER, kind=kind, temperature=temperature)
        assert values > 0


@every_kind
def test_order_of_examples_and_spans_does_not_matter(kind: str) -> None:
    def loss(s: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return likelihood_matching_loss(s, t, mask=mask, kind=kind)

    checks.check_batch_permutation(loss, STUDENT, TEACHER, MASK, per_example=False)
    order = [2, 0, 1]
    assert_close(loss(STUDENT[:, order], TEACHER[:, order], MASK[:, order]), loss(STUDENT, TEACHER, MASK))


@every_kind
def test_what_the_mask_leaves_out_does_not_matter(kind: str) -> None:
    student = STUDENT.masked_fill(~MASK, torch.nan).requires_grad_()
    loss = likelihood_matching_loss(student, TEACHER.masked_fill(~MASK, torch.nan), mask=MASK, kind=kind)
    assert_close(loss, likelihood_matching_loss(STUDENT[MASK], TEACHER[MASK], kind=kind))
    loss.backward()
    assert student.grad is not None
    assert student.grad[MASK].ne(0).all()
    assert student.grad[~MASK].eq(0).all()
    checks.check_nothing_that_counts(likelihood_matching_loss, STUDENT, TEACHER, MASK)


def test_more_padding_changes_nothing() -> None:
    def loss(ends: Tensor, other: Tensor, logs: Tensor, other_logs: Tensor) -> Tensor:
        s, t, mask = align_spans(ends, other)
        pair = span_log_probs(logs, s, mask.shape[-1]), span_log_probs(other_logs, t, mask.shape[-1])
        return likelihood_matching_loss(*pair, mask=mask)

    teacher = -checks.randn(2, 4, seed=3).abs()
    padded = [torch.nn.functional.pad(x, (1, 2), value=-1) for x in (ENDS, OTHER_ENDS, STUDENT, teacher)]
    assert_close(loss(*padded), loss(ENDS, OTHER_ENDS, STUDENT, teacher))


def test_half_precision_is_summed_in_single() -> None:
    logs = torch.full((1000,), -0.1, dtype=torch.bfloat16)
    total = span_log_probs(logs, torch.zeros(1000, dtype=torch.int64), 1)
    assert total.dtype == torch.float32
    assert_close(total, logs.double().sum()[None].float())


def test_all_of_it_is_one_graph() -> None:
    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        of_student, of_teacher, mask = align_spans(ENDS, OTHER_ENDS)
        s = span_log_probs(student, of_student, mask.shape[-1])
        t = span_log_probs(teacher, of_teacher, mask.shape[-1])
        return likelihood_matching_loss(s, t, mask=mask)

    checks.check_compiles(loss, STUDENT, -checks.randn(2, 4, seed=3).abs())


def test_ends_that_are_no_ends_are_refused() -> None:
    with pytest.raises(TypeError, match=r"ends must be a tensor of whole numbers, got torch\.float32: at which byte"):
        align_spans(ENDS.float(), OTHER_ENDS)
    with pytest.raises(TypeError, match="got list: at which byte each token ends"):
        align_spans(ENDS, [1, 2])
    with pytest.raises(TypeError, match=r"got torch\.bool"):
        align_spans(ENDS, OTHER_ENDS > 0)
    for student, teacher, shapes in (
        (ENDS, OTHER_ENDS[:1], r"\(2, 3\) and \(1, 4\)"),
        (ENDS[0], OTHER_ENDS, r"\(3,\) and \(2, 4\)"),
        (ENDS[:, :0], OTHER_ENDS, r"\(2, 0\) and \(2, 4\)"),
        (torch.tensor(3), torch.tensor(3), r"\(\) and \(\)"),
    ):
        with pytest.raises(ValueError, match=r"of the same texts, none empty, got " + shapes):
            align_spans(student, teacher)


def test_tokens_without_their_spans_are_refused() -> None:
    spans = torch.tensor([[0, 0, 1], [0, 1, -1]])
    with pytest.raises(ValueError, match=r"need a span per token, got \(2, 3\) and \(2, 2\): logits\[:, :-1\] at ids"):
        span_log_probs(STUDENT, spans[:, :2], 2)
    with pytest.raises(TypeError, match=r"span_of_token must be int64, got torch\.int32: align_spans makes it"):
        span_log_probs(STUDENT, spans.int(), 2)
    with pytest.raises(TypeError, match=r"floating-point log-probabilities and their spans, got torch\.int64"):
        span_log_probs(spans, spans, 2)
    with pytest.raises(TypeError, match=r"got torch\.float64 and list"):
        span_log_probs(STUDENT, [0, 1], 2)
    for wrong in (2.0, True, torch.tensor(2)):
        with pytest.raises(TypeError, match=r"num_spans must be a whole number, got .*: mask\.shape\[-1\]"):
            span_log_probs(STUDENT, spans, wrong)
    with pytest.raises(ValueError, match="num_spans must be at least 1, got 0"):
        span_log_probs(STUDENT, spans, 0)


def test_bad_input_of_the_loss_is_named() -> None:
    with pytest.raises(TypeError, match=r"span log-probabilities must be floating-point tensors, got torch\.int64"):
        likelihood_matching_loss(ENDS, TEACHER)
    with pytest.raises(TypeError, match="got list: span_log_probs"):
        likelihood_matching_loss(STUDENT, TEACHER.tolist())
    with pytest.raises(ValueError, match=r"both sides need the same spans, got \(2, 3\) and \(2, 2\): give"):
        likelihood_matching_loss(STUDENT, TEACHER[:, :2])
    with pytest.raises(ValueError, match=r"there is no span \(shape \(0, 3\)\)"):
        likelihood_matching_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(
        TypeError, match=r"mask must be a bool tensor \(2, 3\), one per span, got torch\.int64 \(2, 3\)"
    ):
        likelihood_matching_loss(STUDENT, TEACHER, mask=MASK.long())
    with pytest.raises(TypeError, match="got list: align_spans makes it"):
        likelihood_matching_loss(STUDENT, TEACHER, mask=[True])
    with pytest.raises(ValueError, match=r"mask must be a bool tensor \(2, 3\), .* got torch\.bool \(2, 2\)"):
        likelihood_matching_loss(STUDENT, TEACHER, mask=MASK[:, :2])
    with pytest.raises(ValueError, match="kind must be one of forward, reverse, total_variation, got 'kl'"):
        likelihood_matching_loss(STUDENT, TEACHER, kind="kl")
    with pytest.raises(TypeError, match="temperature must be a number, got '2'"):
        likelihood_matching_loss(STUDENT, TEACHER, temperature="2")
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"temperature must be positive and finite, got .*: the authors' is 100"):
            likelihood_matching_loss(STUDENT, TEACHER, temperature=temperature)
