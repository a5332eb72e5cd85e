"""Losses on whole sequences, counted out or drawn, and speculative decoding. Lesson: notebooks/12_reasoning.ipynb."""

from kdref.sequence.acceptance import expected_tokens_per_call, speculative_acceptance
from kdref.sequence.enumeration import enumerate_sequences, markov_logits, sequence_kl_divergence, sequence_log_prob
from kdref.sequence.losses import on_policy_loss, rejection_sample, sequence_level_loss
from kdref.sequence.speculative import speculative_decoding, speculative_sample

__all__ = [
    "enumerate_sequences",
    "expected_tokens_per_call",
    "markov_logits",
    "on_policy_loss",
    "rejection_sample",
    "sequence_kl_divergence",
    "sequence_level_loss",
    "sequence_log_prob",
    "speculative_acceptance",
    "speculative_decoding",
    "speculative_sample",
]
