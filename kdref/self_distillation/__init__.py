"""A network that teaches itself, its next generation, or its peers. Lesson: notebooks/08_self_distillation.ipynb."""

from kdref.self_distillation.branches import deep_supervision_loss, gated_ensemble_logits
from kdref.self_distillation.ema import EmaTeacher
from kdref.self_distillation.generations import (
    confidence_weighted_loss,
    permuted_dark_knowledge,
    progressive_targets,
    progressive_weight,
)
from kdref.self_distillation.online import class_consistency_loss, mutual_learning_loss
from kdref.self_distillation.ridge import ridge_self_distillation
from kdref.self_distillation.self_supervised import DinoCenter, dino_loss, output_information

__all__ = [
    "DinoCenter",
    "EmaTeacher",
    "class_consistency_loss",
    "confidence_weighted_loss",
    "deep_supervision_loss",
    "dino_loss",
    "gated_ensemble_logits",
    "mutual_learning_loss",
    "output_information",
    "permuted_dark_knowledge",
    "progressive_targets",
    "progressive_weight",
    "ridge_self_distillation",
]
