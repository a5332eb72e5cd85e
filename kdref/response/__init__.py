"""Losses on a network's outputs. Lesson: notebooks/02_response_based.ipynb."""

from kdref.response.decoupled import dkd_loss, nontarget_class_divergence, target_class_divergence
from kdref.response.multi_label import multi_label_loss
from kdref.response.normalized import nkd_loss
from kdref.response.standardized import dist_loss, standardize_logits, standardized_kd_loss
from kdref.response.targets import hard_label_loss, label_smoothing_loss, logit_matching_loss, virtual_teacher_logits
from kdref.response.temperature import LearnableTemperature

__all__ = [
    "LearnableTemperature",
    "dist_loss",
    "dkd_loss",
    "hard_label_loss",
    "label_smoothing_loss",
    "logit_matching_loss",
    "multi_label_loss",
    "nkd_loss",
    "nontarget_class_divergence",
    "standardize_logits",
    "standardized_kd_loss",
    "target_class_divergence",
    "virtual_teacher_logits",
]
