"""Decoupled distillation: the target class and the others apart, each with a weight of its own.

Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679 (DKD).
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

__all__ = ["dkd_loss", "nontarget_class_divergence", "target_class_divergence"]


def target_class_divergence(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # (B, ...)
    r"""Divergence of "the label or not", a two-class question, per example: the TCKD part of distillation.

    .. math::
        \mathrm{TCKD} = p_y \log \frac{p_y}{q_y} + (1 - p_y) \log \frac{1 - p_y}{1 - q_y}, \qquad
        \mathrm{KL}(p \,\|\, q) = \mathrm{TCKD} + (1 - p_y)\,\mathrm{NCKD}

    The paper reads it as how hard the teacher finds the example; where the teacher is sure, it says little.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        temperature: :math:`\tau > 0`, applied to both: a number, or one per example, shape ``(B, 1)``.
        class_dim: The axis of the classes.

    Returns:
        Divergence per example, the labels' shape, in nats, at least 0. There is no :math:`\tau^2` in it. Infinite where
        the student gives 0 to what the teacher finds possible.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the labels (on the CPU) are out of range, there
            are fewer than two classes or the temperature is not positive.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[50.0, 0.0, 0.0]])
        >>> target_class_divergence(fair, sure, torch.tensor([0]))  # log 3
        tensor([1.0986])

    Source: Zhao et al. 2022, equations 5 and 6.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, class_dim, at_least=2)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    student, _ = _decouple(student_logits.to(dtype), labels, temperature, class_dim)
    teacher, _ = _decouple(teacher_logits.detach().to(dtype), labels, temperature, class_dim)
    return _kl(student, teacher, class_dim)


def nontarget_class_divergence(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # (B, ...)
    r"""Divergence of the other classes among themselves, per example: the NCKD part of distillation.

    .. math::
        \mathrm{NCKD} = \sum_{c \ne y} \hat p_c \log \frac{\hat p_c}{\hat q_c}, \quad
        \hat p_c = \frac{p_c}{1 - p_y}, \; \hat q_c = \frac{q_c}{1 - q_y}

    This is the dark knowledge. Plain distillation weighs it with :math:`1 - p_y`, which hides it where the teacher is
    sure. It ignores the target's logit. With two classes it is 0 for every input, hence the error.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        temperature: :math:`\tau > 0`, applied to both.
        class_dim: The axis of the classes.

    Returns:
        Divergence per example, the labels' shape, in nats, at least 0. There is no :math:`\tau^2` in it. 0 where the
        teacher gives all other classes exactly 0 (-inf): it says nothing about them.

    Raises:
        TypeError, ValueError: As in ``target_class_divergence``; if there are fewer than three classes.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[0.0, 50.0, 0.0]])
        >>> nontarget_class_divergence(fair, sure, torch.tensor([0]))  # log 2
        tensor([0.6931])

    Source: Zhao et al. 2022, equations 5 and 6.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, class_dim, at_least=3)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    _, student = _decouple(student_logits.to(dtype), labels, temperature, class_dim)
    _, teacher = _decouple(teacher_logits.detach().to(dtype), labels, temperature, class_dim)
    return _kl(student, teacher, class_dim)


def dkd_loss(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    target_weight: float | Tensor = 1.0,  # () or (B, ...)
    nontarget_weight: float | Tensor = 8.0,  # () or (B, ...)
    temperature: float | Tensor = 4.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Decoupled knowledge distillation (DKD): target and non-target divergence, weighted freely.

    .. math::
        \tau^2 \cdot \frac1B \sum_i \big( w_t\,\mathrm{TCKD}_i + w_n\,\mathrm{NCKD}_i \big)

    With :math:`w_t = 1` and :math:`w_n = 1 - p_y` per example it is plain distillation; the constant 8 undoes the
    suppression by sure teachers. Add the cross-entropy yourself: the authors weigh it 1 and let this loss grow linearly
    over the first 20 epochs. Their formula and ours agree, their numerics don't: they take the log of a sum of
    probabilities and mask with -1000, which gives infinite losses and NaN gradients at large logits.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        target_weight: :math:`w_t \ge 0`, the paper's alpha: a number, or one per example, the labels' shape.
        nontarget_weight: :math:`w_n \ge 0`, the paper's beta: the authors' 0.5 (ImageNet, at τ = 1) to 8.
        temperature: :math:`\tau > 0`, applied to both.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, averaged over examples, at least 0.

    Raises:
        TypeError, ValueError: As in ``nontarget_class_divergence``; if the batch is empty, a weight is negative or of
            another shape, or the temperature above a million.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[50.0, 0.0, 0.0]])
        >>> dkd_loss(fair, sure, torch.tensor([0]), temperature=1.0)  # log 3 + 8 * 0
        tensor(1.0986)

    Source: Zhao et al. 2022, equation 7.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, class_dim, at_least=3)
    _check_not_empty(student_logits)
    _check_weight("target_weight", target_weight, labels)
    _check_weight("nontarget_weight", nontarget_weight, labels)
    dtype = _precision(student_logits, temperature)
    student_target, student_others = _decouple(student_logits.to(dtype), labels, temperature, class_dim)
    teacher_target, teacher_others = _decouple(teacher_logits.detach().to(dtype), labels, temperature, class_dim)
    target = _kl(student_target, teacher_target, class_dim)
    nontarget = _kl(student_others, teacher_others, class_dim)
    parts = target_weight * target + nontarget_weight * nontarget
    loss = (parts * _per_example(temperature, class_dim) ** 2).mean()
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def _decouple(logits: Tensor, labels: Tensor, temperature: float | Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the label and of all others together (2 classes), and of the others alone (C - 1)."""
    logits = logits / temperature
    label, others = logits.gather(dim, labels.unsqueeze(dim)), _others(logits, labels, dim)
    together = others.logsumexp(dim, keepdim=True)
    alone = (others - together).masked_fill(others == -math.inf, -math.inf)  # not NaN where all are -inf
    log_odds = label - together
    return torch.cat([F.logsigmoid(log_odds), F.logsigmoid(-log_odds)], dim), alone


def _others(logits: Tensor, labels: Tensor, dim: int) -> Tensor:
    # The last class takes the target's place, then the last column goes: what stays are the other classes, without a
    # mask that would have to be infinite.
    last, count = logits.narrow(dim, -1, 1), logits.shape[dim] - 1
    return logits.scatter(dim, labels.unsqueeze(dim), last).narrow(dim, 0, count)


def _check_decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor, class_dim: int, *, at_least: int
) -> None:
    _check_logits(student, class_dim)
    _check_logits(teacher, class_dim)
    _check_same_shape(student, teacher)
    _check_labels(student, labels, class_dim)
    _check_temperature(temperature, student, class_dim)
    if student.shape[class_dim] < at_least:
        raise ValueError(
            f"needs at least {at_least} classes, got {student.shape[class_dim]}: with fewer, nothing is left to "
            "compare among the classes beside the label; use soft_target_loss"
        )


def _check_weight(name: str, weight: float | Tensor, labels: Tensor) -> None:
    if isinstance(weight, Tensor):
        if weight.dim() > 0 and weight.shape != labels.shape:
            raise ValueError(f"{name} must be a number or {tuple(labels.shape)}, got shape {tuple(weight.shape)}")
        return
    _check_numbers(**{name: weight})
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name} must be 0 or more and finite, got {weight}: a negative one drives the two apart")


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


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
