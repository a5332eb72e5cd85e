"""Wrong versions of checks and of length normalisation in losses on drawn sequences."""

import torch
from torch import Tensor

from kdref import sequence
from tests.museum import exhibit

LEVEL, POLICY = (f"kdref.sequence.losses:{name}" for name in ("sequence_level_loss", "on_policy_loss"))
right_level, right_policy = sequence.sequence_level_loss, sequence.on_policy_loss  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/sequence/test_lengths.py::test_{test}" for test in tests)


def normalized(advantage: Tensor, tensors: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
    """A loss with this advantage, of unmasked tokens."""
    log_q = tensors[0].log_softmax(-1).gather(-1, tensors[2][..., None]).squeeze(-1)
    counts = torch.ones_like(advantage) if mask is None else mask.to(advantage.dtype)
    return (counts * advantage.detach() * (log_q - log_q.detach())).sum() / counts.sum()


def ratios(tensors: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
    """log q - log p of the drawn tokens, 0 where masked."""
    both = (z.detach().log_softmax(-1).gather(-1, tensors[2][..., None]).squeeze(-1) for z in tensors[:2])
    student, teacher = both
    return (student - teacher) if mask is None else (student - teacher) * mask


def to_the_end(values: Tensor) -> Tensor:
    return values.flip(-1).cumsum(-1).flip(-1)


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: every token divided by the whole length",
    killed_by=killed_by("a_normalized_advantage_is_the_mean_of_the_ratios_from_its_token_on"),
)
def divided_by_the_whole_length(*tensors: Tensor, length_normalization: bool = False, **how) -> Tensor:
    """Early tokens still weigh most: only sequences of different lengths are put on one scale."""
    if not length_normalization:
        return right_policy(*tensors, **how)
    mask = how.get("mask")
    length = tensors[2].shape[-1] if mask is None else mask.sum(-1, keepdim=True).clamp(min=1)
    return normalized(to_the_end(ratios(tensors, mask)) / length, tensors, mask)


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: padding counted in the remaining length",
    killed_by=killed_by("a_normalized_advantage_is_the_mean_of_the_ratios_from_its_token_on"),
)
def padding_in_the_length(*tensors: Tensor, length_normalization: bool = False, **how) -> Tensor:
    """The longer the other sequences of the batch, the weaker a short one's gradient."""
    if not length_normalization:
        return right_policy(*tensors, **how)
    mask, ratio = how.get("mask"), ratios(tensors, how.get("mask"))
    return normalized(to_the_end(ratio) / to_the_end(torch.ones_like(ratio)), tensors, mask)


@exhibit(
    replaces=POLICY,
    seen_in="equation 6 of the paper read as it stands",
    killed_by=killed_by("a_normalized_advantage_is_the_mean_of_the_ratios_from_its_token_on"),
)
def one_less_than_there_are(*tensors: Tensor, length_normalization: bool = False, **how) -> Tensor:
    """T - t ratios divided by T - t - 1: infinite at the last token but one."""
    if not length_normalization:
        return right_policy(*tensors, **how)
    mask, ratio = how.get("mask"), ratios(tensors, how.get("mask"))
    counts = to_the_end(torch.ones_like(ratio) if mask is None else mask.to(ratio.dtype))
    return normalized((to_the_end(ratio) - ratio) / (counts - 2).clamp(min=1), tensors, mask)


@exhibit(
    replaces=LEVEL,
    seen_in="our own code: a count that is used unseen",
    killed_by=("heart/sequence/test_input.py::test_counts_are_positive_numbers[sequence_level_loss]",),
)
def negative_count_taken(
    student_logits: Tensor, teacher_tokens: Tensor, *, mask: Tensor | None = None, num_tokens: float | None = None
) -> Tensor:
    """num_tokens=-1 turns the sign, and training unlearns the text."""
    whole = right_level(student_logits, teacher_tokens, mask=mask, num_tokens=1)
    return right_level(student_logits, teacher_tokens, mask=mask) if num_tokens is None else whole / num_tokens
