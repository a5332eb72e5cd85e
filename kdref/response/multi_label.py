"""Several labels at once: each output is a question of its own, answered by a sigmoid.

Source: Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023, https://arxiv.org/abs/2308.06453 (its first part,
multi-label logits distillation). Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C labels; ``...`` is any number of axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["multi_label_loss"]


def multi_label_loss(
    student_logits: Tensor,  # (B, C), or any shape
    teacher_logits: Tensor,  # the same
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Soft targets for labels that don't exclude one another, or for one sigmoid output.

    .. math::
        \tau^2 \cdot \frac{1}{BC} \sum_{ic} \Big[ p_{ic} \log \frac{p_{ic}}{q_{ic}}
        + (1 - p_{ic}) \log \frac{1 - p_{ic}}{1 - q_{ic}} \Big], \quad
        p = \sigma(z^t / \tau), \; q = \sigma(z^s / \tau)

    A softmax over such outputs makes rivals of labels that go together, and over a single one it is 1 whatever the
    logit: loss 0, and nothing is learned. This is ``soft_target_loss`` of the two classes (z, 0) of each label. The
    authors' code has no temperature, sums over labels, and clips the sigmoids at 1e-8 from 0 and 1; in float32 1 - 1e-8
    is 1, so a student at a logit of 17 has an infinite loss.

    Args:
        student_logits: Raw scores :math:`z^s` before the sigmoid, any shape. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant; -inf and inf are sure answers.
        temperature: :math:`\tau > 0`: a number, or one per example, shape ``(B, 1)``.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, the mean over examples and labels, at least 0.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors of one shape, there are none, or the
            temperature is not positive, above a million, or of a shape that is neither () nor one per example.

    Example:
        >>> multi_label_loss(torch.zeros(1, 1), torch.tensor([[50.0]]))  # a fair coin against a sure yes: log 2
        tensor(0.6931)

    Source: Yang et al. 2023, multi-label logits distillation; the temperature is Hinton et al.'s, the mean over labels
    ours.
    """
    _check_scores(student_logits)
    _check_scores(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    _check_temperature(temperature, student_logits)
    dtype = _precision(student_logits, temperature)
    log_q, log_p = (_log_yes_and_no(z.to(dtype) / temperature) for z in (student_logits, teacher_logits.detach()))
    loss = (_kl(log_q, log_p, -1) * temperature**2).mean()
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def _log_yes_and_no(logits: Tensor) -> Tensor:  # (..., 2)
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=-1)


def _check_scores(logits: object) -> None:
    if not isinstance(logits, Tensor):
        hint = "take its .logits" if hasattr(logits, "keys") or isinstance(logits, tuple) else "use torch.as_tensor"
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}: {hint}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not labels")


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
