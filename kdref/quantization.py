"""Quantisation in training: values rounded to a few levels, with a gradient that passes, and steps fitted or learned.

Source: Esser et al., "Learned Step Size Quantization", ICLR 2020, https://arxiv.org/abs/1902.08153; the gradient that
passes straight through the rounding is Bengio, Léonard and Courville's of 2013, https://arxiv.org/abs/1308.3432.
Lesson: notebooks/14_edge.ipynb.

What is rounded stays a float on a grid of 2^b levels around zero (no zero point): the network learns with the errors
that it will have as whole numbers of b bits. Distillation needs no loss of its own here: the teacher is the network
before rounding.

Needs only torch: copy this file into your project as it is.
Shapes: ``...`` is any shape. One step for all values, or with ``dim`` one for each of the C channels on that axis.
"""

import math
import numbers

import torch
from torch import Tensor, nn

__all__ = ["LearnedStepSize", "calibrated_scale", "fake_quantize"]


def fake_quantize(
    x: Tensor,  # (...)
    scale: Tensor,  # (), or (C,) with dim
    *,
    bits: int = 8,
    signed: bool = True,
    dim: int | None = None,
) -> Tensor:  # (...)
    r"""Round to the nearest of :math:`2^b` levels, and let the gradient pass as if nothing had been rounded.

    .. math::
        \hat x = s \cdot \mathrm{round}\big(\mathrm{clip}(x / s,\, -Q_N,\, Q_P)\big), \quad
        Q_N, Q_P = 2^{b-1},\, 2^{b-1} - 1 \;\text{ or unsigned }\; 0,\, 2^b - 1

    Rounding has no slope. Straight through, its gradient is 1, and :math:`\partial \hat x / \partial x` is 1 inside the
    clip and 0 outside, where a value no longer learns. The border is inside: there lies the largest value, if
    ``calibrated_scale`` put it there. (The paper counts the border as outside; ``torch.clamp`` has 1 there in PyTorch
    2.12 and 0 in 2.14; ``torch.fake_quantize_per_tensor_affine`` lets the gradient pass for half a step more.)

    Args:
        x: Weights or activations, any shape. Receives the gradient.
        scale: The step :math:`s > 0`, in the unit of x: one (a plain number will do), or with ``dim`` one per channel.
            Its gradient, if it wants one, is that of ``LearnedStepSize`` before it is scaled.
        bits: b, from 2 to 16.
        signed: Levels on both sides of zero, for weights; without, none below it, for what comes out of a ReLU.
        dim: The axis of the channels: 0 for the weights of ``Linear`` and ``Conv2d``, 1 for ``ConvTranspose2d``.

    Returns:
        Values on the grid, the shape and unit of x, in float32 for half precision (which can't hold a step times eight
        bits) and the dtype of x otherwise. A value on the grid comes out as it was; halves go to the even level.

    Raises:
        TypeError: If x is no floating-point tensor, or a setting no number.
        ValueError: If bits or dim are out of range, the scale has another shape or (looked at on the CPU only) a step
            that is not positive and finite.

    Example:
        >>> fake_quantize(torch.tensor([-1.0, -0.3, 0.1, 0.4]), torch.tensor(0.25), bits=2)  # levels -0.5 to 0.25
        tensor([-0.5000, -0.2500,  0.0000,  0.2500])

    Source: Esser et al. 2020, equations 1, 2 and 5.
    """
    _check_activations(x, "x")
    bounds = _bounds(bits, signed)
    _check_axis(x, dim)
    return _rounded(x, _along(_steps(scale, x, dim), x, dim), bounds)


def calibrated_scale(
    x: Tensor,  # (...)
    *,
    bits: int = 8,
    method: str = "max",
    signed: bool = True,
    dim: int | None = None,
    candidates: int = 100,
) -> Tensor:  # (), or (C,) with dim
    r"""The step that clips nothing ("max"), or the one that changes the values least ("mse").

    .. math::
        s = \max |x| / Q_P \quad\text{or}\quad \arg\min_s \sum (\hat x(s) - x)^2

    A smaller step rounds all values more finely and clips more of the large ones. With many bits clipping hardly pays;
    with few, or with outliers, "max" spends its levels on values that are rare.

    Args:
        x: Weights, or activations on a few batches, not empty, any shape. No gradient.
        bits, signed, dim: As in ``fake_quantize``. Unsigned, values below zero become zero whatever the step, and only
            the others count.
        method: "max" or "mse".
        candidates: How many steps "mse" tries, from that of "max" down to a hundredth of it, each smaller by the same
            factor; at least 2. Above "max" it does not look, and so it is never worse.

    Returns:
        One step, shape ``()``, or with ``dim`` one per channel, shape ``(C,)``, in float32 at least. 1 where there are
        zeros only: any step is exact there, but not 0, which would divide.

    Raises:
        TypeError, ValueError: As in ``fake_quantize``; for an empty x, another method, or too few candidates.

    Example:
        >>> weights = torch.tensor([-1.0, -0.4, 0.3, 6.35])
        >>> calibrated_scale(weights), calibrated_scale(weights, bits=4)
        (tensor(0.0500), tensor(0.9071))

    Source: Krishnamoorthi 2018, https://arxiv.org/abs/1806.08342, Section 2.2, for "max" (PyTorch's observers divide by
    :math:`(2^b - 1)/2`, which clips the largest by half a step); "mse" follows from its definition.
    """
    _check_some(x, "x")
    low, high = _bounds(bits, signed)
    _check_axis(x, dim)
    if method not in ("max", "mse"):
        raise ValueError(f'method must be "max" or "mse", got {method!r}')
    _check_whole("candidates", candidates, 2, 10**6)
    rows = _rows(x.detach(), dim)
    largest = (rows.abs() if signed else rows.clamp(min=0)).amax(dim=1, keepdim=True)
    best = largest / high
    best = torch.where(high * best < largest, best * (1 + torch.finfo(best.dtype).eps), best)  # no rounding error clips
    best = torch.where(best == 0, 1, best)
    if method == "mse":
        tried = [best * 0.01 ** (k / (int(candidates) - 1)) for k in range(int(candidates))]
        least = torch.full_like(best, math.inf)
        for step in tried:
            error = (_rounded(rows, step, (low, high)) - rows).square().sum(dim=1, keepdim=True)
            best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best.squeeze() if dim is None else best.squeeze(1)


class LearnedStepSize(nn.Module):
    r"""Fake quantisation whose step learns with the weights (LSQ).

    .. math::
        \frac{\partial \hat x}{\partial s} = \begin{cases}
        \mathrm{round}(x/s) - x/s & -Q_N \le x/s \le Q_P \\ -Q_N \text{ or } Q_P & \text{below or above}
        \end{cases}
        \qquad \frac{\partial L}{\partial s} \leftarrow \frac{1}{\sqrt{N Q_P}} \frac{\partial L}{\partial s}

    The step grows where the loss suffers more from clipping than from rounding, and shrinks otherwise. It gathers the
    gradients of N values, and is scaled down so that it moves, for its size, about as fast as a weight. It starts at
    :math:`2 \langle |x| \rangle / \sqrt{Q_P}`. ``step`` is the parameter; it counts by its size, since nothing keeps an
    optimiser from carrying it below zero.

    Weights: ``torch.nn.utils.parametrize.register_parametrization(layer, "weight", LearnedStepSize(layer.weight,
    bits=4, dim=0))``; to leave the rounded weights behind, ``remove_parametrizations``.

    Args:
        values: The weights, or the first batch of activations, to start from; not empty, any shape.
        bits, signed, dim: As in ``fake_quantize``.
        batched: True for activations: the first axis is a batch, and N counts the values of one example.

    Raises:
        TypeError, ValueError: As in ``fake_quantize``; if the values are empty, or the batch is the axis of channels.

    Example:
        >>> quantizer = LearnedStepSize(torch.tensor([-0.5, 0.5, 1.5, -1.5]), bits=2)  # Q_P = 1: 2 · 1 / √1
        >>> quantizer.step.item(), quantizer(torch.tensor([0.9, 1.1, 5.0])).tolist()
        (2.0, [0.0, 2.0, 2.0])

    Source: Esser et al. 2020, equations 1 to 3, 5, and Section 2.2; one step per channel is not in the paper: there N
    counts the values of a channel.
    """

    def __init__(
        self,
        values: Tensor,  # (...)
        *,
        bits: int = 8,
        signed: bool = True,
        dim: int | None = None,
        batched: bool = False,
    ) -> None:
        """Start the step from the values' mean size."""
        super().__init__()
        _check_some(values, "values")
        self.bits, self.signed, self.dim, self.batched = bits, signed, dim, batched
        _, high = _bounds(bits, signed)
        _check_axis(values, dim)
        if batched and (values.dim() == 0 or (dim is not None and dim % values.dim() == 0)):
            raise ValueError(f"axis 0 of a batch holds examples, got shape {tuple(values.shape)} and dim {dim}")
        mean = _rows(values.detach(), dim).abs().mean(dim=1)
        start = torch.where(mean == 0, 1, 2 * mean / math.sqrt(high))
        self.step = nn.Parameter(start.squeeze() if dim is None else start)

    def forward(self, values: Tensor) -> Tensor:
        """Round values to the grid of the learned step.

        Args:
            values: Weights or activations with as many channels as at the start. Receives a gradient, as in
                ``fake_quantize``; so does ``step``.

        Returns:
            Values on the grid, as from ``fake_quantize``.

        Raises:
            TypeError, ValueError: If the values are no floating-point tensor, or have another number of channels.
        """
        _check_activations(values, "values")
        _check_axis(values, self.dim)
        _check_shape(self.step, values, self.dim)
        bounds = _bounds(self.bits, self.signed)
        sharing = math.prod(values.shape[1:] if self.batched else values.shape) / self.step.numel()  # N
        size = self.step.abs()
        step = size.detach() + (size - size.detach()) / math.sqrt(max(sharing, 1) * bounds[1])  # the gradient shrinks
        return _rounded(values, _along(step, values, self.dim), bounds)

    def extra_repr(self) -> str:
        """Name the settings when the module is printed."""
        return f"bits={self.bits}, signed={self.signed}, dim={self.dim}, batched={self.batched}"


def _rounded(x: Tensor, s: Tensor, bounds: tuple[int, int]) -> Tensor:
    low, high = bounds
    x = x.to(s.dtype)
    if not torch.compiler.is_compiling() and x.is_inference():  # what inference mode made can't be kept for backward
        x = x.clone()
    clipped = torch.where(x < low * s, low, torch.where(x > high * s, high, x / s))
    levels = clipped + (clipped.round() - clipped).detach()  # straight through: the value rounded, the gradient 1
    return levels * s


def _bounds(bits: int, signed: bool) -> tuple[int, int]:
    _check_whole("bits", bits, 2, 16)
    return (-(2 ** (int(bits) - 1)), 2 ** (int(bits) - 1) - 1) if signed else (0, 2 ** int(bits) - 1)


def _steps(scale: object, x: Tensor, dim: int | None) -> Tensor:
    """The scale as a tensor, checked."""
    if isinstance(scale, numbers.Real):
        scale = torch.full((), float(scale), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    if not isinstance(scale, Tensor) or not scale.is_floating_point():
        found = scale.dtype if isinstance(scale, Tensor) else type(scale).__name__
        raise TypeError(f"scale must be a number or a floating-point tensor, got {found}")
    _check_shape(scale, x, dim)
    if scale.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = scale[~((scale > 0) & (scale < math.inf))]
        if len(wrong):
            raise ValueError(f"scale must be positive and finite, got {wrong[0].item()}")
    return scale


def _along(steps: Tensor, x: Tensor, dim: int | None) -> Tensor:
    shape = [-1 if dim is not None and axis == dim % x.dim() else 1 for axis in range(x.dim())]
    return steps.clone().to(torch.promote_types(x.dtype, torch.float32)).reshape(shape)  # clone: as in _rounded


def _rows(x: Tensor, dim: int | None) -> Tensor:
    """All values of a step in one row, in float32 at least."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.reshape(1, -1) if dim is None else x.movedim(dim, 0).flatten(start_dim=1)


def _check_some(values: object, name: str) -> None:
    _check_activations(values, name)
    if isinstance(values, Tensor) and values.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(values.shape)}: nothing has no step")


def _check_axis(x: Tensor, dim: int | None) -> None:
    if dim is not None and x.dim() == 0:
        raise ValueError(f"a single value has no axis {dim!r}: leave dim out")
    if dim is not None:
        _check_whole("dim", dim, -x.dim(), x.dim() - 1)


def _check_shape(steps: Tensor, x: Tensor, dim: int | None) -> None:
    if dim is None and steps.numel() != 1:
        raise ValueError(f"scale must be one number, got shape {tuple(steps.shape)}: name the channels' axis, dim")
    if dim is not None and steps.shape != (x.shape[dim],):
        wanted, found = (x.shape[dim],), tuple(steps.shape)
        raise ValueError(f"scale must have shape {wanted}, one step per channel of axis {dim}, got {found}")


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not least <= int(value) <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {value}")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")
