"""Gram matrices of feature maps: how two layers of one network, or the channels of one layer, go together.

Source: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
Learning", CVPR 2017 (FSP), https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html;
Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
https://arxiv.org/abs/1707.01219 (NST). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels, H W the map's size; maps may as well be (B, C, L), or have three spatial axes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fsp_loss", "fsp_matrix", "neuron_selectivity_loss"]


def fsp_matrix(
    first: Tensor,  # (B, C1, H, W)
    second: Tensor,  # (B, C2, H, W)
) -> Tensor:  # (B, C1, C2)
    r"""Flow of solution procedure: how strongly each channel of one layer goes with each channel of a later one.

    .. math::
        G_{ij} = \frac{1}{HW} \sum_{h,w} F^1_{ihw} F^2_{jhw}

    If the two maps differ in size the larger is max-pooled to the smaller, so that the mean runs over places both have.

    Args:
        first: :math:`F^1`, shape ``(B, C1, H, W)``. Receives a gradient; detach a teacher's maps yourself.
        second: :math:`F^2`, shape ``(B, C2, H, W)``, of the same network. Receives a gradient.

    Returns:
        Matrices, shape ``(B, C1, C2)``, in squared units of the features; any sign.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If they are not maps, are empty, or differ in batch size or number of spatial axes.

    Example:
        >>> fsp_matrix(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]))  # (3 + 8)/2, (1 + 0)/2
        tensor([[[5.5000, 0.5000]]])

    Source: Yim et al. 2017, equation 1.
    """
    _check_maps(first, second, sides=("first", "second"))
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    size = [min(sizes) for sizes in zip(first.shape[2:], second.shape[2:], strict=True)]
    first, second = (_max_pool_to(maps.to(dtype), size).flatten(2) for maps in (first, second))
    with torch.autocast(first.device.type, enabled=False):  # which would round the products
        return first @ second.mT / first.shape[2]


def fsp_loss(
    student_pair: tuple[Tensor, Tensor],  # (B, C1, H, W), (B, C2, H, W)
    teacher_pair: tuple[Tensor, Tensor],  # (B, C1, H', W'), (B, C2, H', W')
) -> Tensor:  # ()
    r"""Mean squared difference of the student's and the teacher's FSP matrices: teach the way, not the stations.

    .. math::
        \frac{1}{B\,C_1 C_2} \sum_{b,i,j} (G^s_{bij} - G^t_{bij})^2

    Student and teacher may differ in H×W, but need equal channels at both layers. The paper sums over entries; the
    mean, as in RepDistiller, keeps the weight independent of the width. (torchdistill sums unsquared column norms.)
    A fourth power of the features: in float16 its gradient overflows once they pass a few hundred. Far from zero the
    products' rounding counts: for unrelated features of mean 1000 and standard deviation 1, float32 is off by up to
    0.01 % in the value and 0.06 % in the gradient, and where the student's differ from the teacher's by 0.01, by 12 %
    and 8 %: pass float64 there.

    Args:
        student_pair: The student's maps at two layers. Receives the gradient.
        teacher_pair: The teacher's maps at the corresponding layers. Treated as constants.

    Returns:
        Scalar loss, in fourth powers of the features' unit, at least 0.

    Raises:
        TypeError: If a side is not a pair of maps, or they are not floating point.
        ValueError: If channels, batch sizes or numbers of axes don't fit, or a map is empty.

    Example:
        >>> student, teacher = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 3.0]]])
        >>> fsp_loss((student, student), (teacher, teacher))  # (5/2 - 10/2)²
        tensor(6.2500)

    Source: Yim et al. 2017, equation 2 with all weights 1.
    """
    _check_two_maps(student_pair, "student")
    _check_two_maps(teacher_pair, "teacher")
    student, teacher = fsp_matrix(*student_pair), fsp_matrix(*teacher_pair).detach()
    if student.shape != teacher.shape:
        raise ValueError(
            f"FSP needs equal batches and channels, got {[tuple(maps.shape) for maps in student_pair]} from the "
            f"student and {[tuple(maps.shape) for maps in teacher_pair]} from the teacher: pass the student's maps "
            "through a 1×1 convolution (HintRegressor), or use neuron_selectivity_loss, where channels may differ"
        )
    return (student - teacher).square().mean()


def neuron_selectivity_loss(
    student_maps: Tensor,  # (B, C, H, W)
    teacher_maps: Tensor,  # (B, C', H', W')
) -> Tensor:  # ()
    r"""Squared maximum mean discrepancy between the two networks' channels, each a pattern over the image.

    .. math::
        \frac1B \sum_b \Big\| \frac{1}{C_s} \sum_c \hat f^s_{bc} \hat f^{s\,\top}_{bc}
        - \frac{1}{C_t} \sum_c \hat f^t_{bc} \hat f^{t\,\top}_{bc} \Big\|_F^2, \quad
        \hat f_{bc} = \frac{f_{bc}}{\|f_{bc}\|_2} \in \mathbb R^{HW}

    This is the paper's MMD with the kernel :math:`k(x, y) = (x^\top y)^2 = \langle x x^\top, y y^\top \rangle`, whose
    means over pairs of channels are inner products of the two mean matrices :math:`\hat f \hat f^\top`. It takes (HW)²
    numbers for each example instead of C²HW: pool large maps first (``F.adaptive_avg_pool2d``). Channels are a set:
    their order, sign and scale mean nothing, and student and teacher may have different numbers of them. Maps of
    different size are averaged down to the smaller. A channel of zeros stays zero. For unrelated features of mean 1000
    and standard deviation 1, float32 is off by up to 0.004 % in the value and 0.02 % in the gradient, and where the
    student's differ from the teacher's by 0.01, by 11 % and 3 %: pass float64 there.

    Args:
        student_maps: :math:`f^s`, shape ``(B, C, H, W)``. Receives the gradient.
        teacher_maps: :math:`f^t`, shape ``(B, C', H', W')``. Treated as a constant.

    Returns:
        Scalar loss, no unit, in [0, 2]; 0 where the channels agree as sets.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If they are not maps, are empty, or differ in batch size or number of spatial axes.

    Example:
        >>> one, both = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        >>> neuron_selectivity_loss(one, both)  # 1/1 + (1 + 0 + 0 + 1)/4 - 2·(1 + 0)/2
        tensor(0.5000)

    Source: Huang and Wang 2017, the polynomial kernel with d = 2 and c = 0. The authors' code leaves the teacher's
    own term out, a constant without which the loss is not 0 where the two agree.
    """
    _check_maps(student_maps, teacher_maps)
    dtype = torch.promote_types(student_maps.dtype, torch.float32)
    size = [min(sizes) for sizes in zip(student_maps.shape[2:], teacher_maps.shape[2:], strict=True)]
    student, teacher = (
        _unit_length(_average_to(maps.to(dtype), size).flatten(2)) for maps in (student_maps, teacher_maps.detach())
    )
    with torch.autocast(student.device.type, enabled=False):  # which would round the products
        gap = student.mT @ student / student.shape[1] - teacher.mT @ teacher / teacher.shape[1]  # (B, HW, HW)
    return gap.square().sum(dim=(1, 2)).mean()


def _unit_length(rows: Tensor) -> Tensor:  # (..., N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=-1, eps=0.5)  # the norm is at least 1 unless the row is zero


def _average_to(maps: Tensor, size: list[int]) -> Tensor:
    return maps if list(maps.shape[2:]) == size else F.interpolate(maps, size, mode="area")


def _max_pool_to(maps: Tensor, size: list[int]) -> Tensor:
    if list(maps.shape[2:]) == size:
        return maps
    pools: dict[int, Callable[..., Tensor]]
    pools = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
    return pools[len(size)](maps, size)


def _check_two_maps(pair: object, side: str) -> None:
    """One stacked tensor would do, but a single map would be taken apart along its batch."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        count = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise TypeError(f"the {side}'s maps must be a pair, (first, second), got {type(pair).__name__}{count}")


def _check_maps(student: Tensor, teacher: Tensor, sides: tuple[str, str] = ("student", "teacher")) -> None:
    for side, maps in zip(sides, (student, teacher), strict=True):
        _check_activations(maps, f"the {side} maps")
        if not 3 <= maps.dim() <= 5 or maps.numel() == 0:
            hint = "vectors have no places to look at, use hint_loss or similarity_preserving_loss for them"
            form = f"(B, C, H, W) or (B, C, L), not empty, got shape {tuple(maps.shape)}"
            raise ValueError(f"the {side} maps must be {form}: {hint}")
    if student.dim() != teacher.dim() or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"{sides[0]} and {sides[1]} maps need the same examples and number of axes, got {shapes}")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")
