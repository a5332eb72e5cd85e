"""One network with several classifiers: early ones learn from the last, or all from their ensemble.

Source: Lan, Zhu and Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018,
https://arxiv.org/abs/1806.04606; Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes, K branches, stacked in front. ``class_dim`` counts the axes of *one* classifier's logits:
1 for images ``(B, C, H, W)``, stacked ``(K, B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["deep_supervision_loss", "gated_ensemble_logits"]


def gated_ensemble_logits(
    branch_logits: Tensor,  # (K, B, C)
    gate_logits: Tensor,  # (B, K)
    *,
    class_dim: int = -1,
) -> Tensor:  # (B, C)
    r"""Logits of the branches of one network, averaged with weights that a gate gives per example (ONE).

    .. math::
        z_i = \sum_k g_{ik}\,z^k_i, \qquad g_i = \mathrm{softmax}(\text{gate}_i)

    The ensemble is trained by cross-entropy, and teaches its branches: ``soft_target_loss`` of each from the ensemble
    at temperature 3, added. A gradient reaches branches and gate; ``soft_target_loss`` stops it where the ensemble
    teaches.

    Args:
        branch_logits: Raw scores of each branch, shape ``(K, B, C)``, or more axes. Receives a gradient.
        gate_logits: Raw scores of the gate, shape ``(B, K)``. Receives a gradient. The authors' gate is a linear layer
            on the shared features, batch norm and ReLU.
        class_dim: The axis of the classes in one branch's logits.

    Returns:
        The ensemble's logits, shape ``(B, C)``. One branch gives itself, whatever the gate. -inf where a branch of any
        weight gives -inf.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors, or the shapes don't fit.

    Example:
        >>> branches = torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]])
        >>> gated_ensemble_logits(branches, torch.tensor([[0.0, 0.0]]))  # halves
        tensor([[2., 4.]])

    Source: Lan, Zhu and Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018,
    https://arxiv.org/abs/1806.04606, Section 3, and the authors' code.
    """
    dim = _check_gate(branch_logits, gate_logits, class_dim)
    dtype = torch.promote_types(branch_logits.dtype, torch.float32)
    gate = F.softmax(gate_logits.to(dtype), dim=-1).mT
    each = gate.reshape(*gate.shape, *[1] * (branch_logits.dim() - 3)).unsqueeze(dim)
    return _weighted_logits(each, branch_logits.to(dtype))


def deep_supervision_loss(
    branch_logits: Tensor,  # (K, B, C)
    final_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,) or (B, C)
    *,
    soft_weight: float = 0.3,
    temperature: float | Tensor = 3.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Classifiers on early layers learn from the labels and from the last classifier, the last from labels (BYOT).

    .. math::
        \mathrm{CE}(y, q) + \sum_k \big[(1 - w)\,\mathrm{CE}(y, q^k) + w\,\tau^2\,\mathrm{KL}(q \,\|\, q^k)\big]

    The divergence at :math:`\tau`, all terms means over examples. The branches are thrown away after training, or kept
    as early exits. What the network itself gains comes through the shared layers, and a branch trained on labels alone
    gives much of it: compare with ``soft_weight=0``. The paper's third term, hints, is ``hint_loss``. An example
    labelled -100 has no label: the cross-entropies are means over the others (0 if there are none), the divergence
    keeps it. Class weights stay outside.

    Args:
        branch_logits: Raw scores of the early classifiers, stacked, shape ``(K, B, C)``. Receives a gradient.
        final_logits: The last classifier's, shape ``(B, C)``, or more axes. Receives the gradient of its labels only:
            as a teacher it is a constant.
        labels: Class indices :math:`y`, int64, each in [0, C) or -100, the last classifier's shape without the classes;
            or soft labels (mixup): probabilities, its shape.
        soft_weight: :math:`w` in [0, 1], the last classifier's share in teaching the branches.
        temperature: :math:`\tau > 0`, of the divergence only.
        class_dim: The axis of the classes in one classifier's logits.

    Returns:
        Scalar loss in nats, at least 0: a sum over classifiers, so it grows with K.

    Raises:
        TypeError, ValueError: As in ``mutual_learning_loss``; if the labels are of another type or shape, or (looked at
            on the CPU only) out of range, or the weight is outside [0, 1].

    Example:
        >>> agree = torch.tensor([[0.0, 0.0]])
        >>> deep_supervision_loss(agree[None], agree, torch.tensor([0]))  # log 2 + 0.7 log 2
        tensor(1.1784)

    Source: Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094, Section 3. A widely used
    reimplementation weighs the last classifier's labels by 1 - w too, and takes a cross-entropy for the divergence.
    """
    dim = _check_stacked(final_logits, branch_logits, class_dim)
    _check_not_empty(branch_logits)
    _check_temperature(temperature, final_logits, class_dim)
    _check_numbers(soft_weight=soft_weight)
    if not 0 <= soft_weight <= 1:
        raise ValueError(
            f"soft_weight must be in [0, 1], got {soft_weight}: it is the soft term's share, the labels get the rest"
        )
    branches = branch_logits.reshape(-1, *final_logits.shape)
    hard = torch.stack([_cross_entropy(branch, labels, class_dim) for branch in branches]).sum()
    soft = len(branches) * _soft_loss(branches, final_logits, temperature, dim)
    taught = (1 - soft_weight) * hard + soft_weight * soft
    return _cross_entropy(final_logits, labels, class_dim) + taught


def _soft_loss(own: Tensor, constant: Tensor, temperature: float | Tensor, dim: int) -> Tensor:  # ()
    """τ² KL(constant ‖ own) of the softened distributions, with a gradient to the first only; one may be a stack."""
    dtype = _precision(own, temperature)
    log_q = F.log_softmax(own.to(dtype) / temperature, dim=dim)
    log_p = F.log_softmax(constant.detach().to(dtype) / temperature, dim=dim)
    loss = (_kl(log_q, log_p, dim) * _per_example(temperature, dim) ** 2).mean()
    return loss.to(torch.promote_types(own.dtype, torch.float32))


def _weighted_logits(weights: Tensor, logits: Tensor) -> Tensor:  # (K, ...) -> (...)
    """Weighted sum over networks. A class that one of any weight lacks stays at -inf; one of weight 0 is not heard."""
    lacks = logits == -math.inf
    vetoed = (lacks & (weights > 0)).any(dim=0)
    total = (weights * logits.masked_fill(lacks, 0)).sum(dim=0)  # 0 · ∞ would be NaN
    return total - torch.zeros_like(total).masked_fill(vetoed, math.inf)


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


def _check_gate(branches: Tensor, gate: Tensor, class_dim: int) -> int:
    """The axis of the classes in the stack, counted from its end."""
    for name, logits in (("branch_logits", branches), ("gate_logits", gate)):
        if not isinstance(logits, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(logits).__name__}: torch.stack makes one of several")
        if not logits.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {logits.dtype}: pass raw scores")
    shapes = f"expected branches (K, B, C) and a gate (B, K), got {tuple(branches.shape)} and {tuple(gate.shape)}"
    if branches.dim() < 3 or not len(branches):
        raise ValueError(shapes)
    _check_logits(branches[0], class_dim)
    dim = class_dim if class_dim < 0 else class_dim + 1 - branches.dim()
    if gate.shape != branches.select(dim, 0).shape[1::-1]:
        raise ValueError(shapes)
    return dim


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
