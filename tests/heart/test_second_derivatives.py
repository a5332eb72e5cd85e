"""Every loss can be differentiated twice, away from its kinks, as gradient penalties and meta-learning need it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import kdref
from kdref import (
    adversarial,
    attention,
    cross_modal,
    feature,
    language,
    multi_teacher,
    relation,
    response,
    scaling,
    self_distillation,
    soft_targets,
)
from kdref import provenance as of_origin
from kdref import sequence as of_sequences
from kdref import transfer_data as of_data
from tests import checks

ROWS, TEACHER, LABELS = checks.randn(4, 5, seed=1), checks.randn(4, 5, seed=2), checks.labels_for(4, 5)
OTHERS, PARTS = checks.randn(2, 4, 5, seed=3), torch.tensor([True, False, True, True])
MAPS, TEACHER_MAPS = checks.randn(2, 3, 4, 4, seed=4), checks.randn(2, 3, 4, 4, seed=5)
WIDE, MARGIN = checks.randn(2, 5, 2, 2, seed=6), torch.tensor([-0.2, -0.5, -1.0], dtype=torch.float64)
ATTENTION = checks.randn(2, 2, 3, 3, seed=7).softmax(-1)
KEPT = language.sparse_teacher(TEACHER, k=2)
DRAWN = language.sampled_teacher(TEACHER, k=3, generator=torch.Generator().manual_seed(8))
SEQUENCES = of_sequences.enumerate_sequences(vocabulary=2, length=2)
NORM = torch.nn.BatchNorm2d(3)
LAW = scaling.SupervisedLaw(A=4.0, B=9.0, E=1.0, alpha=0.5, beta=0.6, gamma=0.7)
MARKOV = of_sequences.markov_logits(checks.randn(2, seed=9), checks.randn(2, 2, seed=10), SEQUENCES)


def remembered(student: Tensor, teacher: Tensor) -> Tensor:
    torch.manual_seed(11)
    memory = relation.ContrastiveMemory(5, 5, num_examples=9, width=5).double()
    return relation.crd_loss(student, teacher, torch.arange(4), torch.arange(3, 9), memory, temperature=0.5)


# the loss as a function of what gets its gradient, and that
CASES: dict[str, tuple[Callable[..., Tensor], Tensor | tuple[Tensor, ...]]] = {
    "kl_divergence": (lambda s: soft_targets.kl_divergence(s, TEACHER), ROWS),
    "soft_target_loss": (lambda s: soft_targets.soft_target_loss(s, TEACHER), ROWS),
    "distillation_loss": (lambda s: soft_targets.distillation_loss(s, TEACHER, LABELS), ROWS),
    "logit_matching_loss": (lambda s: response.logit_matching_loss(s, TEACHER), ROWS),
    "hard_label_loss": (lambda s: response.hard_label_loss(s, TEACHER), ROWS),
    "label_smoothing_loss": (lambda s: response.label_smoothing_loss(s, LABELS), ROWS),
    "target_class_divergence": (lambda s: response.target_class_divergence(s, TEACHER, LABELS), ROWS),
    "nontarget_class_divergence": (lambda s: response.nontarget_class_divergence(s, TEACHER, LABELS), ROWS),
    "dkd_loss": (lambda s: response.dkd_loss(s, TEACHER, LABELS), ROWS),
    "nkd_loss": (lambda s: response.nkd_loss(s, TEACHER, LABELS), ROWS),
    "standardized_kd_loss": (lambda s: response.standardized_kd_loss(s, TEACHER), ROWS),
    "dist_loss": (lambda s: response.dist_loss(s, TEACHER), ROWS),
    "multi_label_loss": (lambda s: response.multi_label_loss(s, TEACHER), ROWS),
    "hint_loss": (lambda s: feature.hint_loss(s, TEACHER_MAPS), MAPS),
    "fsp_loss": (lambda *pair: feature.fsp_loss(pair, (TEACHER_MAPS, WIDE)), (MAPS, WIDE + 1)),  # MAPS are pooled
    "neuron_selectivity_loss": (lambda s: feature.neuron_selectivity_loss(s, WIDE), MAPS),
    "neuron_selectivity_loss of many channels": (lambda s: feature.neuron_selectivity_loss(s, MAPS), WIDE),
    "overhaul_loss": (lambda s: feature.overhaul_loss(s, TEACHER_MAPS, MARGIN), MAPS),
    "activation_boundary_loss": (lambda s: feature.activation_boundary_loss(s, TEACHER_MAPS), MAPS),
    "factor_transfer_loss": (lambda s: feature.factor_transfer_loss(s, TEACHER_MAPS), MAPS),
    "hierarchical_context_loss": (lambda s: feature.hierarchical_context_loss(s, TEACHER_MAPS), MAPS),
    "channel_wise_loss": (lambda s: feature.channel_wise_loss(s, TEACHER_MAPS), MAPS),
    "attention_transfer_loss": (lambda s: attention.attention_transfer_loss(s, WIDE), MAPS),
    "attention_transfer_loss not squared": (lambda s: attention.attention_transfer_loss(s, WIDE, squared=False), MAPS),
    "attention_relation_divergence": (
        lambda v: attention.attention_relation_divergence(attention.value_relation(v), ATTENTION),
        ATTENTION,
    ),
    "attention_score_loss": (lambda s: attention.attention_score_loss(s, ATTENTION), ATTENTION + 1),
    "rkd_distance_loss": (lambda s: relation.rkd_distance_loss(s, TEACHER), ROWS),
    "rkd_angle_loss": (lambda s: relation.rkd_angle_loss(s, TEACHER), ROWS),
    "similarity_preserving_loss": (lambda s: relation.similarity_preserving_loss(s, TEACHER), ROWS),
    "correlation_congruence_loss": (lambda s: relation.correlation_congruence_loss(s, TEACHER), ROWS),
    "probabilistic_transfer_loss": (lambda s: relation.probabilistic_transfer_loss(s, TEACHER), ROWS),
    "info_nce_loss": (lambda s: relation.info_nce_loss(s, TEACHER, temperature=0.5), ROWS),
    "crd_loss": (remembered, (ROWS, TEACHER)),
    "multi_teacher_loss": (lambda s: multi_teacher.multi_teacher_loss(s, OTHERS), ROWS),
    "triplet_dissimilarity_loss": (lambda s: multi_teacher.triplet_dissimilarity_loss(s, OTHERS, margin=1.0), ROWS),
    "paired_feature_loss": (lambda s: cross_modal.paired_feature_loss(s, TEACHER), ROWS),
    "selected_soft_target_loss": (lambda s: cross_modal.selected_soft_target_loss(s, TEACHER, PARTS), ROWS),
    "confidence_weighted_loss": (lambda s: self_distillation.confidence_weighted_loss(s, TEACHER, LABELS), ROWS),
    "mutual_learning_loss": (lambda s: self_distillation.mutual_learning_loss(s, OTHERS), ROWS),
    "deep_supervision_loss": (lambda s: self_distillation.deep_supervision_loss(s, TEACHER, LABELS), OTHERS),
    "class_consistency_loss": (lambda s: self_distillation.class_consistency_loss(s, TEACHER), ROWS),
    "dino_loss": (lambda s: self_distillation.dino_loss(s, TEACHER, self_distillation.DinoCenter(5)), ROWS),
    "cosine_hidden_loss": (lambda s: language.cosine_hidden_loss(s, TEACHER, mask=PARTS), ROWS),
    "distilbert_loss": (lambda s, h: language.distilbert_loss(s, TEACHER, h, OTHERS[0], LABELS), (ROWS, OTHERS[1])),
    "universal_logit_loss": (lambda s: language.universal_logit_loss(s, TEACHER[:, :3]), ROWS),
    "likelihood_matching_loss": (lambda s: language.likelihood_matching_loss(-s.exp(), -TEACHER.exp()), ROWS),
    "sparse_teacher_loss": (lambda s: language.sparse_teacher_loss(s, *KEPT, tail="bucket", mask=PARTS), ROWS),
    "sampled_teacher_loss": (lambda s: language.sampled_teacher_loss(s, *DRAWN), ROWS),
    "token_divergence": (lambda s: language.token_divergence(s, TEACHER, kind="jensen_shannon", mix=0.3), ROWS),
    "token_loss": (lambda s: language.token_loss(s, TEACHER, kind="forward"), ROWS),
    "token_loss reverse": (lambda s: language.token_loss(s, TEACHER, kind="reverse"), ROWS),
    "sequence_level_loss": (lambda s: of_sequences.sequence_level_loss(s, LABELS), ROWS),
    "sequence_kl_divergence": (
        lambda i, t: of_sequences.sequence_kl_divergence(
            of_sequences.markov_logits(i, t, SEQUENCES), MARKOV, SEQUENCES
        ),
        (ROWS[0, :2], ROWS[:2, 2:4]),
    ),
    "one_hot_loss": (lambda z: of_data.one_hot_loss(z), ROWS),
    "activation_loss": (lambda f: of_data.activation_loss(f), ROWS),
    "information_entropy_loss": (lambda z: of_data.information_entropy_loss(z), ROWS),
    "zero_shot_generator_loss": (lambda s, t: of_data.zero_shot_generator_loss(s, t), (ROWS, TEACHER)),
    "batchnorm_statistics_loss": (lambda x: of_data.batchnorm_statistics_loss(x, NORM), MAPS),
    "total_variation_loss": (lambda x: of_data.total_variation_loss(x), MAPS),
    "discriminator_loss": (lambda s, t: adversarial.discriminator_loss(s, t), (ROWS[0], TEACHER)),
    "student_adversarial_loss": (lambda s: adversarial.student_adversarial_loss(s), ROWS),
    "paired_discriminator_loss": (lambda s, t: adversarial.paired_discriminator_loss(s, t), (ROWS, TEACHER)),
    "distribution_matching_loss": (lambda x: adversarial.distribution_matching_loss(x.square(), TEACHER, ROWS), ROWS),
    "nasty_teacher_loss": (
        lambda z: of_origin.nasty_teacher_loss(z, TEACHER, LABELS, weight=0.3, temperature=2.0),
        ROWS,
    ),
    "capacity_gap_teacher_loss": (
        lambda n, d: scaling.capacity_gap_teacher_loss(n, d, supervised=LAW),
        (ROWS.exp() + 5, TEACHER.exp() + 5),
    ),
}
SAY_WHY_NOT = {"on_policy_loss", "fused_linear_loss"}  # in their docstrings


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_own_gradient_equals_finite_differences(name: str) -> None:
    loss, students = CASES[name]
    leaves = [s.clone().requires_grad_() for s in (students if isinstance(students, tuple) else (students,))]
    assert torch.autograd.gradgradcheck(loss, leaves, raise_exception=False)


def test_no_loss_is_forgotten() -> None:
    losses = {name for name in dir(kdref) if name.endswith(("_loss", "_divergence", "_distance"))}
    assert losses - SAY_WHY_NOT == {name.split()[0] for name in CASES}
