"""From one sense to another: the student learns from a teacher that sees the same moment with another sensor.

Source: Gupta, Hoffman and Malik, "Cross Modal Distillation for Supervision Transfer", CVPR 2016,
https://arxiv.org/abs/1507.00448; Huo et al., "C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation",
CVPR 2024. Soft targets across senses are ``soft_target_loss``, contrastive alignment is ``info_nce_loss``.
Lesson: notebooks/07_cross_modal.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B pairs (row i of both sides is one moment), C classes or channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["paired_feature_loss", "rank_agreement", "select_agreeing", "selected_soft_target_loss"]


def paired_feature_loss(
    student_features: Tensor,  # (B, C, ...)
    teacher_features: Tensor,  # (B, C, ...)
) -> Tensor:  # ()
    r"""Mean squared error between the two sensors' features of the same moments: supervision transfer.

    .. math::
        \frac1N \sum_{n=1}^{N} (f^s_n - f^t_n)^2, \quad N = B \cdot C \cdots

    It needs pairs and no labels. Row i of both sides must be the same moment: shuffle the pairs together, or the
    student learns the teacher's mean.

    Args:
        student_features: :math:`f^s` of the student's sensor, shape ``(B, C, ...)``. Receives the gradient.
        teacher_features: :math:`f^t` of the teacher's sensor, same shape. Treated as a constant.

    Returns:
        Scalar loss, in squared units of the features, at least 0; 0 exactly where the two agree.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes differ or a tensor is empty.

    Example:
        >>> paired_feature_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]]))  # (0 + 9) / 2
        tensor(4.5000)

    Source: Gupta et al. 2016, equation 1, with the Euclidean loss of their experiments, as a mean over elements.
    """
    _check_matching(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    return F.mse_loss(student_features.to(dtype), teacher_features.detach().to(dtype))


def rank_agreement(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
) -> Tensor:  # (B,)
    r"""Do the two rank the classes alike? Kendall's rank correlation with ties (tau-b), per example.

    .. math::
        \tau_b = \frac{\sum_{c,d} s_{cd}\, t_{cd}}{\sqrt{\sum_{c,d} s_{cd}^2 \, \sum_{c,d} t_{cd}^2}}, \quad
        s_{cd} = \mathrm{sign}(z^s_c - z^s_d), \; t_{cd} = \mathrm{sign}(z^t_c - z^t_d)

    Only order counts, so a student of another scale, or an untrained one, can be compared. No gradient reaches either
    side: use it to choose examples, not as a loss. Kendall's tau has nothing to do with a temperature.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. No gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. No gradient.

    Returns:
        Correlation per example, shape ``(B,)``, no unit, in [-1, 1]: 1 for the same order, -1 for the reverse, 0 where
        a row is constant. Memory grows as B·C²: for thousands of classes, call it on parts of the batch.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, or are not ``(B, C)``.

    Example:
        >>> student = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> rank_agreement(student, torch.tensor([[9.0, 1.0, 0.0], [9.0, 0.0, 1.0]]))  # (3 - 0)/3, (2 - 1)/3
        tensor([1.0000, 0.3333])

    Source: Kendall, "The Treatment of Ties in Ranking Problems", Biometrika 33, 1945; to choose examples: Huo et al.
    2024, whose code calls SciPy example by example. SciPy's value for a constant row is NaN.
    """
    _check_rows(student_logits, teacher_logits)
    own, other = _order(student_logits), _order(teacher_logits)
    agreeing = (own * other).sum(dim=(1, 2))
    pairs = own.abs().sum(dim=(1, 2)) * other.abs().sum(dim=(1, 2))
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    return (agreeing.to(dtype) / pairs.clamp(min=1).to(dtype).sqrt()).clamp(-1, 1)


def select_agreeing(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    *,
    threshold: float = 0.0,
) -> Tensor:  # (B,)
    r"""Examples on which student and teacher rank the classes alike: the only ones that C2KD distils from.

    .. math::
        m_i = [\, \tau_b(z^s_i, z^t_i) > \theta \,]

    Where the two sensors tell different stories, the teacher's soft target misleads. The choice is made anew in every
    step, so it changes as the student learns.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. No gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. No gradient.
        threshold: :math:`\theta` in [-1, 1], a rank correlation. 0 is the authors'; 1 selects nothing.

    Returns:
        True where selected, shape ``(B,)``, bool. An example with a constant row (correlation 0) is not selected at the
        default threshold.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, or are not ``(B, C)``, or the threshold is outside [-1, 1].

    Example:
        >>> student = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> select_agreeing(student, torch.tensor([[9.0, 1.0, 0.0], [0.0, 1.0, 9.0]]))
        tensor([ True, False])

    Source: Huo et al. 2024, on-the-fly selection distillation; the default threshold is that of the authors' code.
    """
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold must be in [-1, 1], got {threshold}: it is a rank correlation, not a share")
    return rank_agreement(student_logits, teacher_logits) > threshold


def selected_soft_target_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    selected: Tensor,  # (B,)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Temperature squared times the mean divergence from the teacher over the selected examples.

    .. math::
        \frac{\tau^2}{\sum_i m_i} \sum_i m_i \, \mathrm{KL}(p_i \,\|\, q_i)

    The mean is over what was selected, so the loss does not shrink when few examples are. With all selected it is
    ``soft_target_loss``. What stands in the other rows does not matter, not even NaN.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient; unselected rows get 0.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        selected: :math:`m`, True where an example counts, shape ``(B,)``, bool, from ``select_agreeing``.
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, at least 0. Nothing selected gives 0, with a gradient of 0.

    Raises:
        TypeError: If the logits are not floating point or the selection is not bool.
        ValueError: If shapes don't fit or the temperature is not positive.

    Example:
        >>> fair, certain = torch.zeros(2, 2), torch.tensor([[50.0, 0.0], [0.0, 50.0]])
        >>> selected_soft_target_loss(fair, certain, torch.tensor([True, False]))  # log 2, of the first alone
        tensor(0.6931)

    Source: Huo et al. 2024, who distil the classes other than the label's (``nontarget_class_divergence``, masked
    likewise). Their code multiplies the label's logit by 0, which leaves it in the softmax; its mean divides by B, and
    where nothing is selected its loss is a constant.
    """
    _check_rows(student_logits, teacher_logits)
    if selected.dtype != torch.bool or selected.shape != student_logits.shape[:1]:
        kind = TypeError if selected.dtype != torch.bool else ValueError
        raise kind(f"selected must be bool (B,), got {selected.dtype} {tuple(selected.shape)}: compare, don't round")
    _check_temperature(temperature)
    dtype, others = torch.promote_types(student_logits.dtype, torch.float32), ~selected[:, None]
    log_q = F.log_softmax(student_logits.to(dtype).masked_fill(others, 0.0) / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach().to(dtype).masked_fill(others, 0.0) / temperature, dim=-1)
    total = F.kl_div(log_q, log_p, reduction="sum", log_target=True)  # rows of zeros on both sides add exactly 0
    return total / selected.sum().clamp(min=1) * temperature**2


def _order(logits: Tensor) -> Tensor:  # (B, C) -> (B, C, C)
    """At (i, c, d): 1 where class c is ranked above class d, -1 where below, 0 where they tie."""
    first, second = logits[:, :, None], logits[:, None, :]
    return (first > second).to(torch.int8) - (first < second).to(torch.int8)


def _check_rows(student: Tensor, teacher: Tensor) -> None:
    for side, logits in (("student", student), ("teacher", teacher)):
        if not logits.is_floating_point():
            raise TypeError(f"the {side}'s logits must be floating point, got {logits.dtype}: pass raw scores")
    if student.shape != teacher.shape or student.dim() != 2 or student.numel() == 0:
        raise ValueError(
            f"student's and teacher's logits must both be (B, C), not empty, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: the pairs of a batch are rows, and both sides know the same classes"
        )


def _check_matching(student: Tensor, teacher: Tensor) -> None:
    for side, features in (("student", student), ("teacher", teacher)):
        if not features.is_floating_point():
            raise TypeError(f"the {side}'s features must be floating point, got {features.dtype}: take activations")
        if features.dim() < 2 or features.numel() == 0:
            raise ValueError(f"the {side}'s features must be (B, C, ...), not empty, got {tuple(features.shape)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"features must have the same shape, got {tuple(student.shape)} from the student and "
            f"{tuple(teacher.shape)} from the teacher: match channels with a regressor (HintRegressor), "
            "and sizes by pooling the larger map (F.adaptive_avg_pool2d)"
        )


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")
