"""Wrong versions of fake quantisation and of its calibration."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdref import quantization
from tests.museum import exhibit

FAKE, FITTED = "kdref.quantization:fake_quantize", "kdref.quantization:calibrated_scale"
PASSES = "the_gradient_passes_inside_the_clip_and_on_its_border_only"
HAND = "known_values"
STEPS = "known_steps"
right_scale = quantization.calibrated_scale


def killed_by(*tests: str, file: str = "test_quantization") -> tuple[str, ...]:
    return tuple(f"heart/{file}.py::test_{test}" for test in tests)


def killed_by_steps(*tests: str) -> tuple[str, ...]:
    return killed_by(*tests, file="test_quantization_steps")


def bounds(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def along(scale: Any, x: Tensor, dim: int | None) -> Tensor:
    shape = [1] * x.dim()
    if dim is not None:
        shape[dim] = -1
    return torch.as_tensor(scale, dtype=torch.promote_types(x.dtype, torch.float32)).reshape(shape)


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    return value + (rounded - value).detach()


def clipped(v: Tensor, low: int, high: int) -> Tensor:
    return torch.where(v < low, low, torch.where(v > high, high, v))


def with_levels(levels: Callable[[Tensor, int, int], Tensor]) -> Any:
    """Fake quantisation, with another way from x/s to levels."""

    def wrong(x: Tensor, scale: Any, *, bits: int = 8, signed: bool = True, dim: int | None = None) -> Tensor:
        s = along(scale, x, dim)
        return levels(x / s, *bounds(bits, signed)) * s

    return wrong


def hang(levels: Any, name: str, doc: str, seen_in: str, tests: tuple[str, ...]) -> None:
    wrong = with_levels(levels)
    wrong.__name__, wrong.__doc__ = name, doc
    exhibit(replaces=FAKE, seen_in=seen_in, killed_by=tests)(wrong)


hang(
    lambda v, low, high: clipped(v, low, high).round(),
    "the_gradient_that_rounding_has",
    "Zero: nothing learns, and nothing complains.",
    "a likely slip: rounded without a way through for the gradient",
    killed_by(PASSES, "the_gradient_is_that_of_clipping_without_rounding"),
)
hang(
    lambda v, low, high: straight_through(v, clipped(v, low, high).round()),
    "a_gradient_outside_the_clip",
    "Weights beyond the last level wander on, although nothing that they do can be seen.",
    "hustzxd/LSQuantization #1, microsoft/nni #3160, Oneflow-Inc/oneflow #8649",
    killed_by(PASSES, "the_gradient_is_that_of_clipping_without_rounding"),
)
hang(
    lambda v, low, high: straight_through(v, v.round()).clamp(low, high),
    "clamped_after_rounding",
    "All that rounds to the first or the last level lies exactly on the bound, where newer versions of PyTorch give "
    "torch.clamp no gradient: with 2 bits half of the levels stop learning.",
    "pytorch/ao #4806",
    killed_by(PASSES),
)
hang(
    lambda v, low, high: straight_through(clipped(v, low, high), clipped(v, low, high).trunc()),
    "cut_off_and_not_rounded",
    "What a cast to integers does: errors of a whole step, all towards zero.",
    "a likely slip: .to(torch.int8) without .round()",
    killed_by(HAND, "each_value_goes_to_the_nearest_level"),
)
hang(
    lambda v, low, high: straight_through(clipped(v, low, high), (v.sign() * (v.abs() + 0.5).floor()).clamp(low, high)),
    "halves_away_from_zero",
    "Other whole numbers than the runtime's, which rounds halves to the even level, as PyTorch and ONNX do.",
    "ZouJiu1/LSQplus, quantization/lsqquantize_V1.py",
    killed_by(HAND),
)
hang(
    lambda v, low, high: straight_through(clipped(v, 2 * low, 2 * high + 1), clipped(v, 2 * low, 2 * high + 1).round()),
    "one_bit_too_many",
    "The sign is counted on top of b bits: accurate, and not what the device will do.",
    "hatchetProject/QuEST #16",
    killed_by(HAND, "it_is_idempotent_monotone_and_has_no_more_levels_than_bits_can_name"),
)


@exhibit(
    replaces=FAKE,
    seen_in="microsoft/onnxruntime #19694, ModelTC/MQBench #119, OpenPPL/ppq #282",
    killed_by=killed_by(*(f"each_channel_has_its_own_step_whichever_its_axis[{dim}]" for dim in (1, 2, -1))),
)
def channels_always_on_axis_0(
    x: Tensor, scale: Any, *, bits: int = 8, signed: bool = True, dim: int | None = None
) -> Tensor:
    """Steps of output channels on the input channels of ConvTranspose; with equal sizes nothing complains."""
    s = along(scale, x, None if dim is None else 0)
    v = clipped(x / s, *bounds(bits, signed))
    return straight_through(v, v.round()) * s


def rows(x: Tensor, dim: int | None) -> Tensor:
    return x.detach().reshape(1, -1) if dim is None else x.detach().movedim(dim, 0).flatten(1)


@exhibit(
    replaces=FITTED,
    seen_in="kit-cel/lecture-examples #15; hustzxd/LSQuantization, lsq.py, for activations",
    killed_by=killed_by_steps(STEPS, "the_largest_clips_nothing_not_even_by_a_rounding_error"),
)
def the_largest_and_not_the_largest_in_size(x: Tensor, *, bits: int = 8, **settings: Any) -> Tensor:
    """Large negative values are clipped."""
    dim = settings.get("dim")
    largest = rows(x, dim).amax(dim=1).clamp(min=1e-9) / bounds(bits, settings.get("signed", True))[1]
    return largest.squeeze() if dim is None else largest


@exhibit(
    replaces=FITTED,
    seen_in="hustzxd/LSQuantization, lsq.py; IntelLabs/distiller #463 is the same the other way round",
    killed_by=killed_by_steps(
        "the_step_of_the_largest_puts_it_on_the_last_level", "the_largest_clips_nothing_not_even_by_a_rounding_error"
    ),
)
def a_level_that_does_not_exist(x: Tensor, *, bits: int = 8, signed: bool = True, **settings: Any) -> Tensor:
    """The largest over 128: it would be level 128, and int8 ends at 127."""
    high = bounds(bits, signed)[1]
    return right_scale(x, bits=bits, signed=signed, **settings) * high / (high + 1)


@exhibit(
    replaces=FITTED,
    seen_in="apple/coremltools #2853, ROCm/aiter #4289",
    killed_by=killed_by_steps("channels_of_zeros_stay_zeros"),
)
def a_step_of_zero(x: Tensor, **settings: Any) -> Tensor:
    """A pruned channel is divided by its step, 0/0, and is NaN."""
    dim = settings.get("dim")
    nothing = (rows(x, dim) == 0).all(dim=1)
    return torch.where(nothing.squeeze() if dim is None else nothing, 0, right_scale(x, **settings))


def searched(x: Tensor, fractions: Any, patience: int, bits: int, signed: bool) -> Tensor:
    largest = right_scale(x, bits=bits, signed=signed)
    best, least, waited = largest, math.inf, 0
    for fraction in fractions:
        v = clipped(x / (largest * fraction), *bounds(bits, signed)).round() * largest * fraction
        error = (v - x).square().sum().item()
        best, least, waited = (largest * fraction, error, 0) if error < least else (best, least, waited + 1)
        if waited >= patience:
            break
    return best


def fitted_by(fractions: tuple[float, ...], patience: int) -> Any:
    def wrong(
        x: Tensor, *, bits: int = 8, method: str = "max", signed: bool = True, dim: int | None = None, **more: Any
    ) -> Tensor:
        if method == "max":
            return right_scale(x, bits=bits, signed=signed, dim=dim)
        parts = [x] if dim is None else x.unbind(dim)
        found = torch.stack([searched(part.detach(), fractions, patience, bits, signed) for part in parts])
        return found.squeeze() if dim is None else found

    return wrong


for name, doc, fractions, patience in (
    (
        "searched_near_the_largest_only",
        "From 80 to 100 % of the largest: enough for 8 bits, and with 2 or 3 the best step is half of that and less.",
        tuple(1 - k / 100 for k in range(21)),
        100,
    ),
    (
        "stopped_at_the_first_hill",
        "The search ends after five steps without gain, and the error over the step has many valleys.",
        tuple(1 - k / 100 for k in range(100)),
        5,
    ),
):
    wrong = fitted_by(fractions, patience)
    wrong.__name__, wrong.__doc__ = name, doc
    tests = killed_by_steps(STEPS, "rare_large_values_are_clipped_where_bits_are_few")
    exhibit(replaces=FITTED, seen_in="vllm-project/llm-compressor #1450", killed_by=tests)(wrong)
