"""Features before the ReLU: copy what is active and how much, but of what is silent only that it is silent.

Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019, https://arxiv.org/abs/1904.01866
(OFD); Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI 2019,
https://arxiv.org/abs/1811.03233 (AB). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels; features are pre-activations (B, C), (B, C, L), (B, C, H, W) and so on. Match the
student's channels with a 1×1 convolution first (the authors add batch norm), and sizes by pooling the larger map.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["activation_boundary_loss", "margin_relu", "negative_margin", "overhaul_loss"]


def margin_relu(
    x: Tensor,  # (B, C, ...)
    margin: Tensor,  # (C,)
) -> Tensor:  # (B, C, ...)
    r"""ReLU that stops at a negative margin instead of zero: the teacher's features as a student should copy them.

    .. math::
        \sigma_m(x)_{bc} = \max(x_{bc}, m_c)

    Args:
        x: Pre-activations, shape ``(B, C, ...)``. Receives a gradient where it is above the margin.
        margin: :math:`m_c \le 0`, one for each channel, shape ``(C,)``.

    Returns:
        Features, same shape and unit, each at least its channel's margin.

    Raises:
        TypeError, ValueError: If one of them is no floating-point tensor, or the margin is not ``(C,)`` or, which is
            looked at on the CPU only, above 0.

    Example:
        >>> margin_relu(torch.tensor([[2.0, -0.5, -3.0]]), torch.tensor([-1.0, -1.0, -1.0]))
        tensor([[ 2.0000, -0.5000, -1.0000]])

    Source: Heo et al. 2019 (OFD), equation 2.
    """
    _check_margin(x, margin)
    return torch.maximum(x, _on_channels(margin, x))


def negative_margin(batchnorm: nn.Module) -> Tensor:  # (C,)
    r"""The margin of each channel: the expected value of a negative response, from the teacher's batch norm.

    .. math::
        m_c = E[x \mid x < 0] = \mu_c - \sigma_c\,\frac{\varphi(\mu_c / \sigma_c)}{\Phi(-\mu_c / \sigma_c)},
        \qquad x \sim N(\mu_c, \sigma_c^2)

    The mean after batch norm is its *bias* and the standard deviation the size of its *weight*; the running
    statistics are those before it. Where :math:`\Phi(-\mu/\sigma) \le 0.001` the authors' code returns
    :math:`-3\sigma`, ten times the expected value there; we keep the formula, which has no jump and is the
    definition. With no batch norm before the ReLU, average the negative responses of each channel over the data.

    Args:
        batchnorm: The layer just before the teacher's ReLU, ``nn.BatchNorm1d``, ``2d`` or ``3d``. Not changed.

    Returns:
        Margins, shape ``(C,)``, at most 0, in the features' unit, without gradient; 0 for a channel that is constant
        at or above 0.

    Raises:
        TypeError: If it is not a batch norm.

    Example:
        >>> negative_margin(nn.BatchNorm2d(2))  # standard normal: -√(2/π)
        tensor([-0.7979, -0.7979])

    Source: Heo et al. 2019 (OFD), equation 3 and Appendix A.
    """
    if not isinstance(batchnorm, nn.modules.batchnorm._BatchNorm):
        raise TypeError(f"needs a batch norm layer, got {type(batchnorm).__name__}: pass the one before the ReLU")
    if not batchnorm.affine:
        return torch.full((batchnorm.num_features,), -math.sqrt(2 / math.pi))
    mean = batchnorm.bias.detach().cpu().double()
    deviation = batchnorm.weight.detach().cpu().double().abs().clamp(min=1e-30)  # 0 would be 0/0
    # φ(a)/Φ(-a) = √(2/π) / erfcx(a/√2), where neither side under- nor overflows
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(mean / deviation / math.sqrt(2))
    margin: Tensor = (mean - deviation * hazard).clamp(max=0.0)
    return margin.to(batchnorm.weight.device, torch.promote_types(batchnorm.weight.dtype, torch.float32))


def overhaul_loss(
    student_features: Tensor,  # (B, C, ...)
    teacher_features: Tensor,  # (B, C, ...)
    margin: Tensor,  # (C,)
) -> Tensor:  # ()
    r"""Partial squared distance to the teacher's margin-ReLU features: no pull where both are silent.

    .. math::
        \frac1N \sum_n \begin{cases} 0 & f^t_n \le 0 \text{ and } f^s_n \le \sigma_m(f^t)_n \\
        (f^s_n - \sigma_m(f^t)_n)^2 & \text{otherwise} \end{cases}, \quad N = B \cdot C \cdot H \cdot W

    Both sides are taken *before* the ReLU. The paper sums over elements and the authors' code divides by B and 1000;
    the mean keeps the weight independent of the map's size. (Their code also runs the teacher in train mode, so that
    its batch norm follows the student's batches and drifts.)

    Args:
        student_features: :math:`f^s`, pre-activations, shape ``(B, C, ...)``. Receives the gradient.
        teacher_features: :math:`f^t`, pre-activations, same shape. Treated as a constant.
        margin: :math:`m_c`, shape ``(C,)``, of :func:`negative_margin`. Treated as a constant.

    Returns:
        Scalar loss, in squared units of the features, at least 0.

    Raises:
        TypeError, ValueError: As in ``margin_relu``; if the shapes differ or a tensor is empty.

    Example:
        >>> student, teacher = torch.tensor([[-5.0, 0.5, 1.0]]), torch.tensor([[-2.0, -2.0, 3.0]])
        >>> overhaul_loss(student, teacher, torch.tensor([-1.0, -1.0, -1.0]))  # (0 + 1.5² + 2²) / 3
        tensor(2.0833)

    Source: Heo et al. 2019 (OFD), equations 4 and 5.
    """
    _check_matching(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    student, teacher = student_features.to(dtype), teacher_features.detach().to(dtype)
    _check_margin(teacher, margin)
    target = margin_relu(teacher, margin.to(dtype))
    free = (teacher <= 0) & (student <= target)
    return F.mse_loss(torch.where(free, target, student), target)


def activation_boundary_loss(
    student_features: Tensor,  # (B, C, ...)
    teacher_features: Tensor,  # (B, C, ...)
    *,
    margin: float = 1.0,
) -> Tensor:  # ()
    r"""Squared hinge on the *sign* of each neuron: which are active, not how much.

    .. math::
        \frac1N \sum_n \max(0, \mu - a_n f^s_n)^2, \quad a_n = \begin{cases} 1 & f^t_n > 0 \\ -1 & f^t_n \le 0
        \end{cases}, \quad N = B \cdot C \cdot H \cdot W

    Take features *before* the ReLU: after it nothing is negative, and the student could not satisfy the margin. It is
    0 only where every neuron is on the teacher's side by the margin, not where the features are equal. The authors
    use it to initialise the student, sum over elements and divide by B.

    Args:
        student_features: :math:`f^s`, pre-activations, shape ``(B, C, ...)``. Receives the gradient.
        teacher_features: :math:`f^t`, pre-activations, same shape. Only their sign matters. Treated as a constant.
        margin: :math:`\mu > 0`, in the student's units.

    Returns:
        Scalar loss, in squared units of the student's features, at least 0.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes differ, a tensor is empty, or the margin is not positive.

    Example:
        >>> activation_boundary_loss(torch.tensor([[2.0, 0.5, 0.5]]), torch.tensor([[9.0, 9.0, -9.0]]))
        tensor(0.8333)

    Source: Heo et al. 2019 (AB), the alternative loss of Section 3. The example: (0 + 0.5² + 1.5²) / 3.
    """
    _check_matching(student_features, teacher_features)
    _check_numbers(margin=margin)
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be positive and finite, got {margin}: at 0 any sign and zero itself would do")
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    teacher = teacher_features.detach()
    side = torch.where(teacher > 0, 1.0, -1.0).masked_fill(teacher.isnan(), math.nan)
    return F.relu(margin - side * student_features.to(dtype)).square().mean()


def _on_channels(margin: Tensor, features: Tensor) -> Tensor:  # (C,) -> (C, 1, ...)
    """A copy without gradient: what was made in inference mode can't be kept for the backward pass."""
    return margin.detach().clone().reshape(-1, *[1] * (features.dim() - 2))


def _check_margin(features: Tensor, margin: Tensor) -> None:
    _check_activations(features, "features")
    _check_activations(margin, "the margin")
    if features.dim() < 2 or margin.shape != features.shape[1:2]:
        raise ValueError(
            f"the margin must hold one value for each channel on axis 1, got shapes {tuple(margin.shape)} and "
            f"{tuple(features.shape)}: see negative_margin"
        )
    if margin.device.type == "cpu" and not torch.compiler.is_compiling() and (margin > 0).any():  # else it costs a sync
        raise ValueError(
            f"the margin must be at most 0, got {margin.max().item()}: it is an expected negative response"
        )


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
