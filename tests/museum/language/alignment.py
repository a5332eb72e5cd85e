"""Wrong versions of the alignment of two tokenizers' spans, and of the loss on what two models say of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdref.language import alignment
from tests.museum import exhibit

ALIGN, SUM, LOSS = (
    f"kdref.language.alignment:{name}" for name in ("align_spans", "span_log_probs", "likelihood_matching_loss")
)
right_align, right_sum, right_loss = (
    alignment.align_spans,
    alignment.span_log_probs,
    alignment.likelihood_matching_loss,
)  # as they were before any swap
Spans = tuple[Tensor, Tensor, Tensor]


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/language/test_alignment.py::test_{test}" for test in tests)


def killed_by_input(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/language/test_alignment_input.py::test_{test}" for test in tests)


def plain(step: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A loss without the care of the right one: log q and log p of each span, by the temperature, and their mean."""

    def loss(
        s: Tensor, t: Tensor, *, mask: Tensor | None = None, kind: str = "forward", temperature: float = 100.0
    ) -> Tensor:
        if kind != "forward":
            return right_loss(s, t, mask=mask, kind=kind, temperature=temperature)
        dtype = torch.promote_types(s.dtype, torch.float32)
        values = step(s.to(dtype) / temperature, t.detach().to(dtype) / temperature)
        return values.mean() if mask is None else values[mask].mean()

    return loss


@exhibit(
    replaces=ALIGN,
    seen_in="huggingface/trl: GOLDConfig(use_extended_uld=False) pairs tokens by their position",
    killed_by=killed_by(
        "spans_of_two_segmentations_worked_out_by_hand", "tokens_of_a_span_cover_the_same_bytes_on_both_sides"
    ),
)
def by_position(student_ends: Tensor, teacher_ends: Tensor) -> Spans:
    """Token 5 of one tokenizer is about other text than token 5 of the other, and the distance grows."""
    spans = min(student_ends.shape[-1], teacher_ends.shape[-1])
    both = []
    for ends in (student_ends, teacher_ends):
        index = torch.arange(ends.shape[-1]).expand(ends.shape)
        both.append(index.masked_fill((ends < 0) | (index >= spans), -1))
    return both[0], both[1], (both[0][..., :spans] >= 0) & (both[1][..., :spans] >= 0)


@exhibit(
    replaces=ALIGN,
    seen_in="a likely slip: a token opens the span after the boundary at which it ends",
    killed_by=killed_by("spans_of_two_segmentations_worked_out_by_hand", "spans_are_those_of_a_loop_over_tokens"),
)
def off_by_one_token(student_ends: Tensor, teacher_ends: Tensor) -> Spans:
    """The last token of each span is counted in the next one."""
    student, teacher, mask = right_align(student_ends, teacher_ends)
    moved = []
    for ends, other in ((student_ends, teacher_ends), (teacher_ends, student_ends)):
        at_boundary = (ends[..., :, None] == other[..., None, :]).any(-1) & (ends >= 0)
        moved.append(at_boundary.long())
    spans = [span.where(span < 0, span + move) for span, move in zip((student, teacher), moved, strict=True)]
    return spans[0].clamp(max=mask.shape[-1] - 1), spans[1].clamp(max=mask.shape[-1] - 1), mask


@exhibit(
    replaces=ALIGN,
    seen_in="huggingface/trl #4393: one token more, decode, and take what the text has grown by",
    killed_by=killed_by("a_token_without_bytes_belongs_to_what_it_ends_with"),
)
def two_ends_at_one_character_are_two_boundaries(student_ends: Tensor, teacher_ends: Tensor) -> Spans:
    """A character cut into two tokens closes a span twice, and all spans after it are shifted against each other."""
    spans = min(student_ends.shape[-1], teacher_ends.shape[-1])
    both = []
    for ends, other in ((student_ends, teacher_ends), (teacher_ends, student_ends)):
        closes = (ends[..., :, None] == other[..., None, :]).any(-1) & (ends >= 0)
        index = closes.long().cumsum(-1) - closes.long()
        after = index >= closes.sum(-1, keepdim=True)
        both.append(index.masked_fill((ends < 0) | after | (index >= spans), -1))
    count = torch.minimum(both[0].amax(-1), both[1].amax(-1)) + 1
    return both[0], both[1], torch.arange(spans) < count[..., None]


@exhibit(
    replaces=ALIGN,
    seen_in="a likely slip: -1, which pads both sides, is an end that both sides share",
    killed_by=killed_by("padding_at_either_end_and_a_batch_change_nothing"),
)
def padding_is_a_boundary(student_ends: Tensor, teacher_ends: Tensor) -> Spans:
    """A short text has a span more, of no token: a loss of 0 that thins the mean."""
    student, teacher, mask = right_align(student_ends + 1, teacher_ends + 1)
    return student, teacher, mask


@exhibit(
    replaces=ALIGN,
    seen_in="huggingface/trl #5885, before it: what is left at the end becomes one last group",
    killed_by=killed_by("spans_are_those_of_a_loop_over_tokens"),
)
def the_rest_is_a_span(student_ends: Tensor, teacher_ends: Tensor) -> Spans:
    """After the last boundary that both have, where one side was cut off, other texts are compared."""
    student, teacher, mask = right_align(student_ends, teacher_ends)
    count = mask.sum(-1, keepdim=True)
    last = (mask.shape[-1] - 1) * torch.ones_like(count)
    rest = torch.minimum(count, last)
    student = student.where((student >= 0) | (student_ends < 0), rest)
    teacher = teacher.where((teacher >= 0) | (teacher_ends < 0), rest)
    return student, teacher, torch.arange(mask.shape[-1]) <= rest


@exhibit(
    replaces=SUM,
    seen_in="a likely slip: a span's mean, so that long spans weigh no more",
    killed_by=killed_by(
        "a_model_of_bytes_says_the_same_of_a_span_under_both_segmentations_and_has_no_loss",
        "span_log_probs_are_sums_over_tokens",
    ),
)
def mean_instead_of_sum(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """The geometric mean of the tokens' probabilities depends on how many tokens the span was cut into."""
    sums = right_sum(token_log_probs, span_of_token, num_spans)
    counts = right_sum(torch.ones_like(token_log_probs), span_of_token, num_spans)
    return sums / counts.clamp(min=1)


@exhibit(
    replaces=SUM,
    seen_in="a likely slip: probabilities added, as for outcomes that exclude each other",
    killed_by=killed_by(
        "a_model_of_bytes_says_the_same_of_a_span_under_both_segmentations_and_has_no_loss",
        "span_log_probs_are_sums_over_tokens",
    ),
)
def probabilities_added(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """One token and then the other is a product; the sum may be above 1."""
    return right_sum(token_log_probs.exp(), span_of_token, num_spans).log()


@exhibit(
    replaces=SUM,
    seen_in="huggingface/trl #5905: answer logits cut one place late, at the token and not before it",
    killed_by=killed_by("span_log_probs_are_sums_over_tokens"),
)
def one_place_late(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """The logits at a token are about the one after it: each span takes its neighbour's number."""
    return right_sum(token_log_probs.roll(-1, dims=-1), span_of_token, num_spans)


@exhibit(
    replaces=SUM,
    seen_in="a likely slip: span -1 is the last one, as an index of Python is",
    killed_by=killed_by("span_log_probs_are_sums_over_tokens", "a_token_outside_all_spans_neither_counts_nor_spoils"),
)
def padding_in_the_last_span(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """What stands in the padding is added to the text's last span."""
    return right_sum(token_log_probs, span_of_token % num_spans, num_spans)


@exhibit(
    replaces=SUM,
    seen_in="a likely slip: padding multiplied by 0",
    killed_by=killed_by("a_token_outside_all_spans_neither_counts_nor_spoils"),
)
def padding_times_zero(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """0 times NaN is NaN, in the sum or in the gradient."""
    outside = span_of_token < 0
    return right_sum(token_log_probs * ~outside, span_of_token.masked_fill(outside, 0), num_spans)


@exhibit(
    replaces=SUM,
    seen_in="a likely slip: added up in bfloat16",
    killed_by=killed_by_input("half_precision_is_summed_in_single"),
)
def summed_in_half_precision(token_log_probs: Tensor, span_of_token: Tensor, num_spans: int) -> Tensor:
    """The sum of a long span stops growing."""
    total = token_log_probs.new_zeros(*token_log_probs.shape[:-1], num_spans)
    for i in range(token_log_probs.shape[-1]):
        total = total + token_log_probs[..., i, None] * (span_of_token[..., i, None] == torch.arange(num_spans))
    return total.to(torch.promote_types(total.dtype, torch.float32))


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: p log(p / q) of the span alone",
    killed_by=killed_by("loss_matches_the_definition[1.0-forward]", "known_values_of_a_half_and_a_quarter")
    + killed_by_input("agreement_is_zero_and_all_else_is_positive[forward]"),
)
def without_the_other_outcome(*args: Any, **how: Any) -> Tensor:
    """A student that gives every span probability 1 has the lowest loss, below 0."""
    return plain(lambda b, a: a.exp() * (a - b))(*args, **how)


@exhibit(
    replaces=LOSS,
    seen_in="bminixhofer/tokenkit: alm_diff_fn binary_ce, a cross-entropy, which is right as a gradient",
    killed_by=killed_by(
        "a_model_of_bytes_says_the_same_of_a_span_under_both_segmentations_and_has_no_loss",
        "loss_matches_the_definition[1.0-forward]",
    ),
)
def cross_entropy_called_divergence(*args: Any, **how: Any) -> Tensor:
    """The teacher's entropy stays in: a perfect student has a loss, and its size says nothing."""
    return plain(lambda b, a: -a.exp() * b + a.expm1() * (-b.expm1()).log())(*args, **how)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: log(1 - exp(x))",
    killed_by=killed_by_input(
        "probabilities_of_nearly_one_and_nearly_zero_leave_loss_and_gradient_finite[1.0-forward]",
        "the_other_outcome_counts_in_full_precision",
    ),
)
def one_minus_the_probability(*args: Any, **how: Any) -> Tensor:
    """1 - p is 0 for a sure span, its logarithm has no number; and near it most digits are gone."""
    return plain(lambda b, a: a.exp() * (a - b) + (1 - a.exp()) * ((1 - a.exp()).log() - (1 - b.exp()).log()))(
        *args, **how
    )


@exhibit(
    replaces=LOSS,
    seen_in="the authors' guide in PyTorch: torch.where picks the right branch, and both have a gradient",
    killed_by=killed_by_input(
        "probabilities_of_nearly_one_and_nearly_zero_leave_loss_and_gradient_finite[1.0-forward]"
    ),
)
def where_over_two_branches(*args: Any, **how: Any) -> Tensor:
    """Without their 0.000001 the branch that is not taken has an infinite slope at 0, and 0 times it is NaN."""

    def log1mexp(x: Tensor) -> Tensor:
        return torch.where(x < -0.6931, (-x.exp()).log1p(), (-x.expm1()).log())

    def step(b: Tensor, a: Tensor) -> Tensor:
        return a.exp() * (a - b) - a.expm1() * (log1mexp(a) - log1mexp(b))

    return plain(step)(*args, **how)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: a gradient to both sides",
    killed_by=killed_by("gradients_reach_the_student_only[forward]"),
)
def gradient_to_the_teacher(s: Tensor, t: Tensor, **how: Any) -> Tensor:
    """The teacher moves towards its student."""
    loss = right_loss(s, t, **how)
    return loss + 0 * t.nan_to_num().sum()


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: teacher and student in the order of the formula",
    killed_by=killed_by("loss_matches_the_definition[1.0-forward]", "known_values_of_a_half_and_a_quarter"),
)
def sides_swapped(s: Tensor, t: Tensor, *, kind: str = "forward", **how: Any) -> Tensor:
    """Forward and reverse change their names, and the distance does not notice."""
    other = {"forward": "reverse", "reverse": "forward"}.get(kind, kind)
    return right_loss(s, t, kind=other, **how)


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: the mean over all places, padded ones included",
    killed_by=killed_by("loss_matches_the_definition[1.0-forward]")
    + killed_by_input("what_the_mask_leaves_out_does_not_matter[forward]", "more_padding_changes_nothing"),
)
def padding_counted(s: Tensor, t: Tensor, *, mask: Tensor | None = None, **how: Any) -> Tensor:
    """The more padding beside a text, the smaller its loss."""
    share = 1.0 if mask is None else mask.float().mean()
    return right_loss(s, t, mask=mask, **how) * share


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: the temperature of a softmax, whose square is put back",
    killed_by=killed_by(
        "loss_matches_the_definition[3.0-forward]",
        "at_high_temperature_the_loss_times_the_temperature_compares_log_probabilities",
    ),
)
def times_the_square_of_the_temperature(s: Tensor, t: Tensor, *, temperature: float = 100.0, **how: Any) -> Tensor:
    """A hundred times too much: this loss falls with the temperature itself, not with its square."""
    return right_loss(s, t, temperature=temperature, **how) * temperature**2
