"""Losses on the next word.

Lessons: notebooks/11_language_models.ipynb (an encoder) and notebooks/19_writing_models.ipynb (models that write)."""

from kdref.language.fused import fused_linear_loss
from kdref.language.recipes import alternate_layers, cosine_hidden_loss, distilbert_loss
from kdref.language.sampled import pack_sparse, sampled_teacher, sampled_teacher_loss, unpack_sparse
from kdref.language.sparse import sparse_teacher, sparse_teacher_loss
from kdref.language.tokens import token_divergence, token_loss
from kdref.language.universal import universal_logit_loss

__all__ = [
    "alternate_layers",
    "cosine_hidden_loss",
    "distilbert_loss",
    "fused_linear_loss",
    "pack_sparse",
    "sampled_teacher",
    "sampled_teacher_loss",
    "sparse_teacher",
    "sparse_teacher_loss",
    "token_divergence",
    "token_loss",
    "universal_logit_loss",
    "unpack_sparse",
]
