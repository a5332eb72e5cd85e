"""Wrong versions of the soft-target losses: classes missing, on another axis or alone, and labels missing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import soft_targets
from tests.museum import exhibit

KL, HARD_AND_SOFT = "kdref.soft_targets:kl_divergence", "kdref.soft_targets:distillation_loss"
right_kl, right_soft = soft_targets.kl_divergence, soft_targets.soft_target_loss  # as they were before any swap
INPUT = "heart/test_soft_targets_input.py::test_"


def softened(student_logits: Tensor, teacher_logits: Tensor, temperature: float, dim: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher."""
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q = F.log_softmax(student_logits.to(dtype) / temperature, dim=dim)
    return log_q, F.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=dim)


@exhibit(
    replaces=KL,
    seen_in="torch.nn.functional.kl_div with log_target=True; google-deepmind/optax #1786; arcee-ai/DistillKit",
    killed_by=(
        f"{INPUT}known_values_of_a_teacher_that_lacks_a_class",
        f"{INPUT}a_class_that_both_lack_counts_nothing",
        f"{INPUT}every_function_that_can_passes[kl_divergence-check_missing_class]",
    ),
)
def zero_times_infinity(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 27: exp(-∞) · (-∞ - log q) is NaN for a class that the teacher lacks."""
    log_q, log_p = softened(student_logits, teacher_logits, temperature, class_dim)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=class_dim)


@exhibit(
    replaces=KL,
    seen_in="PaddlePaddle/PaddleOCR #6747: the softmax of maps (N, C, H, W) runs along the width",
    killed_by=(
        f"{INPUT}one_pixel_has_the_divergence_of_its_classes",
        f"{INPUT}any_axis_may_hold_the_classes[1]",
        f"{INPUT}every_function_passes[kl_divergence-check_class_dim]",
    ),
)
def along_the_last_axis(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 33: the image's width is taken for the classes; at a width of one the loss and its gradient are 0."""
    log_q, log_p = softened(student_logits, teacher_logits, temperature, -1)
    terms = log_p.exp() * (log_p - log_q)
    return terms.sum(dim=class_dim)  # so that its shape is right


@exhibit(
    replaces=KL,
    seen_in="vllm-project/vllm #18313, yoshitomo-matsubara/torchdistill #211: one sigmoid output through a softmax",
    killed_by=(f"{INPUT}every_function_passes[kl_divergence-check_one_class]",),
)
def softmax_over_one_class(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 33: over one class a softmax is 1: loss 0, gradient 0, no error."""
    if student_logits.shape[class_dim] > 1:
        return right_kl(student_logits, teacher_logits, temperature=temperature, class_dim=class_dim)
    log_q, log_p = softened(student_logits, teacher_logits, temperature, class_dim)
    return (log_p.exp() * (log_p - log_q)).sum(dim=class_dim)


@exhibit(
    replaces=KL,
    seen_in="keras-team/keras, losses.KLDivergence: both sides clipped to [1e-7, 1]",
    killed_by=(f"{INPUT}a_student_that_is_sure_and_wrong_pays_its_logit",),
)
def clipped_probabilities(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 32: for logits 30 apart the loss is 16.1, right 30, and its gradient 0: what is most wrong stays so."""
    q, p = (log.exp().clamp(1e-7, 1.0) for log in softened(student_logits, teacher_logits, temperature, class_dim))
    return (p * (p / q).log()).sum(dim=class_dim)


@exhibit(
    replaces=HARD_AND_SOFT,
    seen_in="a likely slip: reduction='mean' of cross_entropy where no example has a label",
    killed_by=(f"{INPUT}where_nobody_has_a_label_the_teacher_alone_is_left",),
)
def mean_of_no_labels(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
) -> Tensor:
    """0/0 is NaN in the first batch without a label, as half of semi-supervised learning has them."""
    hard = F.cross_entropy(student_logits, labels)
    return (1 - soft_weight) * hard + soft_weight * right_soft(student_logits, teacher_logits, temperature=temperature)


@exhibit(
    replaces=HARD_AND_SOFT,
    seen_in="a likely slip: examples without a label dropped from both halves",
    killed_by=(f"{INPUT}an_example_without_a_label_keeps_its_soft_target_and_leaves_the_mean_of_the_others",),
)
def unlabelled_dropped(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
) -> Tensor:
    """The teacher needs no label, and is not heard where there is none."""
    known = labels != -100
    soft = right_soft(student_logits[known], teacher_logits[known], temperature=temperature)
    return (1 - soft_weight) * F.cross_entropy(student_logits, labels) + soft_weight * soft
