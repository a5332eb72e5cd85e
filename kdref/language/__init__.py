"""Losses on the next word.

Lessons: notebooks/11_language_models.ipynb (an encoder) and notebooks/19_writing_models.ipynb (models that write)."""

from kdref.language.alignment import align_spans, likelihood_matching_loss, span_log_probs
from kdref.language.fused import fused_linear_loss
from kdref.language.recipes import alternate_layers, cosine_hidden_loss, distilbert_loss
from kdref.language.sampled import pack_sparse, sampled_teacher, sampled_teacher_loss, unpack_sparse
from kdref.language.sparse import sparse_teacher, sparse_teacher_loss
from kdref.language.tokens import token_divergence, token_loss
from kdref.language.universal import universal_logit_loss

__all__ = [
    "align_spans",
    "alternate_layers",
    "cosine_hidden_loss",
    "distilbert_loss",
    "fused_linear_loss",
    "likelihood_matching_loss",
    "pack_sparse",
    "sampled_teacher",
    "sampled_teacher_loss",
    "span_log_probs",
    "sparse_teacher",
    "sparse_teacher_loss",
    "token_divergence",
    "token_loss",
    "universal_logit_loss",
    "unpack_sparse",
]
