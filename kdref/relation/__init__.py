"""Losses on the relations between the examples of a batch. Lesson: notebooks/05_relation_based.ipynb."""

from kdref.relation.contrastive import info_nce_loss
from kdref.relation.contrastive_memory import ContrastiveMemory, crd_loss
from kdref.relation.rkd import rkd_angle_loss, rkd_distance_loss
from kdref.relation.similarity import (
    correlation_congruence_loss,
    probabilistic_transfer_loss,
    similarity_preserving_loss,
)

__all__ = [
    "ContrastiveMemory",
    "correlation_congruence_loss",
    "crd_loss",
    "info_nce_loss",
    "probabilistic_transfer_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_preserving_loss",
]
