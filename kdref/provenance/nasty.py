"""A nasty teacher: as accurate as before, and trained to give soft targets that mislead whoever copies it.

Source: Ma et al., "Undistillable: Making A Nasty Teacher That CANNOT Teach Students", ICLR 2021,
https://arxiv.org/abs/2105.07381. It did not hold: Jandial et al., "Distilling the Undistillable: Learning from a Nasty
Teacher", ECCV 2022. Lesson: notebooks/16_provenance.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["nasty_teacher_loss"]


def nasty_teacher_loss(
    logits: Tensor,  # (B, ..., C)
    adversary_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    weight: float,
    temperature: float | Tensor,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Cross-entropy of a teacher with the labels, minus its divergence from an honest network of its kind.

    .. math::
        \frac1B \sum_i -\log \mathrm{softmax}(z_i)_{y_i}
        \; - \; \omega\,\tau^2\,\frac1B \sum_i \mathrm{KL}(p_i \,\|\, a_i), \quad
        p = \mathrm{softmax}(z / \tau), \; a = \mathrm{softmax}(z^a / \tau)

    The divergence is that of what *learns* from the fixed network, the other way round from distillation, and it
    is made large: p puts weight on classes that the honest network calls impossible. It has no upper bound, so with too
    large a weight the loss runs away to minus infinity, and so does the accuracy. Start from the honest network's own
    weights or from random ones, and watch both terms.

    Args:
        logits: z, raw scores of the nasty teacher, shape ``(B, C)``, or more axes. Receives the gradient.
        adversary_logits: :math:`z^a`, of a network of the same kind that was trained honestly, same shape. A constant.
        labels: y, class indices, int64, each in [0, C), the logits' shape without the classes.
        weight: :math:`\omega \ge 0`. 0 is plain cross-entropy; the authors' settings are 0.04 for CIFAR-10.
        temperature: :math:`\tau > 0`, of the divergence only; the authors' is 4 for CIFAR-10.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, of either sign; the cross-entropy where both networks agree.

    Raises:
        TypeError: If the logits are no floating-point tensors, the labels not int64, or a setting no number.
        ValueError: If shapes don't fit, there are fewer than two classes or no example, the weight is negative, the
            temperature not positive, or (looked at on the CPU only) a label is out of range.

    Example:
        >>> z = torch.tensor([[0.0, 0.0]], requires_grad=True)
        >>> nasty_teacher_loss(z, torch.tensor([[2.0, 0.0]]), torch.tensor([0]), weight=0.5, temperature=1.0).backward()
        >>> z.grad  # the cross-entropy's ∓0.5, less half of the divergence's ∓0.5
        tensor([[-0.2500,  0.2500]])

    Source: Ma et al. 2021, self-undermining knowledge distillation; the authors' code adds a constant, 100.
    """
    _check_logits(logits, class_dim)
    _check_logits(adversary_logits, class_dim)
    _check_one_shape(logits, adversary_logits)
    _check_labels(logits, labels, class_dim)
    _check_nastiness(weight)
    _check_temperature(temperature, logits, class_dim)
    _check_not_empty(logits)
    dtype, out = _precision(logits, temperature), torch.promote_types(logits.dtype, torch.float32)
    hard = F.cross_entropy(logits.to(out).movedim(class_dim, 1), labels)
    log_p = F.log_softmax(logits.to(dtype) / temperature, dim=class_dim)
    log_a = F.log_softmax(adversary_logits.detach().to(dtype) / temperature, dim=class_dim)
    divergence = (log_p.exp() * (log_p - log_a)).sum(class_dim)
    return hard - weight * (divergence * _per_example(temperature, class_dim) ** 2).mean().to(out)


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


def _check_one_shape(logits: Tensor, adversary_logits: Tensor) -> None:
    if logits.shape != adversary_logits.shape:
        both = f"{tuple(logits.shape)} and {tuple(adversary_logits.shape)}"
        raise ValueError(f"both networks' logits must have the same shape, got {both}")


def _check_nastiness(weight: object) -> None:
    _check_numbers(weight=weight)
    if not 0 <= float(weight) < math.inf:  # type: ignore[arg-type]  # a number, as was checked
        raise ValueError(f"weight must be finite and at least 0, got {weight}: 0.04 is usual, a negative one teaches")


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
