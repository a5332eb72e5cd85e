"""Reviewing: deep student features help to match shallow teacher features, compared at several scales.

Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, https://arxiv.org/abs/2104.09044
(ReviewKD). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels; maps are (B, C, H, W) or (B, C, L).
"""

import numbers
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ReviewFusion", "hierarchical_context_loss"]

LEVELS = (4, 2, 1)  # sizes to which maps are averaged, each with half the weight of the one before


def hierarchical_context_loss(
    student_maps: Tensor,  # (B, C, H, W), of ReviewFusion
    teacher_maps: Tensor,  # (B, C, H, W)
) -> Tensor:  # ()
    r"""Mean squared error of maps at full size and averaged to 4×4, 2×2 and 1×1: local detail and the whole picture.

    .. math::
        \frac{1}{\sum_k w_k} \sum_k w_k \, \mathrm{MSE}\big(P_k(f^s), P_k(f^t)\big), \quad
        w = 1, \tfrac12, \tfrac14, \tfrac18

    The maps of one stage; add the stages' losses up. A level that is not smaller than the map is left out, and the
    weights used are 1, ½, ... in order, normalised to sum 1. (The authors' code compares levels with the height alone;
    for square maps it is the same.)

    Args:
        student_maps: :math:`f^s`, shape ``(B, C, H, W)`` or ``(B, C, L)``. Receives the gradient.
        teacher_maps: :math:`f^t`, same shape. Treated as a constant.

    Returns:
        Scalar loss, in squared units of the features, at least 0; 0 exactly where the two agree.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If the shapes differ, a tensor is empty, or there is no spatial axis.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
        >>> hierarchical_context_loss(student, teacher)  # (1·4/4 + ½·0.5²) / 1.5
        tensor(0.7500)

    Source: Chen et al. 2021, Section 3.3 (HCL); the weights are those of the authors' code.
    """
    _check_matching(student_maps, teacher_maps)
    if not 3 <= student_maps.dim() <= 5:
        raise ValueError(f"needs maps (B, C, H, W) or (B, C, L), got shape {tuple(student_maps.shape)}: see hint_loss")
    dtype = torch.promote_types(student_maps.dtype, torch.float32)
    difference = student_maps.to(dtype) - teacher_maps.detach().to(dtype)  # averaging is linear: do it once, to this
    size = list(difference.shape[2:])
    sizes = [size, *([level] * len(size) for level in LEVELS if level < min(size))]
    weights = [0.5**k for k in range(len(sizes))]
    terms = [w * _average_to(difference, s).square().mean() for w, s in zip(weights, sizes, strict=True)]
    return torch.stack(terms).sum() / sum(weights)


class ReviewFusion(nn.Module):
    r"""Turns the student's maps into one guess for each of the teacher's, deeper maps helping the shallower ones.

    From the last stage to the first: a 1×1 convolution brings the map to a common width; the deeper stage's result,
    enlarged, is mixed in with two learnt weights between 0 and 1 at every place; a 3×3 convolution gives the guess.
    Give its parameters to the optimiser beside the student's; it is thrown away afterwards.

    Args:
        student_channels: Channels of the student's maps, from the shallowest stage to the deepest.
        teacher_channels: Channels of the teacher's maps, as many stages.
        mid_channels: The common width; the deepest student map's, but at most 512, if None.

    Raises:
        TypeError, ValueError: If there is no stage, their numbers differ, or a number of channels is not a positive
            whole number.

    Example:
        >>> fusion = ReviewFusion([8, 16], [32, 64])
        >>> maps = [torch.zeros(2, 8, 6, 6), torch.zeros(2, 16, 3, 3)]
        >>> [tuple(guess.shape) for guess in fusion(maps, sizes=[(12, 12), (3, 3)])]
        [(2, 32, 12, 12), (2, 64, 3, 3)]

    Source: Chen et al. 2021, Section 3.2 (ABF). The authors also append the pooled features, as 1×1 maps, as a last
    stage.
    """

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], *, mid_channels: int | None = None
    ) -> None:
        """Build each stage's layers, with the authors' initial weights."""
        super().__init__()
        for name, channels in (("student_channels", student_channels), ("teacher_channels", teacher_channels)):
            if not isinstance(channels, Sequence):
                raise TypeError(f"{name} must be one number for each stage, got {channels!r}")
            _check_counts(**{f"{name}[{stage}]": count for stage, count in enumerate(channels)})
        if not student_channels or len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"needs channels for equally many stages, at least one, got {list(student_channels)} and "
                f"{list(teacher_channels)}: choose which of the student's stages follows which of the teacher's"
            )
        width = min(512, student_channels[-1]) if mid_channels is None else mid_channels
        _check_counts(mid_channels=width)
        self.channels = list(student_channels)
        self.narrow = nn.ModuleList(self._normalised_conv(channels, width, 1) for channels in student_channels)
        self.mix = nn.ModuleList(nn.Conv2d(2 * width, 2, kernel_size=1) for _ in student_channels[:-1])
        self.guess = nn.ModuleList(self._normalised_conv(width, channels, 3) for channels in teacher_channels)

    def forward(self, student_maps: Sequence[Tensor], *, sizes: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        """Guess the teacher's maps.

        Args:
            student_maps: One map for each stage, shape ``(B, student_channels[i], H, W)`` or ``(B, ..., L)``. Receive
                a gradient, as do the parameters.
            sizes: The teacher's sizes, ``maps.shape[2:]`` for each stage; those of the student's maps if None.

        Returns:
            Guesses, shape ``(B, teacher_channels[i], *sizes[i])``, in the order of the stages.

        Raises:
            TypeError, ValueError: If there is not one floating-point map, and one size, for each stage, or a map has
                not the stage's channels.
        """
        for stage, maps in enumerate(_stages(student_maps)):
            _check_activations(maps, f"the student's maps of stage {stage}")
        sizes = [maps.shape[2:] for maps in student_maps] if sizes is None else sizes
        self._check(student_maps, sizes)
        flat = student_maps[0].dim() == 3  # signals are images of height 1
        dtype = next(self.parameters()).dtype
        guesses: list[Tensor] = []
        deeper: Tensor | None = None
        for stage in reversed(range(len(self.narrow))):
            maps = student_maps[stage].to(dtype)
            fused: Tensor = self.narrow[stage](maps.unsqueeze(2) if flat else maps)
            if deeper is not None:
                deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
                own, below = torch.sigmoid(self.mix[stage](torch.cat([fused, deeper], dim=1))).split(1, dim=1)
                fused = own * fused + below * deeper
            size = [1, *sizes[stage]] if flat else list(sizes[stage])
            deeper = fused if list(fused.shape[2:]) == size else F.interpolate(fused, size, mode="nearest")
            guess: Tensor = self.guess[stage](deeper)
            guesses.insert(0, guess.squeeze(2) if flat else guess)
        return guesses

    @staticmethod
    def _normalised_conv(channels: int, width: int, kernel: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_uniform_(convolution.weight, a=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(width))

    def _check(self, student_maps: Sequence[Tensor], sizes: Sequence[Sequence[int]]) -> None:
        shapes = [tuple(maps.shape) for maps in student_maps]
        if [shape[1] if len(shape) in (3, 4) else None for shape in shapes] != self.channels:
            raise ValueError(f"expected maps (B, C, H, W) or (B, C, L), C in {self.channels}, got shapes {shapes}")
        axes = len(shapes[0]) - 2
        if not all(isinstance(size, Sequence) for size in _stages(sizes)):
            raise TypeError(f"sizes must hold maps.shape[2:] for each stage, got {sizes}")
        if [len(size) for size in sizes] != [axes] * len(shapes) or {len(shape) for shape in shapes} != {axes + 2}:
            raise ValueError(f"expected one size of {axes} numbers for each of {shapes}, got {[*map(tuple, sizes)]}")


def _stages(items: object) -> Sequence[Any]:
    if not isinstance(items, Sequence):
        raise TypeError(f"expected one item for each stage, [first, ..., last], got {type(items).__name__}")
    return items


def _average_to(maps: Tensor, size: list[int]) -> Tensor:
    return maps if list(maps.shape[2:]) == size else F.interpolate(maps, size, mode="area")


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
