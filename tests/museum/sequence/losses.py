"""Wrong versions of learning from drawn sequences."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import sequence
from tests.museum import exhibit

LEVEL, POLICY, REJECTION = (
    f"kdref.sequence.losses:{name}" for name in ("sequence_level_loss", "on_policy_loss", "rejection_sample")
)
right_level, right_policy, right_rejection = (
    sequence.sequence_level_loss,
    sequence.on_policy_loss,
    sequence.rejection_sample,
)  # as they were before any swap
REVERSE = (
    "heart/sequence/test_enumeration.py::test_drawing_from_the_student_gives_the_gradient_of_the_reverse_divergence"
)


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/sequence/test_losses.py::test_{test}" for test in tests)


def drawn(logits: Tensor, tokens: Tensor, mask: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Log-probability of each drawn token; 0 where masked."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    values = F.log_softmax(logits, dim=-1).gather(-1, tokens.clamp(min=0)[..., None]).squeeze(-1)
    return values if mask is None else values.masked_fill(~mask, 0.0)


def mean(values: Tensor, mask: Tensor | None, num_tokens: float | Tensor | None) -> Tensor:
    count = values.numel() if mask is None else mask.sum().clamp(min=1)
    return values.sum() / (count if num_tokens is None else num_tokens)


def log_ratio(student: Tensor, teacher: Tensor, tokens: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """Of the drawn tokens: log q with its gradient, and log q - log p as a constant."""
    log_q, log_p = (
        drawn(z, tokens, options.get("mask"), options.get("temperature", 1.0)) for z in (student, teacher.detach())
    )
    return log_q, (log_q - log_p).detach()


@exhibit(
    replaces=POLICY,
    seen_in="meta-pytorch/torchforge #527 before review; as a KL term, OpenRLHF #1309",
    killed_by=(REVERSE, *killed_by("on_policy_gradient_matches_the_definition")),
)
def log_ratio_differentiated(
    student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options
) -> Tensor:
    """PITFALLS 13: the sampled log-ratio under autograd; its expected gradient is zero."""
    log_q, ratio = log_ratio(student_logits, teacher_logits, student_tokens, options)
    return mean(ratio + log_q - log_q.detach(), options.get("mask"), options.get("num_tokens"))


@exhibit(
    replaces=POLICY,
    seen_in="the k3 estimate differentiated: verl #2953, OpenRLHF #1309",
    killed_by=(REVERSE, *killed_by("on_policy_gradient_matches_the_definition")),
)
def k3_differentiated(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """A good estimate of the value; its gradient is the forward divergence's, not the reverse one's."""
    log_q, ratio = log_ratio(student_logits, teacher_logits, student_tokens, options)
    live = ratio + log_q - log_q.detach()
    return mean(torch.expm1(-live) + live, options.get("mask"), options.get("num_tokens"))


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: an advantage as in reinforcement learning, and a loss that is minimised",
    killed_by=(REVERSE, *killed_by("known_values", "on_policy_gradient_matches_the_definition")),
)
def sign_of_a_reward(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """PITFALLS 10: trained away from the teacher."""
    right = right_policy(student_logits, teacher_logits, student_tokens, **options)
    return 2 * right.detach() - right


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: the advantage keeps its graph",
    killed_by=(REVERSE, *killed_by("on_policy_gradient_matches_the_definition")),
)
def advantage_not_stopped(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """The derivative of the product: log q times the derivative of the advantage comes in."""
    log_q, ratio = log_ratio(student_logits, teacher_logits, student_tokens, options)
    live = ratio + log_q - log_q.detach()
    surrogate = live.flip(-1).cumsum(-1).flip(-1) * log_q
    return mean(ratio + surrogate - surrogate.detach(), options.get("mask"), options.get("num_tokens"))


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: a running sum from the front",
    killed_by=(REVERSE, *killed_by("on_policy_gradient_matches_the_definition", "known_values")),
)
def answers_for_the_past(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """A token is blamed for what came before it, not for where it leads."""
    log_q, ratio = log_ratio(student_logits, teacher_logits, student_tokens, options)
    surrogate = ratio.cumsum(-1) * (log_q - log_q.detach())
    return mean(ratio + surrogate, options.get("mask"), options.get("num_tokens"))


@exhibit(
    replaces=POLICY,
    seen_in="a likely slip: the teacher's side of the ratio has a gradient",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def teacher_not_detached(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """PITFALLS 21: the teacher is drawn towards what the student says."""
    right = right_policy(student_logits, teacher_logits, student_tokens, **options)
    pull = drawn(teacher_logits, student_tokens, options.get("mask")).mean()
    return right + pull - pull.detach()


@exhibit(
    replaces=POLICY,
    seen_in="PITFALLS 3: τ on one side",
    killed_by=killed_by("on_policy_value_is_the_mean_log_ratio", "on_policy_gradient_matches_the_definition"),
)
def student_untempered(
    student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, *, temperature: float = 1.0, **options
) -> Tensor:
    """The tokens were drawn at τ, and their probability is taken at 1."""
    return right_policy(
        student_logits * temperature, teacher_logits, student_tokens, temperature=temperature, **options
    )


@exhibit(
    replaces=POLICY,
    seen_in="PITFALLS 8: student and teacher swapped",
    killed_by=(REVERSE, *killed_by("on_policy_value_is_the_mean_log_ratio", "known_values")),
)
def sides_swapped(student_logits: Tensor, teacher_logits: Tensor, student_tokens: Tensor, **options) -> Tensor:
    """Log p - log q: the more the student differs, the smaller."""
    log_q, ratio = log_ratio(student_logits, teacher_logits, student_tokens, options)
    advantage = -ratio.flip(-1).cumsum(-1).flip(-1)
    return mean(-ratio + advantage * (log_q - log_q.detach()), options.get("mask"), options.get("num_tokens"))


@exhibit(
    replaces=LEVEL,
    seen_in="huggingface/trl #6357 and NVIDIA-NeMo/Megatron-Bridge #4660: padding found by its token id",
    killed_by=killed_by("the_end_of_a_sequence_counts_also_where_padding_has_its_id"),
)
def mask_from_token_ids(student_logits: Tensor, teacher_tokens: Tensor, **options) -> Tensor:
    """PITFALLS 25: where padding has the id of the end token, the student never learns to stop."""
    ended = teacher_tokens == teacher_tokens[..., -1:]
    mask = options.pop("mask", None)
    return right_level(student_logits, teacher_tokens, mask=~ended if mask is None else mask & ~ended, **options)


@exhibit(
    replaces=LEVEL,
    seen_in="a likely slip: masked by multiplication",
    killed_by=killed_by("padding_counts_for_nothing_whatever_it_holds_and_however_long_it_is"),
)
def mask_multiplied(
    student_logits: Tensor, teacher_tokens: Tensor, *, mask: Tensor | None = None, num_tokens: float | None = None
) -> Tensor:
    """A NaN in the padding stays one."""
    values = -drawn(student_logits, teacher_tokens, None)
    return mean(values if mask is None else values * mask, mask, num_tokens)


@exhibit(
    replaces=LEVEL,
    seen_in="a likely slip: .mean() after masking",
    killed_by=killed_by(
        "sequence_level_loss_matches_the_definition",
        "padding_counts_for_nothing_whatever_it_holds_and_however_long_it_is",
    ),
)
def divided_by_padding_too(student_logits: Tensor, teacher_tokens: Tensor, **options) -> Tensor:
    """The longer the padding, the smaller the loss."""
    options.setdefault("num_tokens", None)
    options["num_tokens"] = options["num_tokens"] or teacher_tokens.numel()
    return right_level(student_logits, teacher_tokens, **options)


@exhibit(
    replaces=LEVEL,
    seen_in="easydistill 1.0 and trl #4719: a mean of means",
    killed_by=killed_by("sequence_level_loss_matches_the_definition", "micro_batches_add_up"),
)
def mean_of_sequence_means(
    student_logits: Tensor, teacher_tokens: Tensor, *, mask: Tensor | None = None, num_tokens: float | None = None
) -> Tensor:
    """PITFALLS 7: tokens of short sequences weigh more, and a batch's parts don't add up."""
    if mask is None:
        mask = torch.ones_like(teacher_tokens).bool()
    values = drawn(student_logits.masked_fill(~mask[..., None], 0.0), teacher_tokens, mask)
    return -(values.sum(-1) / mask.sum(-1).clamp(min=1)).mean()


@exhibit(
    replaces=LEVEL,
    seen_in="huggingface/trl #6006: the number of tokens twice",
    killed_by=killed_by("sequence_level_loss_matches_the_definition", "micro_batches_add_up"),
)
def divided_twice(
    student_logits: Tensor, teacher_tokens: Tensor, *, mask: Tensor | None = None, num_tokens: float | None = None
) -> Tensor:
    """PITFALLS 7: a mean over tokens, divided by the tokens."""
    return right_level(student_logits, teacher_tokens, mask=mask) / (num_tokens or teacher_tokens.numel())


@exhibit(
    replaces=LEVEL,
    seen_in="torchtune's losses: a batch without a token returns a constant",
    killed_by=killed_by("nothing_to_learn_from_gives_zero_with_a_gradient_path"),
)
def constant_for_nothing(student_logits: Tensor, teacher_tokens: Tensor, **options) -> Tensor:
    """PITFALLS 24: backward() fails."""
    mask = options.get("mask")
    if mask is not None and not mask.any():
        return torch.zeros(())
    return right_level(student_logits, teacher_tokens, **options)


@exhibit(
    replaces=LEVEL,
    seen_in="a likely slip: divided by the number of unmasked tokens, which may be zero",
    killed_by=killed_by("nothing_to_learn_from_gives_zero_with_a_gradient_path"),
)
def nothing_over_nothing(
    student_logits: Tensor, teacher_tokens: Tensor, *, mask: Tensor | None = None, num_tokens: float | None = None
) -> Tensor:
    """NaN in an all-masked micro-batch ends the training."""
    if mask is None or num_tokens is not None:
        return right_level(student_logits, teacher_tokens, mask=mask, num_tokens=num_tokens)
    return right_level(student_logits, teacher_tokens, mask=mask, num_tokens=1) / mask.sum()


@exhibit(
    replaces=REJECTION,
    seen_in="a likely slip: the first samples, then the filter",
    killed_by=killed_by("rejection_keeps_the_first_that_were_accepted"),
)
def cut_before_the_check(accepted: Tensor, *, keep: int = 1) -> Tensor:
    """Accepted samples further back are thrown away."""
    return accepted & (torch.arange(accepted.shape[-1]) < keep)


@exhibit(
    replaces=REJECTION,
    seen_in="a likely slip: every problem keeps something",
    killed_by=killed_by(
        "rejection_keeps_the_first_that_were_accepted", "what_rejection_keeps_follows_the_law_given_acceptance"
    ),
)
def keeps_a_wrong_one_if_all_are(accepted: Tensor, *, keep: int = 1) -> Tensor:
    """What was to be filtered out comes back in, on the hardest problems."""
    first = torch.arange(accepted.shape[-1]) == 0
    return right_rejection(accepted, keep=keep) | (first & ~accepted.any(dim=-1, keepdim=True))
