"""Wrong versions of the soft-target losses."""

import torch.nn.functional as F
from torch import Tensor

from kdref import soft_targets
from tests.museum import exhibit

KL, SOFT, HARD_AND_SOFT = (
    f"kdref.soft_targets:{name}" for name in ("kl_divergence", "soft_target_loss", "distillation_loss")
)
right_kl, right_soft = soft_targets.kl_divergence, soft_targets.soft_target_loss  # as they were before any swap


@exhibit(
    replaces=KL,
    seen_in="facebookresearch/deit #61; yuanli2333/Teacher-free-KD #5; haitongli/knowledge-distillation-pytorch #2",
    killed_by=(
        "heart/test_soft_targets.py::test_kl_matches_the_definition",
        "heart/test_soft_targets.py::test_known_value_of_an_uneven_and_a_fair_coin",
        "heart/test_soft_targets.py::test_the_gradient_for_one_example_is_temperature_times_the_difference",
    ),
)
def mean_over_classes(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 1: reduction="mean" divides by the number of classes, so the loss is C times too small."""
    return right_kl(student_logits, teacher_logits, temperature=temperature) / student_logits.shape[-1]


@exhibit(
    replaces=SOFT,
    seen_in="keras-team/keras-io #869; IntelLabs/distiller #122; huggingface/transformers #12299",
    killed_by=(
        "heart/test_soft_targets.py::test_soft_target_loss_matches_the_definition",
        "heart/test_soft_targets.py::test_high_temperature_is_logit_matching",
        "heart/test_soft_targets.py::test_the_gradient_for_one_example_is_temperature_times_the_difference[4.0]",
    ),
)
def missing_square(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 2: without τ² the soft term fades as the temperature rises."""
    return right_kl(student_logits, teacher_logits, temperature=temperature).mean()


@exhibit(
    replaces=SOFT,
    seen_in="a likely slip: the gradient's 1/τ is cancelled, the probabilities' is forgotten",
    killed_by=("heart/test_soft_targets.py::test_soft_target_loss_matches_the_definition",),
)
def factor_without_the_square(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0, class_dim: int = -1
) -> Tensor:
    """Multiplied by τ instead of τ²."""
    return right_kl(student_logits, teacher_logits, temperature=temperature).mean() * temperature


@exhibit(
    replaces=HARD_AND_SOFT,
    seen_in="yuanli2333/Teacher-free-KD #24",
    killed_by=(
        "heart/test_soft_targets.py::test_the_labels_are_met_at_temperature_one",
        "heart/test_soft_targets.py::test_distillation_loss_matches_the_definition",
    ),
)
def temperature_on_the_labels(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
) -> Tensor:
    """PITFALLS 3: the hard term is softened too."""
    hard = F.cross_entropy(student_logits / temperature, labels)
    return (1 - soft_weight) * hard + soft_weight * right_soft(student_logits, teacher_logits, temperature=temperature)


@exhibit(
    replaces=KL,
    seen_in="yuanli2333/Teacher-free-KD #24",
    killed_by=(
        "heart/test_soft_targets.py::test_kl_matches_the_definition[4.0]",
        "heart/test_soft_targets.py::test_high_temperature_is_logit_matching",
    ),
)
def temperature_on_the_student_only(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 3: the teacher stays sharp, so even a perfect student is pulled away."""
    return right_kl(student_logits / temperature, teacher_logits, temperature=1.0)


@exhibit(
    replaces=KL,
    seen_in="pytorch/torchtune forward KL; the PyTorch distillation tutorial; airaria/TextBrewer",
    killed_by=(
        "heart/test_soft_targets.py::test_kl_is_zero_where_they_agree_and_positive_elsewhere",
        "heart/test_soft_targets.py::test_kl_matches_the_definition",
    ),
)
def cross_entropy_called_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 4: the teacher's entropy is missing, so the loss of a perfect student is not zero."""
    p = F.softmax(teacher_logits.detach().float() / temperature, dim=-1).to(student_logits.dtype)
    return -(p * F.log_softmax(student_logits / temperature, dim=-1)).sum(-1)


@exhibit(
    replaces=KL,
    seen_in="keras-team/keras-io #257",
    killed_by=("heart/test_soft_targets.py::test_kl_matches_the_definition",),
)
def student_and_teacher_swapped(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 8: KL(q‖p), with the gradient still on the student."""
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


@exhibit(
    replaces=KL,
    seen_in="labmlai/annotated_deep_learning_paper_implementations #66",
    killed_by=(
        "heart/test_soft_targets.py::test_kl_matches_the_definition",
        "heart/test_soft_targets.py::test_gradients_reach_the_student_only",
    ),
)
def teacher_on_both_sides(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 8: after a refactoring the teacher is compared with itself, and nothing is distilled."""
    return right_kl(teacher_logits + 0 * student_logits, teacher_logits, temperature=temperature)


@exhibit(
    replaces=KL,
    seen_in="PITFALLS 15: log and softmax one after the other (yzd-v/cls_KD #13)",
    killed_by=("heart/test_soft_targets.py::test_extreme_logits_stay_finite[10000.0]",),
)
def log_of_softmax(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 15: log(softmax(x)) is -inf once a probability underflows."""
    dtype = student_logits.dtype if student_logits.dtype.itemsize > 2 else F.softmax(student_logits.float(), -1).dtype
    q = F.softmax(student_logits.to(dtype) / temperature, dim=-1)
    p = F.softmax(teacher_logits.detach().to(dtype) / temperature, dim=-1)
    return (p * (p.log() - q.log())).sum(-1)


@exhibit(
    replaces=SOFT,
    seen_in="half-precision training with the factor applied before the conversion",
    killed_by=("heart/test_soft_targets.py::test_extreme_logits_stay_finite[10000.0]",),
)
def overflow_in_half_precision(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 17: τ² · KL in float16 passes 65,504."""
    value = right_kl(student_logits, teacher_logits, temperature=temperature).to(student_logits.dtype)
    return (value.mean() * temperature**2).to(right_kl(student_logits[:1], teacher_logits[:1]).dtype)


@exhibit(
    replaces=HARD_AND_SOFT,
    seen_in="a likely slip: alpha means the hard term in torchdistill and Keras, the soft term in KD_Lib and torchtune",
    killed_by=(
        "heart/test_soft_targets.py::test_soft_weight_zero_is_cross_entropy_and_one_uses_no_labels",
        "heart/test_soft_targets.py::test_distillation_loss_matches_the_definition",
    ),
)
def weights_swapped(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
) -> Tensor:
    """The soft weight weighs the hard term."""
    soft = right_soft(student_logits, teacher_logits, temperature=temperature)
    return soft_weight * F.cross_entropy(student_logits, labels) + (1 - soft_weight) * soft


@exhibit(
    replaces=KL,
    seen_in="a likely slip: a teacher that is trained by its student's loss",
    killed_by=("heart/test_soft_targets.py::test_gradients_reach_the_student_only",),
)
def teacher_not_detached(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, class_dim: int = -1
) -> Tensor:
    """PITFALLS 21: the loss sends a gradient to the teacher."""
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@exhibit(
    replaces="kdref.soft_targets:softened_probabilities",
    seen_in="a likely slip: an inverse temperature",
    killed_by=("heart/test_soft_targets.py::test_probabilities_match_the_definition[4.0]",),
)
def multiplied_by_the_temperature(logits: Tensor, *, temperature: float) -> Tensor:
    """The logits are sharpened where they should be softened."""
    return F.softmax(logits * temperature, dim=-1)
