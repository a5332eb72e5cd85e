"""Whom to trust, example by example: weights for several teachers.

Source: Zhang, Chen and Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022,
https://arxiv.org/abs/2201.00007 (CA-MKD). The loss that takes them is in averages.py.
Lesson: notebooks/06_multi_teacher.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K teachers, B examples, C classes. Stack the teachers' logits: ``torch.stack([teacher(x) for teacher in ...])``.
``class_dim`` counts the axes of *one* network's logits: 1 for images ``(B, C, H, W)``, stacked ``(K, B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["confidence_weights", "entropy_weights"]


def confidence_weights(
    teacher_logits: Tensor,  # (K, B, C)
    labels: Tensor,  # (B,)
    *,
    class_dim: int = -1,
) -> Tensor:  # (K, B)
    r"""Weights that fall with a teacher's cross-entropy on the label, per example (CA-MKD).

    .. math::
        w_{ki} = \frac{1}{K - 1} \Big( 1 - \frac{\exp(\ell_{ki})}{\sum_j \exp(\ell_{ji})} \Big), \quad
        \ell_{ki} = -\log \mathrm{softmax}(z^t_{ki})_{y_i}

    The worst teacher of an example loses its say, all others keep about the same: no weight exceeds 1/(K - 1), so with
    many teachers the best one is not singled out, and two bad ones are not shut out together.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Without labels: ``entropy_weights``.
        class_dim: The axis of the classes in one teacher's logits.

    Returns:
        Weights, shape ``(K, B)``, in [0, 1/(K - 1)], summing to 1 over teachers. One teacher gets 1; of two, each gets
        its share of the label's probability. One that gives the label exactly 0 gets 0, unless others do so too.

    Raises:
        TypeError, ValueError: If the logits are no floating-point tensor ``(K, B, C)`` or empty, or the labels not
            int64, not ``(B,)`` or (looked at on the CPU only) out of range.

    Example:
        >>> half, three_quarters = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
        >>> confidence_weights(torch.stack([half, three_quarters]), torch.tensor([0]))
        tensor([[0.4000],
                [0.6000]])

    Source: Zhang et al. 2022, equations 1 and 2; the authors' code divides by zero for one teacher.
    """
    dim = _check_teachers(teacher_logits, class_dim)
    _check_labels(teacher_logits[0], labels, class_dim)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    log_p = F.log_softmax(z, dim=dim)
    surprise = -log_p.take_along_dim(labels.unsqueeze(dim)[None], dim=dim).squeeze(dim)
    if len(z) == 1:
        return torch.ones_like(surprise).masked_fill(surprise.isnan(), math.nan)
    surprise = surprise.clamp(max=torch.finfo(z.dtype).max)  # ∞ - ∞ would be NaN
    return (1 - F.softmax(surprise, dim=0)) / (len(z) - 1)


def entropy_weights(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    class_dim: int = -1,
) -> Tensor:  # (K, B)
    r"""Weights that fall with a teacher's entropy, per example: for data without labels.

    .. math::
        w_{ki} = \frac{\exp(-H_{ki})}{\sum_j \exp(-H_{ji})}, \quad H_{ki} = -\sum_c p_{kic} \log p_{kic}

    They measure how sure a teacher is, not whether it is right: one that is sure and wrong gets the *largest* weight.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        class_dim: The axis of the classes in one teacher's logits.

    Returns:
        Weights, shape ``(K, B)``, summing to 1 over teachers. No teacher gets more than C times another's.

    Raises:
        TypeError, ValueError: If the logits are no floating-point tensor ``(K, B, C)`` or empty.

    Example:
        >>> certain, fair = torch.tensor([[50.0, 0.0]]), torch.zeros(1, 2)
        >>> entropy_weights(torch.stack([certain, fair]))  # exp(0) to exp(-log 2)
        tensor([[0.6667],
                [0.3333]])

    Source: after Kwon et al., "Adaptive Knowledge Distillation Based on Entropy", ICASSP 2020; the softmax over minus
    the entropy is ours. Code that follows Zhang et al. 2022 has 1 - H/ΣH, which sums to K - 1.
    """
    dim = _check_teachers(teacher_logits, class_dim)
    p = F.softmax(teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32)), dim=dim)
    return F.softmax(-torch.special.entr(p).sum(dim), dim=0)


def _check_teachers(logits: Tensor, class_dim: int = -1) -> int:
    """The axis of the classes in the stack, counted from its end."""
    stack = "stack them with torch.stack, also a single teacher's"
    if not isinstance(logits, Tensor):
        raise TypeError(f"teachers' logits must be a tensor (K, B, C), got {type(logits).__name__}: {stack}")
    if logits.dim() < 3 or logits.numel() == 0:
        raise ValueError(f"teachers' logits must be (K, B, C), not empty, got {tuple(logits.shape)}: {stack}")
    _check_logits(logits[0], class_dim)
    return class_dim if class_dim < 0 else class_dim + 1 - logits.dim()


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
