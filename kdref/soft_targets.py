"""Soft targets: the student learns from the teacher's softened probabilities.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
https://arxiv.org/abs/1503.02531 (Section 2). Lesson: notebooks/01_soft_targets.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["distillation_loss", "kl_divergence", "soft_target_loss", "softened_probabilities"]


def softened_probabilities(
    logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor,
    class_dim: int = -1,
) -> Tensor:  # (..., C)
    r"""Class probabilities of a network whose logits are divided by a temperature.

    .. math::
        p_c = \frac{\exp(z_c / \tau)}{\sum_j \exp(z_j / \tau)}

    A high temperature shows how the network ranks the wrong classes; it never changes which class comes first.

    Args:
        logits: Raw scores :math:`z`, shape ``(..., C)``. Receives a gradient; detach a teacher's logits yourself.
        temperature: :math:`\tau > 0`. 1 leaves the network as it was trained; large values tend to uniform.
        class_dim: The axis of the classes.

    Returns:
        Probabilities, shape ``(..., C)``, each in [0, 1], summing to 1 over classes.

    Raises:
        TypeError: If the logits are not a floating-point tensor or the temperature is no number.
        ValueError: If there are fewer than two classes or the temperature is not positive, or of a shape that is
            neither () nor one per example.

    Example:
        >>> softened_probabilities(torch.tensor([0.0, 0.0, 0.0, 0.0]), temperature=4.0)
        tensor([0.2500, 0.2500, 0.2500, 0.2500])

    Source: Hinton et al. 2015, equation 1.
    """
    _check_logits(logits, class_dim)
    _check_temperature(temperature, logits, class_dim)
    return F.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, dim=class_dim)


def kl_divergence(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # (...)
    r"""Kullback-Leibler divergence of the student's from the teacher's softened distribution, per example.

    .. math::
        \mathrm{KL}(p \,\|\, q) = \sum_c p_c \,(\log p_c - \log q_c), \quad
        p = \mathrm{softmax}(z^t / \tau), \; q = \mathrm{softmax}(z^s / \tau)

    The sum runs over classes: ``F.kl_div(..., reduction="mean")`` also divides by C, which makes the loss C times
    too small. A class that the teacher lacks (its logit is -inf) counts nothing.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`, applied to both: a number, or one per example, shape ``(..., 1)``.
        class_dim: The axis of the classes.

    Returns:
        Divergence per example, the shape without the classes, in nats, at least 0; 0 exactly where the logits differ
        by a constant, infinite where the student lacks a class that the teacher has, NaN where a logit is.

    Raises:
        TypeError, ValueError: As in ``softened_probabilities``; if the shapes differ.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]]))  # certain against a fair coin
        tensor([0.6931])

    Source: Hinton et al. 2015, Section 2; the cross-entropy with soft targets minus the teacher's entropy, which is
    a constant of the student.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature, student_logits, class_dim)
    dtype = _precision(student_logits, temperature)
    log_q = F.log_softmax(student_logits.to(dtype) / temperature, dim=class_dim)
    log_p = F.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=class_dim)
    return _kl(log_q, log_p, class_dim).to(torch.promote_types(student_logits.dtype, torch.float32))


def soft_target_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 4.0,
    class_dim: int = -1,
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
        class_dim: The axis of the classes: ``soft_target_loss(s, t, class_dim=1)`` for images ``(B, C, H, W)``.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, averaged over all axes but the classes, at least 0.

    Raises:
        TypeError, ValueError: As in ``kl_divergence``; if the batch is empty.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]], requires_grad=True)
        >>> soft_target_loss(student, torch.tensor([[8.0, 0.0]]), temperature=2.0).backward()
        >>> student.grad  # 2 * (0.5 - 0.982)
        tensor([[-0.9640,  0.9640]])

    Source: Hinton et al. 2015, Section 2, last paragraph of 2.0 (the factor) and Section 2.1 (its limit).
    """
    divergence = kl_divergence(student_logits, teacher_logits, temperature=temperature, class_dim=class_dim)
    _check_not_empty(student_logits)
    return (divergence * _per_example(temperature, class_dim) ** 2).mean()


def distillation_loss(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...) or (B, ..., C)
    *,
    soft_weight: float = 0.9,
    temperature: float | Tensor = 4.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Weighted sum of cross-entropy with the labels and the soft-target loss: knowledge distillation as published.

    .. math::
        (1 - w)\,\frac1B \sum_i -\log \mathrm{softmax}(z^s_i)_{y_i}
        \; + \; w\,\tau^2\,\frac1B \sum_i \mathrm{KL}(p_i \,\|\, q_i)

    The labels are always met at temperature 1. ``soft_weight`` weighs the *soft* term; libraries that call their
    weight alpha use it both ways round. An example labelled -100 has no label: the hard term is the mean over the
    others (0 if there are none), and the soft term keeps it, since the teacher needs no label. Class weights stay
    outside: add your own weighted cross-entropy to ``soft_target_loss``.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, int64, each in [0, C) or -100, the logits' shape without the classes; or soft
            labels (mixup, label smoothing): probabilities, the logits' shape.
        soft_weight: :math:`w` in [0, 1]. 0 is plain cross-entropy, 1 uses no labels.
        temperature: :math:`\tau > 0`, of the soft term only.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, at least 0.

    Raises:
        TypeError, ValueError: As in ``soft_target_loss``; if the labels are of another type or shape, or (looked at on
            the CPU only) out of range, or the weight is outside [0, 1].

    Example:
        >>> agree = torch.tensor([[0.0, 0.0]])
        >>> distillation_loss(agree, agree, torch.tensor([0]), soft_weight=0.5)  # half of log 2, and no divergence
        tensor(0.3466)

    Source: Hinton et al. 2015, Section 2.
    """
    _check_numbers(soft_weight=soft_weight)
    if not 0 <= soft_weight <= 1:
        raise ValueError(
            f"soft_weight must be in [0, 1], got {soft_weight}: it is the soft term's share, the labels get the rest"
        )
    soft = soft_target_loss(student_logits, teacher_logits, temperature=temperature, class_dim=class_dim)
    hard = _cross_entropy(student_logits, labels, class_dim)
    return (1 - soft_weight) * hard + soft_weight * soft


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


def _cross_entropy(logits: Tensor, labels: Tensor, class_dim: int) -> Tensor:
    """Mean over the examples that have a label. A soft label's zero counts nothing, as in the divergence."""
    soft = isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == logits.shape
    if not soft:
        _check_labels(logits, labels, class_dim, missing=True)
    log_q = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=class_dim)
    if soft:
        return (-labels.detach().to(log_q.dtype) * log_q).masked_fill(labels == 0, 0).sum(class_dim).mean()
    return F.nll_loss(log_q.movedim(class_dim, 1), labels, reduction="sum") / (labels != -100).sum().clamp(min=1)


def _precision(logits: Tensor, temperature: float | Tensor) -> torch.dtype:
    """At least float32; float64 where a factor τ² would make its rounding errors as large as the loss."""
    large = not isinstance(temperature, Tensor) and temperature > 32
    if large and temperature > 1e6:
        raise ValueError(f"temperature {temperature} leaves rounding errors only: use logit_matching_loss, the limit")
    double = large and logits.device.type != "mps"  # Apple's GPUs have no float64
    return torch.promote_types(logits.dtype, torch.float64 if double else torch.float32)


def _per_example(temperature: float | Tensor, class_dim: int) -> float | Tensor:
    """The temperature without a class axis, to multiply values per example."""
    if isinstance(temperature, Tensor) and temperature.dim() > 0:
        return temperature.squeeze(class_dim)
    return temperature


def _check_logits(logits: object, class_dim: int = -1) -> None:
    if not isinstance(logits, Tensor):
        hint = "take its .logits" if hasattr(logits, "keys") or isinstance(logits, tuple) else "use torch.as_tensor"
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}: {hint}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    _check_numbers(class_dim=class_dim)
    shape, where = tuple(logits.shape), "at the end" if class_dim == -1 else f"at {class_dim}"
    if not -len(shape) <= class_dim < len(shape) or shape[class_dim] == 0:
        raise ValueError(f"logits need a class axis {where}, got shape {shape}")
    if shape[class_dim] == 1:
        one = f"one class can only be right, got shape {shape}: give a sigmoid's output z its other class on both sides"
        raise ValueError(f"{one}, torch.cat([z, torch.zeros_like(z)], dim={class_dim}), or use multi_label_loss")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_temperature(temperature: object, logits: Tensor | None = None, class_dim: int = -1) -> None:
    if isinstance(temperature, Tensor):  # looking at its value would cost a sync
        shape, one_each = tuple(temperature.shape), () if logits is None else logits.narrow(class_dim, 0, 1).shape
        fits = len(shape) == len(one_each) and all(size in (1, n) for size, n in zip(shape, one_each, strict=True))
        if shape and not fits:
            each = f", or one per example {tuple(one_each)}" if one_each else ""
            raise ValueError(f"temperature must be a number{each}, got shape {shape}")
    elif not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    elif not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_labels(logits: Tensor, labels: Tensor, class_dim: int = -1, *, missing: bool = False) -> None:
    _check_indices(labels, logits.shape[class_dim], missing=missing)
    if logits.dim() < 2 or labels.shape != logits.select(class_dim, 0).shape:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"expected logits (B, C) and labels (B,), got {shapes}")


def _check_indices(labels: object, classes: int, *, missing: bool = False) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}: use torch.as_tensor")
    if labels.dtype != torch.int64:
        soft = "soft ones need the logits' shape" if missing else "soft ones name no one class, which is needed here"
        hint = soft if labels.is_floating_point() else "convert them with labels.long()"
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: {hint}")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = labels[((labels < 0) | (labels >= classes)) & ~((labels == -100) & missing)]
        if len(wrong):
            none = ", or -100 for no label" if missing else ""
            raise ValueError(f"labels must be in [0, {classes}){none}, got {wrong[0].item()}")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
