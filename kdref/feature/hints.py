"""Hints: the student's inner features, through a small regressor, predict the teacher's.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, https://arxiv.org/abs/1412.6550; Ahn et al.,
"Variational Information Distillation for Knowledge Transfer", CVPR 2019, https://arxiv.org/abs/1904.05835 (VID).
Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels; features are vectors (B, C) or maps (B, C, L), (B, C, H, W) and so on. Channels may
differ, the regressor maps them; sizes may not: pool the larger map first (``F.adaptive_avg_pool2d``), or use
``attention_transfer_loss`` or ``neuron_selectivity_loss``, which do so themselves.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HintRegressor", "VariationalRegressor", "hint_loss"]


def hint_loss(
    student_features: Tensor,  # (B, C, ...), after the regressor
    teacher_features: Tensor,  # (B, C, ...)
) -> Tensor:  # ()
    r"""Mean squared error between the student's regressed features and the teacher's: the oldest feature loss.

    .. math::
        \frac{1}{N} \sum_{n=1}^{N} (r(f^s)_n - f^t_n)^2, \quad N = B \cdot C \cdot H \cdot W

    The mean runs over every element: ``reduction="batchmean"`` would be C·H·W times larger. The paper's equation 3 is
    half the *sum* over elements; the mean, which all later code uses, keeps the weight independent of the map's size.

    Args:
        student_features: :math:`r(f^s)`, shape ``(B, C, ...)``. Receives the gradient.
        teacher_features: :math:`f^t`, same shape. Treated as a constant.

    Returns:
        Scalar loss, in squared units of the features, at least 0; 0 exactly where the two agree.

    Raises:
        TypeError: If the features are not floating point.
        ValueError: If the shapes differ or a tensor is empty.

    Example:
        >>> hint_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]]))  # (0 + 9) / 2
        tensor(4.5000)

    Source: Romero et al. 2015, equation 3.
    """
    _check_matching(student_features, teacher_features)
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    return (student_features.to(dtype) - teacher_features.detach().to(dtype)).square().mean()


class HintRegressor(nn.Module):
    r"""The learnt map from the student's channels to the teacher's, one for all positions; thrown away afterwards.

    .. math::
        r(f)_{\cdot hw} = W f_{\cdot hw} + b

    On maps this is a 1×1 convolution, on vectors a linear layer. Give its parameters to the optimiser beside the
    student's. A strong regressor can fit the teacher by itself, and the student then learns little: keep it small.
    FitNets used larger kernels to shrink maps, RepDistiller adds batch norm and ReLU; neither is part of the idea.

    Args:
        student_channels: Channels of the student's features, at least 1.
        teacher_channels: Channels of the teacher's features, at least 1.

    Raises:
        TypeError, ValueError: If a number of channels is not a positive whole number.

    Example:
        >>> HintRegressor(16, 64)(torch.zeros(8, 16, 5, 5)).shape
        torch.Size([8, 64, 5, 5])
        >>> HintRegressor(16, 64)(torch.zeros(8, 16)).shape
        torch.Size([8, 64])

    Source: Romero et al. 2015, Section 2.2.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        """Draw the weights as torch draws those of a linear layer."""
        super().__init__()
        _check_counts(student_channels=student_channels, teacher_channels=teacher_channels)
        self.projection = nn.Conv1d(student_channels, teacher_channels, kernel_size=1)

    def forward(self, student_features: Tensor) -> Tensor:
        """Map every position's channels.

        Args:
            student_features: Shape ``(B, student_channels, ...)``. Receives a gradient, as do the parameters.

        Returns:
            Shape ``(B, teacher_channels, ...)``, in the parameters' dtype.

        Raises:
            TypeError, ValueError: If the features are not floating point, or axis 1 does not hold the student's
                channels.
        """
        return _map_channels(self.projection, student_features)


class VariationalRegressor(nn.Module):
    r"""Predicts the teacher's features as Gaussians: a mean from the student, a learnt variance for each channel.

    .. math::
        L = \frac1N \sum_{b,c,h,w} \tfrac12 \Big[\log \sigma_c^2 + \frac{(f^t - \mu(f^s))_{bchw}^2}{\sigma_c^2}\Big],
        \quad \sigma_c^2 = \mathrm{softplus}(\rho_c) + \epsilon

    Minimising it raises a lower bound of the mutual information between the two networks' features. Channels that
    the student can't predict get a large variance and so a small weight: for a fixed mean the loss is least where
    :math:`\sigma_c^2` is the channel's mean squared residual. It may be negative, since a density may exceed 1.

    Args:
        student_channels: Channels of the student's features, at least 1.
        teacher_channels: Channels of the teacher's features, at least 1; also the width of the two hidden layers.
        initial_variance: :math:`\sigma_c^2` at the start, greater than eps, in squared units of the features.
        eps: :math:`\epsilon > 0`, the least variance.

    Raises:
        TypeError, ValueError: If a number of channels is not a positive whole number, or not
            0 < eps < initial_variance < infinity.

    Example:
        >>> regressor = VariationalRegressor(16, 64, initial_variance=1.0)
        >>> regressor.variance[0]
        tensor(1., grad_fn=<SelectBackward0>)
        >>> regressor.loss(torch.zeros(8, 16, 5, 5), torch.ones(8, 64, 5, 5))  # no bias: the mean of zeros is 0
        tensor(0.5000, grad_fn=<MulBackward0>)

    Source: Ahn et al. 2019, Section 3: the Gaussian of equation 5 without its constant :math:`\tfrac12\log 2\pi`, as a
    mean, not a sum, over elements. Three 1×1 layers with ReLU and no bias are those of the authors' code as
    RepDistiller keeps it, which writes log(1 + exp(ρ)) and so overflows at ρ = 89.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        initial_variance: float = 5.0,
        eps: float = 1e-6,
    ) -> None:
        """Build the mean's layers, and place the variance's parameter."""
        super().__init__()
        _check_counts(student_channels=student_channels, teacher_channels=teacher_channels)
        _check_numbers(initial_variance=initial_variance, eps=eps)
        if not 0 < eps < initial_variance < math.inf:
            raise ValueError(
                f"need 0 < eps < initial_variance < inf, got {eps} and {initial_variance}: "
                "eps is the least variance, the initial one is in squared units of the features"
            )
        self.eps = eps
        self.mean = nn.Sequential(
            nn.Conv1d(student_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv1d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv1d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
        )
        start = initial_variance - eps
        inverse_softplus = start + math.log(-math.expm1(-start))
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), inverse_softplus))

    @property
    def variance(self) -> Tensor:  # (teacher_channels,)
        r"""The channels' variances :math:`\sigma_c^2`, each above eps."""
        return F.softplus(self.raw_variance) + self.eps

    def forward(self, student_features: Tensor) -> Tensor:
        r"""Predict the teacher's features: the mean :math:`\mu(f^s)`.

        Args:
            student_features: Shape ``(B, student_channels, ...)``. Receives a gradient, as do the parameters.

        Returns:
            Shape ``(B, teacher_channels, ...)``, in the parameters' dtype.

        Raises:
            TypeError, ValueError: If the features are not floating point, or axis 1 does not hold the student's
                channels.
        """
        return _map_channels(self.mean, student_features)

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:  # ()
        """Negative log-likelihood of the teacher's features, up to a constant, averaged over every element.

        Args:
            student_features: Shape ``(B, student_channels, ...)``. Receives the gradient, as do the parameters.
            teacher_features: Shape ``(B, teacher_channels, ...)``, same sizes. Treated as a constant.

        Returns:
            Scalar loss in nats; may be negative.

        Raises:
            TypeError: If the features are not floating point.
            ValueError: If channels or sizes don't fit.
        """
        mean: Tensor = self(student_features)
        _check_matching(mean, teacher_features)
        dtype = torch.promote_types(mean.dtype, torch.float32)
        residual = teacher_features.detach().to(dtype) - mean.to(dtype)
        squared = residual.square().mean(dim=[axis for axis in range(residual.dim()) if axis != 1])  # per channel
        variance = self.variance.to(dtype)
        return 0.5 * (variance.log() + squared / variance).mean()


def _map_channels(layers: nn.Module, features: Tensor) -> Tensor:
    """Apply 1×1 layers at every position, whatever the number of spatial axes."""
    _check_activations(features, "the student's features")
    first = next(layers.parameters())  # (out, in, 1)
    if features.dim() < 2 or features.shape[1] != first.shape[1]:
        raise ValueError(
            f"expected features (B, {first.shape[1]}, ...), got shape {tuple(features.shape)}: "
            "axis 1 must hold the student's channels the regressor was built for"
        )
    flat = features.flatten(2) if features.dim() > 2 else features.unsqueeze(-1)
    mapped: Tensor = layers(flat.to(first.dtype))
    return mapped.reshape(*mapped.shape[:2], *features.shape[2:])


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


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if int(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
