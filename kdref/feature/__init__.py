"""Losses on the layers inside a network. Lesson: notebooks/03_feature_based.ipynb."""

from kdref.feature.channels import channel_wise_loss
from kdref.feature.factors import Paraphraser, Translator, factor_transfer_loss
from kdref.feature.flow import fsp_loss, fsp_matrix, neuron_selectivity_loss
from kdref.feature.generation import MaskedGeneration
from kdref.feature.hints import HintRegressor, VariationalRegressor, hint_loss
from kdref.feature.overhaul import activation_boundary_loss, margin_relu, negative_margin, overhaul_loss
from kdref.feature.reuse import ReusedClassifier
from kdref.feature.review import ReviewFusion, hierarchical_context_loss

__all__ = [
    "HintRegressor",
    "MaskedGeneration",
    "Paraphraser",
    "ReusedClassifier",
    "ReviewFusion",
    "Translator",
    "VariationalRegressor",
    "activation_boundary_loss",
    "channel_wise_loss",
    "factor_transfer_loss",
    "fsp_loss",
    "fsp_matrix",
    "hierarchical_context_loss",
    "hint_loss",
    "margin_relu",
    "negative_margin",
    "neuron_selectivity_loss",
    "overhaul_loss",
]
