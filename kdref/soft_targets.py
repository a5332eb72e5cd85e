"""Soft targets: the student learns from the teacher's softened probabilities.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
https://arxiv.org/abs/1503.02531 (Section 2). Lesson: notebooks/01_soft_targets.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of leading axes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["distillation_loss", "kl_divergence", "soft_target_loss", "softened_probabilities"]


def softened_probabilities(
    logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor,
) -> Tensor:  # (..., C)
    r"""Class probabilities of a network whose logits are divided by a temperature.

    .. math::
        p_c = \frac{\exp(z_c / \tau)}{\sum_j \exp(z_j / \tau)}

    A high temperature shows how the network ranks the wrong classes; it never changes which class comes first.

    Args:
        logits: Raw scores :math:`z`, shape ``(..., C)``. Receives a gradient; detach a teacher's logits yourself.
        temperature: :math:`\tau > 0`. 1 leaves the network as it was trained; large values tend to uniform.

    Returns:
        Probabilities, shape ``(..., C)``, each in [0, 1], summing to 1 over classes.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If there is no class axis or the temperature is not positive.

    Example:
        >>> softened_probabilities(torch.tensor([0.0, 0.0, 0.0, 0.0]), temperature=4.0)
        tensor([0.2500, 0.2500, 0.2500, 0.2500])

    Source: Hinton et al. 2015, equation 1.
    """
    _check_logits(logits)
    _check_temperature(temperature)
    return F.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, dim=-1)


def kl_divergence(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (...)
    r"""Kullback-Leibler divergence of the student's from the teacher's softened distribution, per example.

    .. math::
        \mathrm{KL}(p \,\|\, q) = \sum_c p_c \,(\log p_c - \log q_c), \quad
        p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau)

    The sum runs over classes: ``F.kl_div(..., reduction="mean")`` also divides by C, which makes the loss C times
    too small.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Divergence per example, shape ``(...)``, in nats, at least 0; 0 exactly where the logits differ by a constant.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, there is no class axis or the temperature is not positive.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]]))  # certain against a fair coin
        tensor([0.6931])

    Source: Hinton et al. 2015, Section 2; the cross-entropy with soft targets minus the teacher's entropy, which is
    a constant of the student.
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q = F.log_softmax(student_logits.to(dtype) / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)


def soft_target_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 4.0,
) -> Tensor:  # ()
    r"""Temperature squared times the mean divergence from the teacher: the "soft" half of distillation.

    .. math::
        \tau^2 \cdot \frac1B \sum_i \mathrm{KL}(p_i \,\|\, q_i), \quad
        \frac{\partial}{\partial z^s_i} = \frac{\tau}{B}\,(q_i - p_i)

    Without :math:`\tau^2` the gradient falls as :math:`1/\tau^2`, and the weight between soft and hard targets
    silently changes with the temperature.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`. The paper found 2.5 to 4 best for small students, 8 and more for wide ones.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, averaged over all leading axes, at least 0.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, there is no class axis, the batch is empty or the temperature is not
            positive.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]], requires_grad=True)
        >>> soft_target_loss(student, torch.tensor([[8.0, 0.0]]), temperature=2.0).backward()
        >>> student.grad  # 2 * (0.5 - 0.982)
        tensor([[-0.9640,  0.9640]])

    Source: Hinton et al. 2015, Section 2, last paragraph of 2.0 (the factor) and Section 2.1 (its limit).
    """
    _check_not_empty(student_logits)
    return kl_divergence(student_logits, teacher_logits, temperature=temperature).mean() * temperature**2


def distillation_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    soft_weight: float = 0.9,
    temperature: float | Tensor = 4.0,
) -> Tensor:  # ()
    r"""Weighted sum of cross-entropy with the labels and the soft-target loss: knowledge distillation as published.

    .. math::
        (1 - w)\,\frac1B \sum_i -\log \mathrm{softmax}(z^s_i)_{y_i}
        \; + \; w\,\tau^2\,\frac1B \sum_i \mathrm{KL}(p_i \,\|\, q_i)

    The labels are always met at temperature 1. ``soft_weight`` weighs the *soft* term; libraries that call their
    weight alpha use it both ways round.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        soft_weight: :math:`w` in [0, 1]. 0 is plain cross-entropy, 1 uses no labels.
        temperature: :math:`\tau > 0`, of the soft term only.

    Returns:
        Scalar loss in nats, at least 0.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If shapes don't fit, the batch is empty, the weight is outside [0, 1] or the temperature is not
            positive.

    Example:
        >>> agree = torch.tensor([[0.0, 0.0]])
        >>> distillation_loss(agree, agree, torch.tensor([0]), soft_weight=0.5)  # half of log 2, and no divergence
        tensor(0.3466)

    Source: Hinton et al. 2015, Section 2.
    """
    _check_labels(student_logits, labels)
    if not 0 <= soft_weight <= 1:
        raise ValueError(
            f"soft_weight must be in [0, 1], got {soft_weight}: it is the soft term's share, the labels get the rest"
        )
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    soft = soft_target_loss(student_logits, teacher_logits, temperature=temperature)  # first: it needs the most memory
    hard = F.cross_entropy(student_logits.to(dtype), labels)
    return (1 - soft_weight) * hard + soft_weight * soft


def _check_logits(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a class axis at the end, got shape {tuple(logits.shape)}")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_labels(student_logits: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: convert them with labels.long()")
    if student_logits.dim() != 2 or labels.shape != student_logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, C) and labels (B,), got {tuple(student_logits.shape)} and {tuple(labels.shape)}"
        )
