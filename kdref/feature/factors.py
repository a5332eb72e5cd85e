"""Factor transfer: the teacher's features are first paraphrased by an autoencoder, and the student copies the factors.

Source: Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
https://arxiv.org/abs/1802.04977 (FT). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels, F factors; maps are (B, C, H, W) or (B, C, L).
"""

import numbers
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Paraphraser", "Translator", "factor_transfer_loss"]


def factor_transfer_loss(
    student_factors: Tensor,  # (B, F, ...)
    teacher_factors: Tensor,  # (B, F, ...)
) -> Tensor:  # ()
    r"""Mean absolute difference of the two networks' factors, each example's brought to length 1.

    .. math::
        \frac1N \sum_{b,n} \left| \frac{F^s_{bn}}{\|F^s_b\|_2} - \frac{F^t_{bn}}{\|F^t_b\|_2} \right|, \quad
        N = B \cdot F \cdot H \cdot W

    The norm runs over *all* of an example's factors and places. (RepDistiller's class squares the factors and averages
    them over channels first, which is an attention map, not the paper's loss.) With length 1 over thousands of
    elements the mean is small, hence the authors' weight of 500.

    Args:
        student_factors: :math:`F^s` of a :class:`Translator`, shape ``(B, F, ...)``. Receives the gradient.
        teacher_factors: :math:`F^t` of a trained :class:`Paraphraser`, same shape. Treated as a constant.

    Returns:
        Scalar loss, no unit, at least 0. A positive scale of either side, for each example, changes nothing.

    Raises:
        TypeError: If the factors are not floating point.
        ValueError: If the shapes differ or a tensor is empty.

    Example:
        >>> factor_transfer_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))  # (|0.6 - 0| + |0.8 - 1|) / 2
        tensor(0.4000)

    Source: Kim et al. 2018, the factor transfer loss with p = 1; the mean over elements is that of the authors' code.
    """
    _check_matching(student_factors, teacher_factors)
    dtype = torch.promote_types(student_factors.dtype, torch.float32)
    student, teacher = student_factors.to(dtype).flatten(1), teacher_factors.detach().to(dtype).flatten(1)
    return F.l1_loss(_unit_length(student), _unit_length(teacher))


class Paraphraser(nn.Module):
    r"""Autoencoder of the teacher's last maps: its code is what the student will copy.

    Three 3×3 convolutions down to the factors and three transposed ones back, each with a leaky ReLU of slope 0.1.
    Train it alone, by :meth:`reconstruction_loss`, before the student sees it; then freeze it.

    Args:
        teacher_channels: Channels of the teacher's maps, at least 1.
        factor_channels: Channels F of the code, at least 1. The paper found half the teacher's best.

    Raises:
        TypeError, ValueError: If a number of channels is not a positive whole number.

    Example:
        >>> paraphraser = Paraphraser(16, 8)
        >>> paraphraser(torch.zeros(2, 16, 5, 5)).shape  # the factors
        torch.Size([2, 8, 5, 5])

    Source: Kim et al. 2018, Section 3.1; the layers are those of the authors' code.
    """

    def __init__(self, teacher_channels: int, factor_channels: int) -> None:
        """Build encoder and decoder."""
        super().__init__()
        self.encoder = _encoder(teacher_channels, factor_channels)
        widths = [factor_channels, factor_channels, teacher_channels, teacher_channels]
        layers = [nn.ConvTranspose2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.decoder = nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(0.1))))

    def forward(self, teacher_maps: Tensor) -> Tensor:
        """Compute the factors.

        Args:
            teacher_maps: Shape ``(B, teacher_channels, H, W)`` or ``(B, teacher_channels, L)``. Treated as a constant.

        Returns:
            Factors, shape ``(B, factor_channels, H, W)`` or ``(B, factor_channels, L)``.

        Raises:
            TypeError, ValueError: If the maps are not floating point or don't have the channels.
        """
        return _on_images(self.encoder, _constant(teacher_maps))

    def reconstruction_loss(self, teacher_maps: Tensor) -> Tensor:  # ()
        """Mean absolute error of the decoded factors, as in the authors' code.

        Args:
            teacher_maps: Shape ``(B, teacher_channels, H, W)`` or ``(B, teacher_channels, L)``. Treated as a constant;
                the gradient goes to the paraphraser.

        Returns:
            Scalar loss, in the features' unit, at least 0.

        Raises:
            TypeError, ValueError: If the maps are not floating point, are empty or don't have the channels.
        """
        decoded = _on_images(nn.Sequential(self.encoder, self.decoder), _constant(teacher_maps))
        _check_matching(decoded, teacher_maps)
        dtype = torch.promote_types(decoded.dtype, torch.float32)
        return F.l1_loss(decoded.to(dtype), teacher_maps.detach().to(dtype))


class Translator(nn.Module):
    r"""The student's side: three 3×3 convolutions that bring its maps to the teacher's factors.

    Give its parameters to the optimiser beside the student's; it is thrown away afterwards.

    Args:
        student_channels: Channels of the student's maps, at least 1.
        factor_channels: Channels F of the paraphraser's code, at least 1.

    Raises:
        TypeError, ValueError: If a number of channels is not a positive whole number.

    Example:
        >>> Translator(4, 8)(torch.zeros(2, 4, 5, 5)).shape
        torch.Size([2, 8, 5, 5])

    Source: Kim et al. 2018, Section 3.2; the layers are those of the authors' code.
    """

    def __init__(self, student_channels: int, factor_channels: int) -> None:
        """Build the encoder."""
        super().__init__()
        self.encoder = _encoder(student_channels, factor_channels)

    def forward(self, student_maps: Tensor) -> Tensor:
        """Compute the student's factors.

        Args:
            student_maps: Shape ``(B, student_channels, H, W)`` or ``(B, student_channels, L)``. Receives a gradient.

        Returns:
            Factors, shape ``(B, factor_channels, H, W)`` or ``(B, factor_channels, L)``.

        Raises:
            TypeError, ValueError: If the maps are not floating point or don't have the channels.
        """
        return _on_images(self.encoder, student_maps)


def _constant(teacher_maps: Tensor) -> Tensor:
    """A copy without gradient: what was made in inference mode can't be kept for a layer's backward pass."""
    _check_activations(teacher_maps, "the teacher's maps")
    return teacher_maps.detach().clone()


def _encoder(channels: int, factors: int) -> nn.Sequential:
    _check_counts(channels=channels, factor_channels=factors)
    widths = [channels, channels, factors, factors]
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(0.1))))


def _on_images(layers: nn.Sequential, maps: Tensor) -> Tensor:
    """Apply 2-D layers, to signals (B, C, L) as to images of height 1."""
    _check_activations(maps, "maps")
    first = next(layers.parameters())  # (out, in, 3, 3)
    if maps.dim() not in (3, 4) or maps.shape[1] != first.shape[1]:
        raise ValueError(
            f"expected maps (B, {first.shape[1]}, H, W) or (B, {first.shape[1]}, L), got shape {tuple(maps.shape)}"
        )
    images = maps.to(first.dtype)
    mapped: Tensor = layers(images.unsqueeze(2) if maps.dim() == 3 else images)
    return mapped.squeeze(2) if maps.dim() == 3 else mapped


def _unit_length(rows: Tensor) -> Tensor:  # (..., N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=-1, eps=0.5)  # the norm is at least 1 unless the row is zero


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


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if int(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
