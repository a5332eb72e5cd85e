"""Wrong versions of the divergences of next-token distributions, and of their mean over tokens."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import language
from tests.museum import exhibit

DIVERGENCE, LOSS = (f"kdref.language.tokens:{name}" for name in ("token_divergence", "token_loss"))
right_divergence, right_loss = language.token_divergence, language.token_loss


def logs(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """What a plain implementation starts with."""
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(z.to(dtype) / temperature, -1) for z in (student_logits, teacher_logits.detach()))
    return log_q, log_p


@exhibit(
    replaces=DIVERGENCE,
    seen_in="pytorch/torchtune: its forward KL, beside a reverse KL that is one",
    killed_by=(
        "heart/language/test_tokens.py::test_divergence_is_zero_where_they_agree_and_positive_elsewhere[forward-None]",
        "heart/language/test_tokens.py::test_divergence_matches_the_definition[1.0-forward-None]",
        "heart/language/test_tokens.py::test_skew_is_the_plain_kl_at_zero_and_nothing_at_one",
    ),
)
def cross_entropy_called_forward_kl(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 4: the teacher's entropy is missing, so a perfect student has a loss, and mixing changes the scale."""
    if how.get("kind", "forward") not in ("forward", "skew_forward"):
        return right_divergence(student_logits, teacher_logits, **how)
    _, log_p = logs(student_logits, teacher_logits, how.get("temperature", 1.0))
    return right_divergence(student_logits, teacher_logits, **how) - (log_p.exp() * log_p).sum(-1)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="huggingface/trl #3043",
    killed_by=(
        "heart/language/test_tokens.py::test_divergence_matches_the_definition[1.0-jensen_shannon-0.1]",
        "heart/language/test_tokens.py::test_jensen_shannon_by_its_weight_tends_to_a_kl_at_each_end",
    ),
)
def mixture_weights_swapped(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 12: M = (1 - β)P + βQ beside β KL(P‖M): unnoticed at one half."""
    if how.get("kind") != "jensen_shannon":
        return right_divergence(student_logits, teacher_logits, **how)
    mix = how["mix"]
    log_q, log_p = logs(student_logits, teacher_logits, how.get("temperature", 1.0))
    q, p = log_q.exp(), log_p.exp()
    log_m = ((1 - mix) * p + mix * q).log()
    return mix * (p * (log_p - log_m)).sum(-1) + (1 - mix) * (q * (log_q - log_m)).sum(-1)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="huggingface/trl and linkedin/Liger-Kernel: beta == 0 and beta == 1 return a KL",
    killed_by=("heart/language/test_tokens.py::test_jensen_shannon_is_continuous_and_zero_at_both_ends",),
)
def ends_are_special(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 12: a weight of 0.000001 and one of 0 differ by a factor of a million."""
    if how.get("kind") == "jensen_shannon" and how["mix"] in (0.0, 1.0):
        how |= {"kind": "forward" if how["mix"] == 0.0 else "reverse", "mix": None}
    return right_divergence(student_logits, teacher_logits, **how)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="linkedin/Liger-Kernel, fused_linear_distillation.py: torch.zeros for the missing words",
    killed_by=(
        "heart/language/test_tokens.py::test_a_smaller_vocabulary_is_refused_and_the_advice_gives_the_right_number",
    ),
)
def padded_with_zeros(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 23: logit 0 is a probability, often a large one, for words that the student does not have."""
    missing = teacher_logits.shape[-1] - student_logits.shape[-1]
    return right_divergence(F.pad(student_logits, (0, max(missing, 0))), teacher_logits, **how)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="this course's own advice, until a reader followed it",
    killed_by=(
        "heart/language/test_tokens.py::test_a_smaller_vocabulary_is_refused_and_the_advice_gives_the_right_number",
    ),
)
def padded_with_minus_infinity(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """Words that only the teacher has get probability 0 from the student, and the divergence is infinite."""
    words = max(student_logits.shape[-1], teacher_logits.shape[-1])
    padded = [F.pad(z, (0, words - z.shape[-1]), value=-torch.inf) for z in (student_logits, teacher_logits)]
    return right_divergence(*padded, **how)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: F.kl_div(..., log_target=True) where both sides are at -inf",
    killed_by=(
        "heart/language/test_tokens.py::test_words_at_minus_infinity_on_both_sides_are_as_if_not_there[forward-None]",
        "heart/language/test_tokens.py::test_a_word_that_one_side_lacks_is_infinite_for_the_kl_that_needs_it_and_finite_for_others",
    ),
)
def nothing_times_infinity(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """0 · (-inf + inf) is NaN, and so is the loss of every batch with padded words."""
    if how.get("kind", "forward") != "forward":
        return right_divergence(student_logits, teacher_logits, **how)
    log_q, log_p = logs(student_logits, teacher_logits, how.get("temperature", 1.0))
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: arguments of F.kl_div in the order of the formula",
    killed_by=(
        "heart/language/test_tokens.py::test_divergence_matches_the_definition[1.0-forward-None]",
        "heart/language/test_tokens.py::test_closed_form_gradients_of_both_kls",
    ),
)
def forward_and_reverse_swapped(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 8: the mode-seeking loss where the mode-covering one was asked for."""
    other = {"forward": "reverse", "reverse": "forward"}
    kind = how.pop("kind", "forward")
    return right_divergence(student_logits, teacher_logits, kind=other.get(kind, kind), **how)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: the L1 distance",
    killed_by=(
        "heart/language/test_tokens.py::test_divergence_matches_the_definition[1.0-total_variation-None]",
        "heart/language/test_tokens.py::test_known_values_of_a_sure_teacher_and_a_fair_student",
    ),
)
def without_the_half(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """Total variation up to 2, which is no probability of anything."""
    factor = 2 if how.get("kind") == "total_variation" else 1
    return factor * right_divergence(student_logits, teacher_logits, **how)


@exhibit(
    replaces=DIVERGENCE,
    seen_in="a likely slip: a reverse skew that mixes like the forward one",
    killed_by=(
        "heart/language/test_tokens.py::test_kinds_mirror_each_other",
        "heart/language/test_tokens.py::test_divergence_matches_the_definition[1.0-skew_reverse-0.1]",
    ),
)
def skew_of_the_wrong_side(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """KL(Q ‖ αP + (1 - α)Q) hardly sees the teacher at a small α."""
    if how.get("kind") == "skew_reverse":
        how |= {"mix": 1 - how["mix"]}
    return right_divergence(student_logits, teacher_logits, **how)


@exhibit(
    replaces=LOSS,
    seen_in="classification habits: τ² in a loss for language models, whose rate was tuned without",
    killed_by=(
        "heart/language/test_fused.py::test_equals_the_dense_form_in_value_and_in_every_gradient[None-True-forward-None]",
    ),
)
def times_temperature_squared(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """The two losses of one name differ by τ²."""
    return right_loss(student_logits, teacher_logits, **how) * how.get("temperature", 1.0) ** 2


@exhibit(
    replaces=LOSS,
    seen_in="modelscope/easydistill 1.0: divided by the tokens, then by the tokens again",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_the_loss_is_the_mean_over_tokens_that_count[forward-None-dense]",
        "heart/language/test_tokens_extreme.py::test_micro_batches_add_up_however_a_batch_is_split[forward-None-dense]",
    ),
)
def divided_twice(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 7: the longer the batch, the smaller the loss."""
    tokens = student_logits[..., 0].numel() if how.get("mask") is None else how["mask"].sum().clamp(min=1)
    return right_loss(student_logits, teacher_logits, **how) / tokens


@exhibit(
    replaces=LOSS,
    seen_in="huggingface/trl #4719, #6006",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_micro_batches_add_up_however_a_batch_is_split[forward-None-dense]",
    ),
)
def mean_of_each_micro_batch(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 7: the batch's count is ignored, so a short sequence's tokens weigh more."""
    return right_loss(student_logits, teacher_logits, **(how | {"num_tokens": None}))


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: .mean() of values times the mask",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_the_length_of_the_padding_does_not_matter[dense]",
        "heart/language/test_tokens_extreme.py::test_the_loss_is_the_mean_over_tokens_that_count[forward-None-dense]",
    ),
)
def padding_in_the_mean(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """Masked tokens add nothing above and count below."""
    return right_loss(student_logits, teacher_logits, **({"num_tokens": student_logits[..., 0].numel()} | how))


@exhibit(
    replaces=LOSS,
    seen_in="a likely slip: values times the mask, after the softmax",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_what_stands_in_the_padding_does_not_matter[nan-forward-None-dense]",
    ),
)
def masked_by_a_product(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """0 · NaN is NaN: the padding decides."""
    mask, count = how.pop("mask", None), how.pop("num_tokens", None)
    values = right_divergence(student_logits, teacher_logits, **how)
    mask = torch.ones_like(values) if mask is None else mask
    return (values * mask).sum() / (mask.sum().clamp(min=1) if count is None else count)


@exhibit(
    replaces=LOSS,
    seen_in="pytorch/torchtune: an all-masked batch returns torch.tensor(0.0)",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_nothing_that_counts_gives_zero_with_a_way_back[forward-None-dense]",
    ),
)
def constant_for_nothing(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 24: backward() fails, on one machine of many, and the others wait for it."""
    if how.get("mask") is not None and not how["mask"].any():
        return torch.tensor(0.0)
    return right_loss(student_logits, teacher_logits, **how)


@exhibit(
    replaces=LOSS,
    seen_in="huggingface/trl #7024: the pad token is the end-of-sequence token",
    killed_by=(
        "heart/language/test_tokens_extreme.py::test_an_end_of_sequence_token_that_also_pads_counts_where_the_mask_says_so[dense]",
    ),
)
def padding_counts(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 25: by token ids, what pads looks like what ends, and all of it counts."""
    return right_loss(student_logits, teacher_logits, **(how | {"mask": None}))
