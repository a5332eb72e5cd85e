"""Losses on a network's outputs. Lesson: notebooks/02_response_based.ipynb."""

from kdref.response.decoupled import dkd_loss, nkd_loss, nontarget_class_divergence, target_class_divergence
from kdref.response.standardized import dist_loss, standardize_logits, standardized_kd_loss
from kdref.response.targets import (
    LearnableTemperature,
    hard_label_loss,
    label_smoothing_loss,
    logit_matching_loss,
    virtual_teacher_logits,
)

__all__ = [
    "LearnableTemperature",
    "dist_loss",
    "dkd_loss",
    "hard_label_loss",
    "label_smoothing_loss",
    "logit_matching_loss",
    "nkd_loss",
    "nontarget_class_divergence",
    "standardize_logits",
    "standardized_kd_loss",
    "target_class_divergence",
    "virtual_teacher_logits",
]
