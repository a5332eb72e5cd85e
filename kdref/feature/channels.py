"""Channel by channel: where over the image each of the teacher's channels is strongest.

Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2011.13256 (CWD). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels, H W the map's size; maps may as well be (B, C, L), or have three spatial axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["channel_wise_loss"]


def channel_wise_loss(
    student_maps: Tensor,  # (B, C, H, W)
    teacher_maps: Tensor,  # (B, C, H, W)
    *,
    temperature: float | Tensor = 4.0,
) -> Tensor:  # ()
    r"""Soft targets over places: each channel's map is a distribution over the image, and the student's shall be it.

    .. math::
        \frac{\tau^2}{B\,C} \sum_{b,c} \sum_{hw} p_{bchw} \log \frac{p_{bchw}}{q_{bchw}}, \quad
        p_{bc} = \mathrm{softmax}_{hw}(f^t_{bc} / \tau), \; q_{bc} = \mathrm{softmax}_{hw}(f^s_{bc} / \tau)

    The softmax runs over *places*, within a channel; over channels it would be ``soft_target_loss`` at every pixel,
    with ``class_dim=1``. It serves feature maps and a segmentation's logits alike; where channels differ, put a 1×1
    convolution (``HintRegressor``) on the student. A channel's level means nothing, its contrast does.

    Args:
        student_maps: :math:`f^s`, features or dense logits, shape ``(B, C, H, W)``. Receives the gradient.
        teacher_maps: :math:`f^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`, one number. The larger, the more places count.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, the mean over examples and channels, at least 0; 0 exactly where each
        channel differs by a constant.

    Raises:
        TypeError, ValueError: If the maps are not floating-point tensors of one shape, are empty or have one place
            only, or the temperature is not positive, above a million, or not one number.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[50.0, 0.0]]]])
        >>> channel_wise_loss(student, teacher, temperature=1.0)  # one of two places for sure: log 2
        tensor(0.6931)

    Source: Shu et al. 2021, Section 3, channel-wise distillation. The equation divides by C, the code by B too. Copies
    of the authors' code take the logarithm of a softmax, which is -inf far below the largest place.
    """
    _check_matching(student_maps, teacher_maps)
    if student_maps.dim() < 3 or student_maps[0, 0].numel() < 2:
        shape = tuple(student_maps.shape)
        raise ValueError(f"needs maps (B, C, H, W) or (B, C, L) of two places or more, got {shape}: see hint_loss")
    _check_temperature(temperature)
    dtype = _precision(student_maps, temperature)
    student, teacher = (maps.to(dtype).flatten(2) / temperature for maps in (student_maps, teacher_maps.detach()))
    divergence = _kl(F.log_softmax(student, dim=2), F.log_softmax(teacher, dim=2), dim=2)  # (B, C)
    return (divergence.mean() * temperature**2).to(torch.promote_types(student_maps.dtype, torch.float32))


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


def _check_matching(student: Tensor, teacher: Tensor) -> None:
    for side, features in (("student", student), ("teacher", teacher)):
        _check_activations(features, f"the {side}'s features")
        if features.dim() < 2 or features.numel() == 0:
            raise ValueError(f"the {side}'s features must be (B, C, ...), not empty, got {tuple(features.shape)}")
    if student.shape != teacher.shape:
        raise ValueError(
            f"features must have the same shape, got {tuple(student.shape)} from the student and "
            f"{tuple(teacher.shape)} from the teacher: match channels with a regressor (HintRegressor), "
            "and sizes by pooling the larger map (F.adaptive_avg_pool2d)"
        )


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")


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
