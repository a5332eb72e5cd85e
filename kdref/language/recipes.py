"""DistilBERT's recipe: a student that starts from every other layer of its teacher, and three losses.

Source: Sanh et al., "DistilBERT, a distilled version of BERT", NeurIPS EMC² Workshop 2019,
https://arxiv.org/abs/1910.01108.
Lesson: notebooks/11_language_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words or classes, D features; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["alternate_layers", "cosine_hidden_loss", "distilbert_loss"]


def alternate_layers(
    num_teacher_layers: int,
    num_student_layers: int,
    *,
    keep_last: bool = False,
) -> list[int]:
    r"""Which of the teacher's layers a shallower student starts from: every other one, at half the depth.

    .. math::
        \lfloor i\,T/S \rfloor \quad \text{or, with the last kept, } \mathrm{round}\big(i\,(T-1)/(S-1)\big),
        \quad i = 0 \dots S - 1

    Copy these layers' weights into the student's, in this order, and the embeddings as they are.

    Args:
        num_teacher_layers: :math:`T`.
        num_student_layers: :math:`S`, from 1 to T.
        keep_last: Spread the layers from the first to the last. The paper takes "one layer out of two"; its code,
            for 12 to 6, takes 0, 2, 4, 7, 9, 11, which is this.

    Returns:
        Indices from 0, ascending, as many as the student has layers. One layer is the first.

    Raises:
        ValueError: If the student has no layer, or more than the teacher.

    Example:
        >>> alternate_layers(12, 6), alternate_layers(12, 6, keep_last=True)
        ([0, 2, 4, 6, 8, 10], [0, 2, 4, 7, 9, 11])

    Source: Sanh et al. 2019, Section 2, and the authors' script extract_distilbert.py.
    """
    _check_numbers(num_teacher_layers=num_teacher_layers, num_student_layers=num_student_layers)
    if not 1 <= num_student_layers <= num_teacher_layers:
        raise ValueError(f"need 1 to {num_teacher_layers} student layers, got {num_student_layers}")
    if keep_last and num_student_layers > 1:
        return [round(i * (num_teacher_layers - 1) / (num_student_layers - 1)) for i in range(num_student_layers)]
    return [i * num_teacher_layers // num_student_layers for i in range(num_student_layers)]


def cosine_hidden_loss(
    student_hidden: Tensor,  # (..., D)
    teacher_hidden: Tensor,  # (..., D)
    *,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""One minus the cosine of student's and teacher's hidden states, averaged over the tokens that count.

    .. math::
        \frac{1}{\sum_i m_i} \sum_i m_i \, \Big(1 - \frac{h^s_i \cdot h^t_i}{\|h^s_i\| \, \|h^t_i\|}\Big)

    It ties directions, so student and teacher need the same width and the same axes, which a student copied from the
    teacher's layers has.

    Args:
        student_hidden: :math:`h^s`, shape ``(..., D)``. Receives the gradient.
        teacher_hidden: :math:`h^t`, same shape. Treated as a constant.
        mask: :math:`m`, True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss in [0, 2], no unit. A row of zeros has cosine 0. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If the hidden states are not floating-point tensors or the mask is no bool tensor.
        ValueError: If the shapes differ or don't fit, or no token is there.

    Example:
        >>> cosine_hidden_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
        tensor(0.5000)

    Source: Sanh et al. 2019, Section 2; ``CosineEmbeddingLoss`` of the unmasked tokens in the authors' code.
    """
    for name, hidden in (("student_hidden", student_hidden), ("teacher_hidden", teacher_hidden)):
        _check_tensors(**{name: hidden})
        if not hidden.is_floating_point() or hidden.dim() == 0:
            raise TypeError(f"{name} must be floating point (..., D), got {hidden.dtype} {tuple(hidden.shape)}")
    _check_same_shape(student_hidden, teacher_hidden)
    _check_not_empty(student_hidden)
    _check_mask(mask, student_hidden.shape[:-1])
    student, teacher = _kept(student_hidden, mask), _kept(teacher_hidden.detach(), mask)
    similarity = (_directions(student) * _directions(teacher.to(student.dtype))).sum(dim=-1)
    return _mean_over(1 - similarity, mask)


def distilbert_loss(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V)
    student_hidden: Tensor,  # (..., D)
    teacher_hidden: Tensor,  # (..., D)
    labels: Tensor,  # (...)
    *,
    mask: Tensor | None = None,  # (...)
    soft_weight: float = 5.0,
    hard_weight: float = 2.0,
    hidden_weight: float = 1.0,
    temperature: float = 2.0,
) -> Tensor:  # ()
    r"""DistilBERT's triple loss: soft targets, labels, and the direction of the last hidden states.

    .. math::
        w_s \, \tau^2 \, \overline{\mathrm{KL}(p \,\|\, q)} \; + \; w_h \, \overline{-\log q_y}\big|_{\tau = 1}
        \; + \; w_c \, \overline{1 - \cos(h^s, h^t)}

    Each bar is a mean of its own: over the tokens that count, or over labels other than -100. (In the authors' script
    every token that is no padding has soft targets, masked or not; with ``--restrict_ce_to_mask``, which is off, the
    masked ones alone.) For a classifier the logits are one row per sequence, ``(B, C)``, and the mask then only
    concerns the hidden states ``(B, L, D)``. A word that the teacher lacks (its logit is -inf) counts nothing; one that
    the student lacks and the teacher has is infinite.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient, as the hidden states do.
        teacher_logits: Raw scores, same shape. Treated as a constant.
        student_hidden: :math:`h^s` of the last layer, shape ``(..., D)``.
        teacher_hidden: :math:`h^t`, same shape. Treated as a constant.
        labels: :math:`y`, int64, shape of the logits without their last axis; -100 where there is none (in masked
            language modelling, everywhere but at the masked words).
        mask: True where a token counts, shape of the hidden states without their last axis, bool.
        soft_weight: :math:`w_s \ge 0`.
        hard_weight: :math:`w_h \ge 0`.
        hidden_weight: :math:`w_c \ge 0`. The authors' README has 5, 2 and 1 in one command and 0.33 each in another.
        temperature: :math:`\tau > 0`, of the soft term only; 2 is the default of the authors' script.

    Returns:
        Scalar loss, at least 0. What has nothing to average over adds 0, with a gradient of 0.

    Raises:
        TypeError: If logits or hidden states are not floating point, labels not int64, the mask not bool or a setting
            no number.
        ValueError: If shapes don't fit, nothing is there, a label is (looked at on the CPU only) out of range, a weight
            is negative or the temperature is not positive or beyond a million.

    Example:
        >>> agree, hidden = torch.zeros(1, 2), torch.ones(1, 3)
        >>> distilbert_loss(agree, agree, hidden, hidden, torch.tensor([0]))  # twice log 2, of the label alone
        tensor(1.3863)

    Source: Sanh et al. 2019, Section 2, and the authors' distiller.py and README, which weigh the three differently.
    """
    _check_words(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    weights = {"soft_weight": soft_weight, "hard_weight": hard_weight, "hidden_weight": hidden_weight}
    _check_numbers(**weights)
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be 0 or more and finite, got {weight}")
    _check_temperature(temperature)
    _check_tensors(labels=labels)
    if labels.dtype != torch.int64 or labels.shape != student_logits.shape[:-1]:
        kind = TypeError if labels.dtype != torch.int64 else ValueError
        raise kind(f"labels must be int64 {tuple(student_logits.shape[:-1])}, got {labels.dtype} {tuple(labels.shape)}")
    hidden = cosine_hidden_loss(student_hidden, teacher_hidden, mask=mask)
    known = labels != -100
    labels = labels.masked_fill(~known, 0)
    _check_ids("labels", labels, student_logits.shape[-1], hint="-100 is no label")
    per_token = mask if mask is not None and mask.shape == labels.shape else None
    student, teacher = _kept(student_logits, per_token), _kept(teacher_logits.detach(), per_token)
    dtype = _precision(student, temperature)
    log_q, log_p = (F.log_softmax(z.to(dtype) / temperature, dim=-1) for z in (student, teacher))
    soft = (_mean_over(_kl(log_q, log_p, -1), per_token) * temperature**2).to(student.dtype)
    log_likelihood = F.log_softmax(_kept(student_logits, known), dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return soft_weight * soft - hard_weight * _mean_over(log_likelihood, known) + hidden_weight * hidden


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    """In at least float32, with zeros where nothing counts, so that not even NaN gets through."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


def _mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _directions(rows: Tensor) -> Tensor:
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    return F.normalize(rows / largest.masked_fill(largest == 0, 1.0), dim=-1, eps=0.5)


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


def _precision(logits: Tensor, temperature: float | Tensor) -> torch.dtype:
    """At least float32; float64 where a factor τ² would make its rounding errors as large as the loss."""
    large = not isinstance(temperature, Tensor) and temperature > 32
    if large and temperature > 1e6:
        raise ValueError(f"temperature {temperature} leaves rounding errors only: use logit_matching_loss, the limit")
    double = large and logits.device.type != "mps"  # Apple's GPUs have no float64
    return torch.promote_types(logits.dtype, torch.float64 if double else torch.float32)


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


def _check_ids(name: str, ids: Tensor, words: int, *, hint: str) -> None:
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = ids[(ids < 0) | (ids >= words)]
        if len(wrong):
            raise ValueError(f"{name} must be in [0, {words}), got {wrong[0].item()}: {hint}")


def _check_tensors(**tensors: object) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            whole = hasattr(value, "keys") or isinstance(value, tuple)
            hint = "take its .logits or .hidden_states" if whole else "use torch.as_tensor"
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}")


def _check_words(student: Tensor, teacher: Tensor) -> None:
    _check_logits(student)
    _check_logits(teacher)
    if student.shape != teacher.shape:
        n = min(student.shape[-1], teacher.shape[-1])
        cut = f": cut both to shared words, [..., :{n}], not -inf" if student.shape[:-1] == teacher.shape[:-1] else ""
        raise ValueError(f"both logits must be (..., V), got {tuple(student.shape)} and {tuple(teacher.shape)}{cut}")


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


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
