"""Normalised distillation: the label has a weight of its own, the other classes a cross-entropy of theirs.

Source: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized
Loss and Customized Soft Labels", ICCV 2023, https://arxiv.org/abs/2303.13005 (NKD).
Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["nkd_loss"]


def nkd_loss(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    soft_weight: float | Tensor = 1.5,  # () or (B, ...)
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Normalised knowledge distillation (NKD): a soft label for the target, normalised ones for the others.

    .. math::
        \frac1B \sum_i \Big[ -p_y \log q_y - \gamma \tau^2 \sum_{c \ne y} \hat p_c \log \hat q_c \Big], \quad
        p_y, q_y \text{ at } \tau = 1, \; \hat p, \hat q \text{ at } \tau \text{ as in DKD}

    It is a weighted cross-entropy, no divergence: it is not 0 where the two agree, and nothing bounds :math:`q_y` but
    1, so its minimum is *not* at q = p. The authors add the cross-entropy with the labels at weight 1, which pulls
    the same way. Formula and code agree. A class to which the teacher gives exactly 0 (-inf) counts nothing.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        soft_weight: :math:`\gamma \ge 0`, the weight of the non-target classes, also one per example.
        temperature: :math:`\tau > 0`, of the non-target classes only: a number, or one per example, shape ``(B, 1)``.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, averaged over examples, at least :math:`\gamma \tau^2` times the entropy of the teacher's
        :math:`\hat p`.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the labels (on the CPU) are out of range, the
            batch is empty, there are fewer than two classes, the weight is negative, or the temperature is not positive
            or above a million.

    Example:
        >>> fair = torch.zeros(1, 3)
        >>> nkd_loss(fair, fair, torch.tensor([0]))  # log(3)/3 + 1.5 * log(2)
        tensor(1.4059)

    Source: Yang et al. 2023, Section 3.1.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_labels(student_logits, labels, class_dim)
    _check_temperature(temperature, student_logits, class_dim)
    _check_not_empty(student_logits)
    _check_weight("soft_weight", soft_weight, labels)
    dtype = _precision(student_logits, temperature)
    student, teacher, label = student_logits.to(dtype), teacher_logits.detach().to(dtype), labels.unsqueeze(class_dim)
    p_label = F.softmax(teacher, class_dim).gather(class_dim, label)
    log_q_label = F.log_softmax(student, class_dim).gather(class_dim, label)
    others = _others(teacher, labels, class_dim)
    p_others = F.softmax(others / temperature, class_dim).masked_fill(others == -math.inf, 0)
    log_q_others = F.log_softmax(_others(student, labels, class_dim) / temperature, class_dim)
    weight = soft_weight * _per_example(temperature, class_dim) ** 2
    terms = _surprise(p_label, log_q_label, class_dim) + weight * _surprise(p_others, log_q_others, class_dim)
    return terms.mean().to(torch.promote_types(student_logits.dtype, torch.float32))


def _surprise(p: Tensor, log_q: Tensor, dim: int) -> Tensor:
    """Cross-entropy along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    return -(p * log_q).masked_fill(p == 0, 0).sum(dim)


def _others(logits: Tensor, labels: Tensor, dim: int) -> Tensor:
    # The last class takes the target's place, then the last column goes: what stays are the other classes, without a
    # mask that would have to be infinite.
    last, count = logits.narrow(dim, -1, 1), logits.shape[dim] - 1
    return logits.scatter(dim, labels.unsqueeze(dim), last).narrow(dim, 0, count)


def _check_weight(name: str, weight: float | Tensor, labels: Tensor) -> None:
    if isinstance(weight, Tensor):
        if weight.dim() > 0 and weight.shape != labels.shape:
            raise ValueError(f"{name} must be a number or {tuple(labels.shape)}, got shape {tuple(weight.shape)}")
        return
    _check_numbers(**{name: weight})
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name} must be 0 or more and finite, got {weight}: a negative one drives the two apart")


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


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
