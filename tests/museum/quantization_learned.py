"""Wrong versions of the learned step (LSQ)."""

import math
from typing import Any

from torch import Tensor, nn

from kdref import quantization
from tests.museum import exhibit
from tests.museum.quantization import along, bounds, clipped, killed_by_steps, rows, straight_through

LEARNED = "kdref.quantization:LearnedStepSize"
START, SHARED = "a_known_start_and_gradient", "the_gradient_of_a_step_is_scaled_by_what_shares_it"
Right = quantization.LearnedStepSize


class Variant(Right):
    """The learned step, part by part."""

    def sharing(self, values: Tensor) -> float:
        return math.prod(values.shape[1:] if self.batched else values.shape) / self.step.numel()

    def scaled(self, step: Tensor, factor: float) -> Tensor:
        return step.detach() + (step - step.detach()) * factor

    def forward(self, values: Tensor) -> Tensor:
        factor = 1 / math.sqrt(self.sharing(values) * bounds(self.bits, self.signed)[1])
        steps = self.scaled(self.step.abs(), factor)
        return quantization.fake_quantize(values, steps, bits=self.bits, signed=self.signed, dim=self.dim)


@exhibit(replaces=LEARNED, seen_in="zhutmost/lsq-net, quan/quantizer/lsq.py", killed_by=killed_by_steps(SHARED))
class CountsTheBatch(Variant):
    """The step learns more slowly in larger batches, and a channel's as if it had all the values."""

    def sharing(self, values: Tensor) -> float:
        return values.numel()


@exhibit(
    replaces=LEARNED,
    seen_in="a likely slip: the raw gradient, asked about in zhutmost/lsq-net #23",
    killed_by=killed_by_steps(SHARED, START),
)
class GradientNotScaled(Variant):
    """The sum over all values moves the step by orders of magnitude more than a weight."""

    def scaled(self, step: Tensor, factor: float) -> Tensor:
        return step


@exhibit(
    replaces=LEARNED,
    seen_in="zhutmost/lsq-net, quan/quantizer/lsq.py",
    killed_by=killed_by_steps("values_and_their_gradient_are_those_of_fake_quantisation_to_the_last_bit[0]"),
)
class StepOffByABit(Variant):
    """s - gs + gs is not s to the last bit: now and then the grid is not that of the step that is saved."""

    def scaled(self, step: Tensor, factor: float) -> Tensor:
        return (step - step * factor).detach() + step * factor


@exhibit(
    replaces=LEARNED,
    seen_in="ZouJiu1/LSQplus #12, OpenPPL/ppq #518",
    killed_by=killed_by_steps("a_step_below_zero_counts_by_its_size"),
)
class StepBelowZero(Variant):
    """An optimiser carries the step across zero: the grid is turned round, and almost all is clipped."""

    def forward(self, values: Tensor) -> Tensor:
        steps = along(self.step, values, self.dim)
        v = clipped(values / steps, *bounds(self.bits, self.signed))
        return straight_through(v, v.round()) * steps


@exhibit(
    replaces=LEARNED,
    seen_in="a likely slip: the division's part left out, as when s only multiplies",
    killed_by=killed_by_steps(START, SHARED),
)
class SlopeOfTheLevelAlone(Variant):
    """The step's gradient is the level, and not the rounding error: it always wants to shrink the largest values."""

    def forward(self, values: Tensor) -> Tensor:
        factor = 1 / math.sqrt(self.sharing(values) * bounds(self.bits, self.signed)[1])
        steps = along(self.scaled(self.step.abs(), factor), values, self.dim)
        v = clipped(values / steps.detach(), *bounds(self.bits, self.signed))
        return straight_through(v, v.round()) * steps


@exhibit(
    replaces=LEARNED,
    seen_in="hustzxd/LSQuantization, lsq.py",
    killed_by=killed_by_steps(START, "it_starts_at_twice_the_mean_size_over_the_root_of_the_levels"),
)
class StartsAtTheLargest(Right):
    """With few bits the step is several times too large, and most weights start at zero."""

    def __init__(self, values: Tensor, **settings: Any) -> None:
        """Start from the largest value."""
        super().__init__(values, **settings)
        largest = rows(values, self.dim).abs().amax(dim=1) / 2 ** (self.bits - 1)
        self.step = nn.Parameter(largest.squeeze() if self.dim is None else largest)


@exhibit(
    replaces=LEARNED,
    seen_in="zhutmost/lsq-net #17",
    killed_by=killed_by_steps("a_channel_of_zeros_can_start"),
)
class StartsAtZero(Right):
    """A channel of zeros starts with a step of zero, and divides by it."""

    def __init__(self, values: Tensor, **settings: Any) -> None:
        """Start from the mean size, whatever it is."""
        super().__init__(values, **settings)
        nothing = (rows(values, self.dim) == 0).all(dim=1)
        self.step.data[nothing.squeeze() if self.dim is None else nothing] = 0
