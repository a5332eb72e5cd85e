"""Masked generation: from a part of the student's map, the whole of the teacher's must be made.

Source: Yang et al., "Masked Generative Distillation", ECCV 2022, https://arxiv.org/abs/2205.01529 (MGD).
Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels; maps are (B, C, H, W) or (B, C, L).
"""

import numbers

import torch
from torch import Tensor, nn

__all__ = ["MaskedGeneration"]


class MaskedGeneration(nn.Module):
    r"""Hides places of the student's map at random, and guesses the teacher's whole map from what is left.

    .. math::
        \frac1N \sum_n \big( G(m \odot a(f^s))_n - f^t_n \big)^2, \quad P(m_{b1hw} = 0) = \lambda, \quad
        N = B \cdot C \cdot H \cdot W

    The aligning a is a 1×1 convolution where the channels differ, else nothing; the generation G is a 3×3 convolution,
    a ReLU and another 3×3 convolution. A mask hides a place in all channels, anew for each example and step, so the
    student's features must say something of their neighbours. Give the parameters to the optimiser beside the
    student's; the module is thrown away afterwards.

    Args:
        student_channels: Channels of the student's maps, at least 1.
        teacher_channels: Channels of the teacher's maps, at least 1.
        mask_ratio: :math:`\lambda` in [0, 1), the share of places that are hidden, on average.

    Raises:
        TypeError, ValueError: If a number of channels is not a positive whole number, or the ratio is outside [0, 1).

    Example:
        >>> generation = MaskedGeneration(16, 64)
        >>> generation(torch.zeros(8, 16, 5, 5)).shape
        torch.Size([8, 64, 5, 5])
        >>> generation.loss(torch.zeros(8, 16, 5, 5), torch.ones(8, 64, 5, 5)).shape
        torch.Size([])

    Source: Yang et al. 2022, Section 3. The authors' code sums over elements and divides by B, hence its weight of 2e-5
    for detection and segmentation, where it hides 65 % and 75 % of the places. For classification its weight is 7e-5,
    and it hides whole *channels* of the last map.
    """

    def __init__(self, student_channels: int, teacher_channels: int, *, mask_ratio: float = 0.5) -> None:
        """Build the convolutions, with torch's initial weights."""
        super().__init__()
        _check_counts(student_channels=student_channels, teacher_channels=teacher_channels)
        _check_numbers(mask_ratio=mask_ratio)
        if not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio must be in [0, 1), got {mask_ratio}: at 1 nothing of the student is left")
        self.mask_ratio, self.channels = mask_ratio, student_channels
        same = student_channels == teacher_channels
        self.align = nn.Identity() if same else nn.Conv2d(student_channels, teacher_channels, kernel_size=1)
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=3, padding=1),
        )

    def forward(self, student_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Guess the teacher's maps from the student's, a part of them hidden.

        Args:
            student_maps: Shape ``(B, student_channels, H, W)`` or ``(B, student_channels, L)``. Receives a gradient, as
                do the parameters.
            generator: For the mask, on the maps' device; torch's global one if None.

        Returns:
            Guess, shape ``(B, teacher_channels, H, W)`` or ``(B, teacher_channels, L)``, in the parameters' dtype.

        Raises:
            TypeError, ValueError: If the maps are not floating point or don't have the channels.
        """
        _check_activations(student_maps, "the student's features")
        if student_maps.dim() not in (3, 4) or student_maps.shape[1] != self.channels:
            form = f"(B, {self.channels}, H, W) or (B, {self.channels}, L)"
            raise ValueError(f"expected maps {form}, got shape {tuple(student_maps.shape)}")
        images = student_maps.unsqueeze(2) if student_maps.dim() == 3 else student_maps  # a signal has height 1
        aligned = self.align(images.to(next(self.parameters()).dtype))
        drawn = torch.rand(len(images), 1, *images.shape[2:], generator=generator, device=images.device)
        guess: Tensor = self.generation(aligned * (drawn >= self.mask_ratio))
        return guess.squeeze(2) if student_maps.dim() == 3 else guess

    def loss(
        self, student_maps: Tensor, teacher_maps: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:  # ()
        """Mean squared error of the guess, over every element: also where nothing was hidden.

        Args:
            student_maps: Shape ``(B, student_channels, H, W)`` or ``(B, student_channels, L)``. Receives the gradient,
                as do the parameters.
            teacher_maps: Shape ``(B, teacher_channels, H, W)`` or ``(B, teacher_channels, L)``. Treated as a constant.
            generator: For the mask, on the maps' device; torch's global one if None.

        Returns:
            Scalar loss, in squared units of the teacher's features, at least 0.

        Raises:
            TypeError, ValueError: If the maps are not floating point or empty, or channels or sizes don't fit.
        """
        guess: Tensor = self(student_maps, generator=generator)
        _check_matching(guess, teacher_maps)
        dtype = torch.promote_types(guess.dtype, torch.float32)
        return (guess.to(dtype) - teacher_maps.detach().to(dtype)).square().mean()


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
