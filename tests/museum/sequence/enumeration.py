"""Wrong versions of what a language model says of whole sequences."""

import torch
from torch import Tensor

from kdref.sequence import enumeration
from tests.museum import exhibit

KL, LOG_PROB, MARKOV, ENUMERATE = (
    f"kdref.sequence.enumeration:{name}"
    for name in ("sequence_kl_divergence", "sequence_log_prob", "markov_logits", "enumerate_sequences")
)
right_kl, right_log_prob, right_markov = (
    enumeration.sequence_kl_divergence,
    enumeration.sequence_log_prob,
    enumeration.markov_logits,
)  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/sequence/test_enumeration.py::test_{test}" for test in tests)


@exhibit(
    replaces=KL,
    seen_in="a likely slip: tokens compared on every sequence alike",
    killed_by=killed_by("sequence_divergence_matches_the_definition", "the_chain_rule_holds_exactly"),
)
def prefixes_not_weighted(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """The chain rule's expectation is over what the teacher writes, not over any text."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).sum(dim=-1).mean(dim=-1)


@exhibit(
    replaces=KL,
    seen_in="a likely slip: the student's probabilities as weights",
    killed_by=killed_by("sequence_divergence_matches_the_definition", "the_chain_rule_holds_exactly", "known_values"),
)
def sides_swapped(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """PITFALLS 8: the reverse divergence."""
    log_q = right_log_prob(student_logits, tokens, **options)
    return (log_q.exp() * (log_q - right_log_prob(teacher_logits.detach(), tokens, **options))).sum(dim=-1)


@exhibit(
    replaces=KL,
    seen_in="a likely slip: cross-entropy called divergence",
    killed_by=killed_by("divergence_is_zero_where_they_agree_and_grows_with_every_token", "known_values"),
)
def cross_entropy(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """PITFALLS 4: the teacher's entropy is in it."""
    log_p = right_log_prob(teacher_logits.detach(), tokens, **options)
    return -(log_p.exp() * right_log_prob(student_logits, tokens, **options)).sum(dim=-1)


@exhibit(
    replaces=KL,
    seen_in="a likely slip: 0 · log 0",
    killed_by=killed_by("what_the_teacher_never_writes_costs_nothing_and_what_only_it_writes_everything"),
)
def nothing_times_infinity(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """NaN as soon as the teacher excludes a token."""
    log_p = right_log_prob(teacher_logits.detach(), tokens, **options)
    return (log_p.exp() * (log_p - right_log_prob(student_logits, tokens, **options))).sum(dim=-1)


@exhibit(
    replaces=KL,
    seen_in="a likely slip: per token, as losses are",
    killed_by=killed_by("sequence_divergence_matches_the_definition", "the_chain_rule_holds_exactly"),
)
def divided_by_the_length(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """PITFALLS 1: not the divergence of sequences any more."""
    return right_kl(student_logits, teacher_logits, tokens, **options) / tokens.shape[-1]


@exhibit(
    replaces=LOG_PROB,
    seen_in="a likely slip: the mean over tokens, as losses have it",
    killed_by=killed_by("probabilities_match_the_definition_and_sum_to_one", "known_values"),
)
def mean_over_tokens(logits: Tensor, tokens: Tensor, **options) -> Tensor:
    """Probabilities of all sequences no longer sum to one."""
    return right_log_prob(logits, tokens, **options) / tokens.shape[-1]


@exhibit(
    replaces=KL,
    seen_in="our own code: only -inf was left out, not a probability that rounds to 0",
    killed_by=(
        "heart/sequence/test_input.py::test_a_sequence_of_probability_0_counts_nothing_whatever_the_student_says_of_it",
    ),
)
def rounded_to_nothing_times_infinity(
    student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, **options
) -> Tensor:
    """exp(-200) is 0 in float32, and 0 · ∞ is NaN where the student excludes the sequence."""
    log_q = right_log_prob(student_logits, tokens, **options)
    log_p = right_log_prob(teacher_logits.detach(), tokens, **options)
    return (log_p.exp() * (log_p - log_q)).masked_fill(log_p == -torch.inf, 0.0).sum(dim=-1)


@exhibit(
    replaces=MARKOV,
    seen_in="a likely slip, the shift by one forgotten",
    killed_by=killed_by("probabilities_match_the_definition_and_sum_to_one", "known_values"),
)
def reads_the_token_it_predicts(initial_logits: Tensor, transition_logits: Tensor, tokens: Tensor) -> Tensor:
    """The answer is in the question."""
    right = right_markov(initial_logits, transition_logits, tokens)
    return torch.cat([right[..., :1, :], transition_logits[tokens[..., 1:]]], dim=-2)


@exhibit(
    replaces=MARKOV,
    seen_in="a likely slip: rows and columns",
    killed_by=killed_by("probabilities_match_the_definition_and_sum_to_one"),
)
def columns_for_rows(initial_logits: Tensor, transition_logits: Tensor, tokens: Tensor) -> Tensor:
    """Scores of the token before, given the one after."""
    return right_markov(initial_logits, transition_logits.mT, tokens)


@exhibit(
    replaces=ENUMERATE,
    seen_in="a likely slip: sets instead of sequences",
    killed_by=killed_by("every_sequence_is_there_once_in_order"),
)
def without_repetition(*, vocabulary: int, length: int) -> Tensor:
    """Sums over it are no expectations."""
    return torch.combinations(torch.arange(vocabulary), r=length, with_replacement=True)
