"""From one sense to another: the student learns from a teacher that sees the same moment with another sensor.

Source: Gupta, Hoffman and Malik, "Cross Modal Distillation for Supervision Transfer", CVPR 2016,
https://arxiv.org/abs/1507.00448; Huo et al., "C2KD: Bridging the Modality Gap for Cross-Modal Knowledge Distillation",
CVPR 2024. Soft targets across senses are ``soft_target_loss``, contrastive alignment is ``info_nce_loss``.
Lesson: notebooks/07_cross_modal.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B pairs (row i of both sides is one moment), C classes or channels; ``...`` is any number of axes. Classes are
on the last axis, or on ``class_dim``: 1 for images ``(B, C, H, W)``, where every place is a pair.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["paired_feature_loss", "rank_agreement", "select_agreeing", "selected_soft_target_loss"]


def paired_feature_loss(
    student_features: Tensor,  # (B, C, ...)
    teacher_features: Tensor,  # (B, C, ...)
) -> Tensor:  # ()
    r"""Mean squared error between the two sensors' features of the same moments: supervision transfer.

    .. math::
        \frac1N \sum_{n=1}^{N} (f^s_n - f^t_n)^2, \quad N = B \cdot C \cdots

    It needs pairs and no labels. Row i of both sides must be the same moment: shuffle the pairs together, or the
    student learns the teacher's mean.

    Args:
        student_features: :math:`f^s` of the student's sensor, shape ``(B, C, ...)``. Receives the gradient.
        teacher_features: :math:`f^t` of the teacher's sensor, same shape. Treated as a constant.

    Returns:
        Scalar loss, in squared units of the features, at least 0; 0 exactly where the two agree.

    Raises:
        TypeError, ValueError: If the features are not floating-point tensors of one shape, or empty.

    Example:
        >>> paired_feature_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]]))  # (0 + 9) / 2
        tensor(4.5000)

    Source: Gupta et al. 2016, equation 1, with the Euclidean loss of their experiments, as a mean over elements.
    """
    _check_paired(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    return (student_features.to(dtype) - teacher_features.detach().to(dtype)).square().mean()


def rank_agreement(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    class_dim: int = -1,
) -> Tensor:  # (...)
    r"""Do the two rank the classes alike? Kendall's rank correlation with ties (tau-b), per example.

    .. math::
        \tau_b = \frac{\sum_{c,d} s_{cd}\, t_{cd}}{\sqrt{\sum_{c,d} s_{cd}^2 \, \sum_{c,d} t_{cd}^2}}, \quad
        s_{cd} = \mathrm{sign}(z^s_c - z^s_d), \; t_{cd} = \mathrm{sign}(z^t_c - z^t_d)

    Only order counts, so a student of another scale, or an untrained one, can be compared. No gradient reaches either
    side: use it to choose examples, not as a loss. Kendall's tau has nothing to do with a temperature.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. No gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. No gradient.
        class_dim: The axis of the classes.

    Returns:
        Correlation per example, shape ``(B,)``, no unit, in [-1, 1]: 1 for the same order, -1 for the reverse, 0 where
        a row is constant, NaN where it holds a NaN, which has no rank. Memory grows as B·C²: for thousands of classes,
        call it on parts of the batch.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors of one shape, or empty.

    Example:
        >>> student = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> rank_agreement(student, torch.tensor([[9.0, 1.0, 0.0], [9.0, 0.0, 1.0]]))  # (3 - 0)/3, (2 - 1)/3
        tensor([1.0000, 0.3333])

    Source: Kendall, "The Treatment of Ties in Ranking Problems", Biometrika 33, 1945; to choose examples: Huo et al.
    2024, whose code calls SciPy example by example. SciPy's value for a constant row is NaN.
    """
    _check_pairs(student_logits, teacher_logits, class_dim)
    student, teacher = (z.detach().movedim(class_dim, -1) for z in (student_logits, teacher_logits))
    own, other = _order(student), _order(teacher)
    agreeing = (own * other).sum(dim=(-2, -1))
    pairs = own.abs().sum(dim=(-2, -1)) * other.abs().sum(dim=(-2, -1))
    unranked = (student.isnan() | teacher.isnan()).any(dim=-1)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    correlation = agreeing.to(dtype) / pairs.clamp(min=1).to(dtype).sqrt()
    return correlation.clamp(-1, 1).masked_fill(unranked, math.nan)


def select_agreeing(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    threshold: float = 0.0,
    class_dim: int = -1,
) -> Tensor:  # (...)
    r"""Examples on which student and teacher rank the classes alike: the only ones that C2KD distils from.

    .. math::
        m_i = [\, \tau_b(z^s_i, z^t_i) > \theta \,]

    Where the two sensors tell different stories, the teacher's soft target misleads. The choice is made anew in every
    step, so it changes as the student learns.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. No gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. No gradient.
        threshold: :math:`\theta` in [-1, 1], a rank correlation. 0 is the authors'; 1 selects nothing.
        class_dim: The axis of the classes.

    Returns:
        True where selected, shape ``(B,)``, bool. An example with a constant row (correlation 0) is not selected at the
        default threshold. One with a NaN *is*, so that the loss says so: where a sensor may be missing, select
        ``& present``.

    Raises:
        TypeError, ValueError: As in ``rank_agreement``; if the threshold is outside [-1, 1].

    Example:
        >>> student = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> select_agreeing(student, torch.tensor([[9.0, 1.0, 0.0], [0.0, 1.0, 9.0]]))
        tensor([ True, False])

    Source: Huo et al. 2024, on-the-fly selection distillation; the default threshold is that of the authors' code.
    """
    _check_numbers(threshold=threshold)
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold must be in [-1, 1], got {threshold}: it is a rank correlation, not a share")
    return ~(rank_agreement(student_logits, teacher_logits, class_dim=class_dim) <= threshold)  # NaN is selected


def selected_soft_target_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    selected: Tensor,  # (...)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Temperature squared times the mean divergence from the teacher over the selected examples.

    .. math::
        \frac{\tau^2}{\sum_i m_i} \sum_i m_i \, \mathrm{KL}(p_i \,\|\, q_i)

    The mean is over what was selected, so the loss does not shrink when few examples are. With all selected it is
    ``soft_target_loss``. What stands in the other rows does not matter, not even NaN.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient; unselected rows
            get 0.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        selected: :math:`m`, True where an example counts, shape ``(B,)``, bool, from ``select_agreeing``.
        temperature: :math:`\tau > 0`, applied to both: a number, or one per example, shape ``(B, 1)``.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, at least 0; infinite where the student lacks a class that the teacher
        has. Nothing selected gives 0, with a gradient of 0.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the batch is empty, or the temperature is not
            positive, above a million, or of a shape that is neither () nor one per example.

    Example:
        >>> fair, certain = torch.zeros(2, 2), torch.tensor([[50.0, 0.0], [0.0, 50.0]])
        >>> selected_soft_target_loss(fair, certain, torch.tensor([True, False]))  # log 2, of the first alone
        tensor(0.6931)

    Source: Huo et al. 2024, who distil the classes other than the label's (``nontarget_class_divergence``, masked
    likewise). Their code multiplies the label's logit by 0, which leaves it in the softmax; its mean divides by B, and
    where nothing is selected its loss is a constant.
    """
    _check_pairs(student_logits, teacher_logits, class_dim)
    _check_selection(selected, student_logits, class_dim)
    _check_temperature(temperature, student_logits, class_dim)
    dtype, others = _precision(student_logits, temperature), ~selected.unsqueeze(class_dim)
    student, teacher = (z.to(dtype).masked_fill(others, 0) for z in (student_logits, teacher_logits.detach()))
    log_q, log_p = (F.log_softmax(z / temperature, dim=class_dim) for z in (student, teacher))
    divergence = _kl(log_q, log_p, class_dim)  # rows of zeros on both sides add exactly 0
    loss = (divergence * _per_example(temperature, class_dim) ** 2).sum() / selected.sum().clamp(min=1)
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def _order(logits: Tensor) -> Tensor:  # (..., C) -> (..., C, C)
    """At (i, c, d): 1 where class c is ranked above class d, -1 where below, 0 where they tie."""
    first, second = logits[..., :, None], logits[..., None, :]
    return (first > second).to(torch.int8) - (first < second).to(torch.int8)


def _check_pairs(student: Tensor, teacher: Tensor, class_dim: int) -> None:
    _check_logits(student, class_dim)
    _check_logits(teacher, class_dim)
    if student.shape != teacher.shape or student.dim() < 2 or student.numel() == 0:
        raise ValueError(
            f"student's and teacher's logits must both be (B, C), not empty, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: the pairs of a batch are rows, and both sides know the same classes"
        )


def _check_selection(selected: object, logits: Tensor, class_dim: int) -> None:
    if not isinstance(selected, Tensor) or selected.dtype != torch.bool:
        kind = selected.dtype if isinstance(selected, Tensor) else type(selected).__name__
        raise TypeError(f"selected must be a bool tensor (B,), got {kind}: compare, don't round")
    if selected.shape != logits.select(class_dim, 0).shape:
        raise ValueError(f"selected must be a bool tensor (B,), got {tuple(selected.shape)} for {tuple(logits.shape)}")


def _check_paired(student: Tensor, teacher: Tensor) -> None:
    for side, features in (("student", student), ("teacher", teacher)):
        if not isinstance(features, Tensor):
            raise TypeError(f"the {side}'s features must be a tensor, got {type(features).__name__}: take activations")
        if not features.is_floating_point():
            raise TypeError(f"the {side}'s features must be floating point, got {features.dtype}: take activations")
        if features.dim() < 2 or features.numel() == 0:
            raise ValueError(f"the {side}'s features must be (B, C, ...), not empty, got {tuple(features.shape)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"features must have the same shape, got {tuple(student.shape)} from the student and "
            f"{tuple(teacher.shape)} from the teacher: match channels with a regressor (HintRegressor), "
            "and sizes by pooling the larger map (F.adaptive_avg_pool2d)"
        )


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
