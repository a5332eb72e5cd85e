"""A loss between models with different tokenizers, whose words have nothing to do with each other.

Source: Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs", TMLR
2025, https://arxiv.org/abs/2402.12030. Lesson: notebooks/19_writing_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words of the vocabulary; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["universal_logit_loss"]


def universal_logit_loss(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V')
    *,
    mask: Tensor | None = None,  # (...)
    temperature: float = 1.0,
) -> Tensor:  # ()
    r"""Distance of the sorted probabilities (ULD), for student and teacher with different tokenizers.

    .. math::
        \frac{1}{\sum_i m_i} \sum_i m_i \sum_r \big| q_{i(r)} - p_{i(r)} \big|, \quad
        q_{(1)} \ge q_{(2)} \ge \dots, \text{ the shorter one continued by probabilities of } 0

    It ignores which token is which: a student that is exactly as sure of the wrong word as the teacher is of the right
    one has loss 0. So never use it without cross-entropy with the text, as the paper never does.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        teacher_logits: Raw scores, shape ``(..., V')``; V' may differ. Treated as a constant. Position i of both must
            be about the same place in the text.
        mask: :math:`m`, True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Scalar loss in [0, 2], no unit: twice the total variation of the sorted distributions.

    Raises:
        TypeError: If the logits are not floating-point tensors or the mask is no bool tensor.
        ValueError: If leading axes differ, the mask doesn't fit, no token is there or the temperature is not positive.

    Example:
        >>> sure = torch.tensor([[200.0, 0.0, 0.0]])
        >>> universal_logit_loss(sure, torch.tensor([[0.0, 200.0]])), universal_logit_loss(sure, torch.zeros(1, 2))
        (tensor(0.), tensor(1.))

    Source: Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs",
    TMLR 2025, https://arxiv.org/abs/2402.12030, Section 3, without its cross-entropy.
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    if student_logits.shape[:-1] != teacher_logits.shape[:-1]:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"both logits need the same tokens, got {shapes}: one row per place in the text")
    _check_not_empty(student_logits)
    _check_mask(mask, student_logits.shape[:-1])
    _check_temperature(temperature)
    student, teacher = _kept(student_logits, mask), _kept(teacher_logits.detach(), mask)
    q, p = (F.softmax(z / temperature, dim=-1).sort(dim=-1, descending=True).values for z in (student, teacher))
    missing = q.shape[-1] - p.shape[-1]
    q, p = F.pad(q, (0, max(-missing, 0))), F.pad(p, (0, max(missing, 0)))
    return _mean_over((q - p.to(q.dtype)).abs().sum(dim=-1), mask)


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    """In at least float32, with zeros where nothing counts, so that not even NaN gets through."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


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


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
