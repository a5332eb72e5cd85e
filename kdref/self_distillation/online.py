"""Online distillation: networks teach one another, or a network itself, while they learn; no teacher comes first.

Source: Zhang et al., "Deep Mutual Learning", CVPR 2018, https://arxiv.org/abs/1706.00384; the other papers stand at
their functions. Learning from an earlier copy of oneself is in generations.py.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes, K peers, stacked in front. ``class_dim`` counts the axes of *one* network's
logits: 1 for images ``(B, C, H, W)``, stacked ``(K, B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["class_consistency_loss", "mutual_learning_loss"]


def mutual_learning_loss(
    own_logits: Tensor,  # (B, C)
    peer_logits: Tensor,  # (B, C) or (K, B, C)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Mean divergence of a network from its peers, who are learning too (DML): add cross-entropy for the whole loss.

    .. math::
        \tau^2 \cdot \frac1K \sum_k \frac1B \sum_i \mathrm{KL}(p^k_i \,\|\, q_i), \quad
        p^k = \mathrm{softmax}(z^k / \tau), \; q = \mathrm{softmax}(z^{\text{own}} / \tau)

    Peers that start equal, see the same batches and update at the same time stay equal: the loss is exactly 0, and so
    is its effect. Updating in turn, as the paper's Algorithm 1 does, breaks the tie; different first weights are surer.

    Args:
        own_logits: This network's raw scores, shape ``(B, C)``, or more axes. Receives the gradient.
        peer_logits: The scores of one other network, same shape, or of K stacked, ``(K, B, C)``. Treated as a constant:
            a peer learns from its own loss.
        temperature: :math:`\tau > 0`: a number, or one per example, shape ``(B, 1)``. The paper's 1.
        class_dim: The axis of the classes in this network's logits.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, at least 0; infinite where this network lacks a class that a peer
        has.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors, the shapes don't fit, the batch is empty,
            or the temperature is not positive, above a million, or of a shape that is neither () nor one per example.

    Example:
        >>> mutual_learning_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[[50.0, 0.0]], [[0.0, 0.0]]]))  # ½ log 2
        tensor(0.3466)

    Source: Zhang et al. 2018, equations 2 and 7. The gradient is that of the divergence from the average peer, their
    DML_e, so whatever they found between the two is not in the loss.
    """
    dim = _check_stacked(own_logits, peer_logits, class_dim)
    _check_not_empty(peer_logits)
    _check_temperature(temperature, own_logits, class_dim)
    return _soft_loss(own_logits, peer_logits, temperature, dim)


def class_consistency_loss(
    logits: Tensor,  # (..., C)
    same_class_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 4.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Temperature squared times the divergence from the network's own answer to another example of the class (CS-KD).

    .. math::
        \tau^2 \cdot \frac1B \sum_i \mathrm{KL}\big(p(x'_i) \,\|\, p(x_i)\big), \quad y(x'_i) = y(x_i)

    No gradient reaches the second example. The pairs must be of one class: that is the caller's work. Add it to the
    cross-entropy of the first example, at weight 1 in the paper.

    Args:
        logits: The network's raw scores of :math:`x`, shape ``(..., C)``. Receives the gradient.
        same_class_logits: Its scores of :math:`x'`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`: a number, or one per example, shape ``(..., 1)``. The paper's 4.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, at least 0.

    Raises:
        TypeError, ValueError: As in ``mutual_learning_loss``.

    Example:
        >>> class_consistency_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[200.0, 0.0]]))  # 16 log 2
        tensor(11.0904)

    Source: Yun et al., "Regularizing Class-wise Predictions via Self-knowledge Distillation", CVPR 2020,
    https://arxiv.org/abs/2003.13964, equation 2.
    """
    _check_logits(logits, class_dim)
    _check_logits(same_class_logits, class_dim)
    _check_same_shape(logits, same_class_logits)
    _check_not_empty(logits)
    _check_temperature(temperature, logits, class_dim)
    return _soft_loss(logits, same_class_logits, temperature, class_dim)


def _soft_loss(own: Tensor, constant: Tensor, temperature: float | Tensor, dim: int) -> Tensor:  # ()
    """τ² KL(constant ‖ own) of the softened distributions, with a gradient to the first only; one may be a stack."""
    dtype = _precision(own, temperature)
    log_q = F.log_softmax(own.to(dtype) / temperature, dim=dim)
    log_p = F.log_softmax(constant.detach().to(dtype) / temperature, dim=dim)
    loss = (_kl(log_q, log_p, dim) * _per_example(temperature, dim) ** 2).mean()
    return loss.to(torch.promote_types(own.dtype, torch.float32))


def _check_stacked(own: Tensor, others: Tensor, class_dim: int) -> int:
    """The axis of the classes, counted from the end, so that it is the same in a stack."""
    _check_logits(own, class_dim)
    dim = class_dim if class_dim < 0 else class_dim - own.dim()
    _check_logits(others, dim)
    if others.shape != own.shape and others.shape[1:] != own.shape:
        raise ValueError(
            f"expected own logits (B, C) and others (B, C) or (K, B, C), got {tuple(own.shape)} and "
            f"{tuple(others.shape)}"
        )
    return dim


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
