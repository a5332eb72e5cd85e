"""kdref: knowledge distillation, one short tested function per method, and the course that teaches them.

``import kdref`` imports nothing heavy; import the topic you need: ``from kdref.soft_targets import distillation_loss``.
A method is also found by its name alone, ``kdref.distillation_loss``; its file is imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

__all__ = ["__version__"]

__version__ = "0.1.0"

_METHODS = {
    "attention": (
        "attention_map",
        "attention_relation_divergence",
        "attention_score_loss",
        "attention_transfer_loss",
        "value_relation",
    ),
    "contrastive": ("ContrastiveMemory", "crd_loss", "info_nce_loss"),
    "cross_modal": ("paired_feature_loss", "rank_agreement", "select_agreeing", "selected_soft_target_loss"),
    "decoupled": ("dkd_loss", "nkd_loss", "nontarget_class_divergence", "target_class_divergence"),
    "feature": ("HintRegressor", "VariationalRegressor", "hint_loss"),
    "feature_factors": ("Paraphraser", "Translator", "factor_transfer_loss"),
    "feature_flow": ("fsp_loss", "fsp_matrix", "neuron_selectivity_loss"),
    "feature_overhaul": ("activation_boundary_loss", "margin_relu", "negative_margin", "overhaul_loss"),
    "feature_reuse": ("ReusedClassifier",),
    "feature_review": ("ReviewFusion", "hierarchical_context_loss"),
    "language": ("fused_linear_loss", "token_divergence", "token_loss"),
    "language_recipes": (
        "alternate_layers",
        "cosine_hidden_loss",
        "distilbert_loss",
        "sparse_teacher",
        "universal_logit_loss",
    ),
    "language_sparse": (
        "pack_sparse",
        "sampled_teacher",
        "sampled_teacher_loss",
        "sparse_teacher_loss",
        "unpack_sparse",
    ),
    "multi_teacher": ("average_logits", "average_probabilities", "disagreement", "multi_teacher_loss"),
    "multi_teacher_triplets": ("triplet_dissimilarity_loss",),
    "multi_teacher_weights": ("confidence_weights", "entropy_weights"),
    "online": ("class_consistency_loss", "deep_supervision_loss", "gated_ensemble_logits", "mutual_learning_loss"),
    "relation": ("correlation_congruence_loss", "probabilistic_transfer_loss", "similarity_preserving_loss"),
    "relation_rkd": ("rkd_angle_loss", "rkd_distance_loss"),
    "response": (
        "LearnableTemperature",
        "hard_label_loss",
        "label_smoothing_loss",
        "logit_matching_loss",
        "virtual_teacher_logits",
    ),
    "self_distillation": (
        "confidence_weighted_loss",
        "permuted_dark_knowledge",
        "progressive_targets",
        "progressive_weight",
        "ridge_self_distillation",
    ),
    "self_supervised": ("DinoCenter", "EmaTeacher", "dino_loss", "output_information"),
    "sequence": ("on_policy_loss", "rejection_sample", "sequence_level_loss", "speculative_acceptance"),
    "sequence_enumeration": (
        "enumerate_sequences",
        "markov_logits",
        "sequence_kl_divergence",
        "sequence_log_prob",
    ),
    "soft_targets": ("distillation_loss", "kl_divergence", "soft_target_loss", "softened_probabilities"),
    "speculative": ("expected_tokens_per_call", "speculative_decoding", "speculative_sample"),
    "standardized": ("dist_loss", "standardize_logits", "standardized_kd_loss"),
}


def __getattr__(name: str) -> Any:
    for file, names in _METHODS.items():
        if name in names:
            return getattr(import_module(f"kdref.{file}"), name)
    raise AttributeError(f"module 'kdref' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _METHODS.values() for name in names)])
