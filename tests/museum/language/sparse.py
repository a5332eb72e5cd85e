"""Wrong versions of teachers kept in a few numbers."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.language import sampled, sparse
from tests.museum import exhibit

TOP, SPARSE = (f"kdref.language.sparse:{name}" for name in ("sparse_teacher", "sparse_teacher_loss"))
SAMPLED, DRAWN_LOSS, PACKED = (
    f"kdref.language.sampled:{name}" for name in ("sampled_teacher", "sampled_teacher_loss", "pack_sparse")
)
right_top, right_sparse, right_sampled = sparse.sparse_teacher, sparse.sparse_teacher_loss, sampled.sampled_teacher
right_drawn_loss = sampled.sampled_teacher_loss


@exhibit(
    replaces=TOP,
    seen_in="a common way to store a teacher: top-k probabilities made to sum to 1",
    killed_by=(
        "heart/language/test_sparse.py::test_sparse_teacher_matches_the_definition",
        "heart/language/test_sparse.py::test_top_k_made_to_sum_to_one_is_biased_by_exactly_the_tails_mass",
    ),
)
def tail_forgotten(logits: Tensor, *, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tail is lost for good: nothing that reads the file can know how much there was."""
    indices, log_probs, tail = right_top(logits, k=k)
    return indices, log_probs.log_softmax(dim=-1), torch.full_like(tail, -torch.inf)


@exhibit(
    replaces=TOP,
    seen_in="a likely slip: one minus the sum of what is kept",
    killed_by=(
        "heart/language/test_sparse.py::test_the_tail_of_a_sure_teacher_keeps_its_digits_and_an_empty_one_is_minus_infinity",
    ),
)
def tail_by_subtraction(logits: Tensor, *, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """For a sure teacher the difference is rounding, or negative."""
    indices, log_probs, _ = right_top(logits, k=k)
    return indices, log_probs, (1 - log_probs.exp().sum(dim=-1)).log()


@exhibit(
    replaces=SPARSE,
    seen_in="a common way to train on stored top-k",
    killed_by=(
        "heart/language/test_sparse.py::test_each_policy_matches_its_definition[3-bucket]",
        "heart/language/test_sparse.py::test_a_perfect_student_has_no_loss_with_the_bucket_and_is_pulled_away_without_a_tail",
    ),
)
def always_renormalized(*tensors: Tensor, tail: str, **how: Any) -> Tensor:
    """The policy is asked for and ignored."""
    return right_sparse(*tensors, tail="renormalize", **how)


@exhibit(
    replaces=SPARSE,
    seen_in="a likely slip: KL over the kept words only, with no more said",
    killed_by=("heart/language/test_sparse.py::test_each_policy_matches_its_definition[3-bucket]",),
)
def tail_term_dropped(
    student_logits: Tensor, indices: Tensor, log_probs: Tensor, tail_log_mass: Tensor, *, tail: str, **how: Any
) -> Tensor:
    """A sum that is no KL: negative where the student has put more on the kept words than the teacher."""
    nothing = torch.full_like(tail_log_mass, -torch.inf)
    return right_sparse(student_logits, indices, log_probs, nothing, tail=tail, **how)


@exhibit(
    replaces=SAMPLED,
    seen_in="a likely slip: draws from another distribution than the teacher's, counted as the teacher's",
    killed_by=("heart/language/test_sampled.py::test_drawn_weights_are_unbiased[1.5]",),
)
def weights_forgotten(logits: Tensor, *, k: int, **how: Any) -> tuple[Tensor, Tensor]:
    """The student learns the proposal."""
    indices, log_weights = right_sampled(logits, k=k, **how)
    return indices, torch.full_like(log_weights, 1 / k).log()


@exhibit(
    replaces=SAMPLED,
    seen_in="a likely slip: weights made to sum to 1",
    killed_by=("heart/language/test_sampled.py::test_drawn_weights_are_unbiased[0.7]",),
)
def weights_normalized(logits: Tensor, *, k: int, **how: Any) -> tuple[Tensor, Tensor]:
    """Self-normalised importance sampling is biased for every finite k."""
    indices, log_weights = right_sampled(logits, k=k, **how)
    return indices, log_weights.log_softmax(dim=-1)


@exhibit(
    replaces=PACKED,
    seen_in="a likely slip: 16 bits for an index of a vocabulary of more than 65,536",
    killed_by=(
        "heart/language/test_sampled.py::test_an_entry_takes_six_bytes_and_comes_back_within_half_a_thousandth",
    ),
)
def small_indices(indices: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Word 70,000 becomes word 4,464."""
    return (indices % 2**16).to(torch.int32), log_values.to(torch.float16)


@exhibit(
    replaces=PACKED,
    seen_in="a likely slip: probabilities where logarithms are meant",
    killed_by=(
        "heart/language/test_sampled.py::test_an_entry_takes_six_bytes_and_comes_back_within_half_a_thousandth",
    ),
)
def probabilities_in_float16(indices: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Three digits where a probability is large, and fewer, or none, where it is small."""
    return indices.to(torch.int32), log_values.exp().to(torch.float16).log()


def to_lists(
    student_logits: Tensor, indices: Tensor, log_probs: Tensor, tail_log_mass: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a plain implementation starts with: the student's and the teacher's words, their tails."""
    log_q = F.log_softmax(student_logits, dim=-1)
    rest = log_q.scatter(-1, indices, -math.inf).logsumexp(dim=-1)
    return log_q.gather(-1, indices), log_probs.detach(), rest, tail_log_mass.detach()


@exhibit(
    replaces=SPARSE,
    seen_in="a public question: lists of different lengths in one tensor, padded with word 0",
    killed_by=(
        "heart/language/test_sparse_lists.py::test_a_padded_list_has_its_value_by_hand",
        "heart/language/test_sparse_lists.py::test_minus_infinity_ends_a_shorter_list_whatever_its_index[0-forward-None]",
    ),
)
def padding_is_word_0(*tensors: Tensor, tail: str, kind: str = "forward", **how: Any) -> Tensor:
    """The student's probability of word 0 is taken out of its tail, which the teacher's keeps."""
    if kind != "forward" or tail != "bucket" or how.get("mask") is not None:
        return right_sparse(*tensors, tail=tail, kind=kind, **how)
    log_q, log_p, rest, log_t = to_lists(*tensors)
    log_p = log_p.clamp(min=torch.finfo(log_p.dtype).min)
    return ((log_p.exp() * (log_p - log_q)).sum(-1) + log_t.exp() * (log_t - rest)).mean()


@exhibit(
    replaces=SPARSE,
    seen_in="arcee-ai/DistillKit: a sure teacher's tail is log 0 (PITFALLS 27)",
    killed_by=(
        "heart/language/test_sparse.py::test_with_every_word_kept_it_is_the_dense_loss_in_value_and_gradient[forward-None]",
        "heart/language/test_sparse_lists.py::test_a_tail_that_the_teacher_lacks_is_infinite_for_reverse_kl_alone",
    ),
)
def nothing_times_infinity(*tensors: Tensor, tail: str, kind: str = "forward", **how: Any) -> Tensor:
    """0 · -inf is NaN: F.kl_div(..., log_target=True) where a log-probability or the tail's log mass is -inf."""
    if kind != "forward" or tail != "bucket" or how.get("mask") is not None:
        return right_sparse(*tensors, tail=tail, kind=kind, **how)
    log_q, log_p, rest, log_t = to_lists(*tensors)
    values = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    return (values + log_t.exp() * (log_t - rest)).mean()


@exhibit(
    replaces=SPARSE,
    seen_in="a common way to take reverse KL from stored top-k: the kept words alone",
    killed_by=(
        "heart/language/test_sparse.py::test_every_divergence_with_the_tail_as_one_word_matches_its_definition[3-reverse-None]",
        "heart/language/test_sparse.py::test_known_values_of_a_tail_as_one_word",
    ),
)
def reverse_without_the_tail(*tensors: Tensor, kind: str = "forward", **how: Any) -> Tensor:
    """Negative where the student has less on the kept words than the teacher: moving to the tail lowers it."""
    if kind != "reverse" or how.get("mask") is not None:
        return right_sparse(*tensors, kind=kind, **how)
    log_q, log_p, _, _ = to_lists(*tensors)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


@exhibit(
    replaces=SPARSE,
    seen_in="a likely slip: the softmax of the student taken over the kept words only",
    killed_by=(
        "heart/language/test_sparse.py::test_every_divergence_with_the_tail_as_one_word_matches_its_definition[3-jensen_shannon-0.5]",
        "heart/language/test_sparse.py::test_known_values_of_a_tail_as_one_word",
    ),
)
def student_renormalized_too(
    student_logits: Tensor, indices: Tensor, log_probs: Tensor, tail_log_mass: Tensor, **how: Any
) -> Tensor:
    """What the student gives to all other words goes unseen, so nothing holds it back."""
    if how.get("kind", "forward") == "forward":
        return right_sparse(student_logits, indices, log_probs, tail_log_mass, **how)
    kept = torch.full_like(student_logits, -math.inf).scatter(-1, indices, student_logits.gather(-1, indices))
    return right_sparse(kept, indices, log_probs.log_softmax(-1), torch.full_like(tail_log_mass, -math.inf), **how)


@exhibit(
    replaces=SPARSE,
    seen_in="a likely slip: a teacher whose weights are trained along is not detached",
    killed_by=("heart/language/test_sparse_lists.py::test_no_gradient_reaches_what_is_kept_of_the_teacher",),
)
def gradient_to_what_is_kept(*tensors: Tensor, **how: Any) -> Tensor:
    """PITFALLS 21: sparse_teacher detaches, so only a list from elsewhere shows it."""
    return right_sparse(*tensors, **how) + 0 * tensors[2].exp().sum()


@exhibit(
    replaces=DRAWN_LOSS,
    seen_in="a likely slip: 0 · -inf at the padding of a list",
    killed_by=(
        "heart/language/test_sampled.py::test_a_weight_of_zero_is_no_word_whatever_its_index_and_whatever_the_student_says_of_it",
    ),
)
def weight_zero_of_a_word_that_the_student_lacks(
    student_logits: Tensor, indices: Tensor, log_weights: Tensor, *, mask: Tensor | None = None
) -> Tensor:
    """A NaN that one padded entry brings to the whole batch."""
    if mask is not None:
        return right_drawn_loss(student_logits, indices, log_weights, mask=mask)
    log_q = F.log_softmax(student_logits, dim=-1).gather(-1, indices.clamp(0, student_logits.shape[-1] - 1))
    return -(log_weights.detach().exp() * log_q).sum(-1).mean()


@exhibit(
    replaces=PACKED,
    seen_in="a likely slip: .to(torch.int32), which wraps in silence",
    killed_by=("heart/language/test_sampled.py::test_an_index_that_does_not_fit_is_not_packed",),
)
def wraps(indices: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Word 2³¹ becomes word -2³¹."""
    return indices.to(torch.int32), log_values.to(torch.float16)
