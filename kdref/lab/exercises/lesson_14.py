"""The exercises and the quiz of lesson 14, on the edge: fewer bits, and what they cost."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question, speaking
from kdref.lab.exercises import attempt, brief, calls, number, quiet
from kdref.quantization import fake_quantize

__all__ = ["EXERCISES", "QUIZ"]

Levels = Callable[[Tensor, int, int], Tensor]  # from x/s and the lowest and highest level


def my_quantizer(x: Tensor, scale: float, bits: int) -> Tensor:
    """14.2."""
    return fake_quantize(x, torch.tensor(scale), bits=bits)


def _slope(function: Any) -> Any:
    """The gradient of the values' sum for x: half of exercise 14.2 is not in the values."""

    def slope(x: Tensor, scale: float, bits: int) -> Tensor:
        leaf = x.clone().requires_grad_()
        with quiet():  # it has been called before, and said what it has to say
            value = attempt(function, (leaf, scale, bits))
        (found,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        return torch.zeros_like(leaf) if found is None else found

    return slope


@speaking
def _compare_values_and_gradients(answer: Any, reference: Any) -> str | None:
    if not callable(answer):
        return f"A function is asked for, not {brief(answer)}: pass its name, without calling it."
    found = calls(_ROUNDED)(answer, reference)
    if found is None:
        found = calls(_ROUNDED)(_slope(answer), _slope(reference))
        return found and f"The values are right. Of the gradient for x: {found}"
    return found


def _straight_through(value: Tensor, result: Tensor) -> Tensor:
    return value + (result - value).detach()


def _rounding(levels: Levels) -> Any:
    """A quantiser with another way from x/s to whole numbers."""

    def wrong(x: Tensor, scale: float, bits: int) -> Tensor:
        return levels(x / scale, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale

    return wrong


def _clipped(v: Tensor, low: float, high: float) -> Tensor:
    return torch.where(v < low, low, torch.where(v > high, high, v))  # on the border torch.clamp's gradient has changed


def _rounded(v: Tensor, low: float, high: float) -> Tensor:
    kept = _clipped(v, low, high)
    return _straight_through(kept, kept.round())


def _saturated(v: Tensor, low: float, high: float) -> Tensor:
    whole = _straight_through(v, v.round())
    return torch.where(whole <= low, low, torch.where(whole >= high, high, whole))


_QUANTIZER_MISTAKES: dict[str, tuple[Any, str]] = {
    "the gradient that rounding has": (
        _rounding(lambda v, low, high: _clipped(v, low, high).round()),
        "a staircase is flat, so nothing would learn. Straight through: value + (rounded - value).detach().",
    ),
    "a gradient outside the clip": (
        _rounding(lambda v, low, high: _straight_through(v, _clipped(v, low, high).round())),
        "what is clipped does not change when x does: clip first, and let the gradient pass the rounding only.",
    ),
    "clamped after rounding": (
        _rounding(_saturated),
        "all that rounds to the last level lies on the clamp's border, where newer versions of torch.clamp have "
        "gradient 0: clamp before you round.",
    ),
    "not clipped": (
        _rounding(lambda v, low, high: _straight_through(v, v.round())),
        "there are 2 to the power of bits levels, not as many as x needs.",
    ),
    "as many levels above zero as below": (
        _rounding(lambda v, low, high: _rounded(v, low, high + 1)),
        "whole numbers of 8 bits go from -128 to 127: one of them is zero.",
    ),
    "the lowest level left out": (
        _rounding(lambda v, low, high: _rounded(v, low + 1, high)),
        "runtimes often do so, and it costs a level: whole numbers of 3 bits go from -4 to 3.",
    ),
    "one bit too many": (
        _rounding(lambda v, low, high: _rounded(v, 2 * low, 2 * high + 1)),
        "the sign is one of the bits: from -2 ** (bits - 1) on.",
    ),
    "the whole numbers themselves": (
        lambda x, scale, bits: my_quantizer(x, scale, bits) / scale,
        "times the scale again: the layer must get values of the size of its weights.",
    ),
    "cut off and not rounded": (
        _rounding(lambda v, low, high: _straight_through(_clipped(v, low, high), _clipped(v, low, high).trunc())),
        "a cast to int cuts off: the error is up to a whole step instead of half of one.",
    ),
}


def channels_kept(factor: Tensor, reader: Tensor, count: int) -> Tensor:
    """14.3."""
    return _largest(factor.abs() * _lengths(reader), count)


def _largest(score: Tensor, count: int) -> Tensor:
    return score.topk(count).indices.sort().values


def _lengths(reader: Tensor) -> Tensor:
    return reader.square().sum(dim=(0, 2)).sqrt()


_CHANNEL_MISTAKES: dict[str, tuple[Any, str]] = {
    "the factors alone": (
        lambda factor, reader, count: _largest(factor.abs(), count),
        "a loud channel that the next layer hardly reads matters little: times the length of what reads it.",
    ),
    "the readers alone": (
        lambda factor, reader, count: _largest(_lengths(reader), count),
        "what is read may be near zero: times the size of the channel's factor.",
    ),
    "signs left in": (
        lambda factor, reader, count: _largest(factor * _lengths(reader), count),
        "a factor of -2 lets as much through as one of 2: take its absolute value.",
    ),
    "weights summed with their signs": (
        lambda factor, reader, count: _largest(factor.abs() * reader.sum(dim=(0, 2)).abs(), count),
        "weights of both signs don't cancel: the length is the root of the sum of squares.",
    ),
    "the next layer's own channels": (
        lambda factor, reader, count: _largest(factor.abs() * reader.flatten(1).norm(dim=1), count),
        "axis 0 of the next layer's weights are its outputs; the channels that it reads are axis 1.",
    ),
    "in order of importance": (
        lambda factor, reader, count: (factor.abs() * _lengths(reader)).topk(count).indices,
        "the right channels, in another order than they have in the network: sort their numbers.",
    ),
}


def on_the_front(accuracy: Tensor, size: Tensor, milliseconds: Tensor) -> Tensor:
    """14.4."""
    return _not_beaten(accuracy, size, milliseconds)


def _not_beaten(*columns: Tensor, strict: bool = False, ties: bool = False) -> Tensor:
    """Rows that no other row beats; the first column is better the larger, the others the smaller."""
    costs = torch.stack([-columns[0].double(), *(column.double() for column in columns[1:])], dim=-1)
    mine, other = costs[:, None], costs[None, :]
    as_good, better = (other <= mine).all(dim=-1), (other < mine).any(dim=-1)
    if strict:
        better = (other < mine).all(dim=-1)
    if ties:
        better = ~torch.eye(len(costs), dtype=torch.bool)
    return ~(as_good & better).any(dim=1)


_FRONT_MISTAKES: dict[str, tuple[Any, str]] = {
    "the best of each column": (
        lambda a, s, m: (a == a.max()) | (s == s.min()) | (m == m.min()),
        "a network between the extremes can be the best for its size: compare each with each.",
    ),
    "beaten only where all is worse": (
        lambda a, s, m: _not_beaten(a, s, m, strict=True),
        "who is equal in one thing and worse in another is beaten: nobody would choose it.",
    ),
    "two equals beat each other": (
        lambda a, s, m: _not_beaten(a, s, m, ties=True),
        "to beat another one a network must be better in something.",
    ),
    "less accuracy is better": (
        lambda a, s, m: _not_beaten(-a, s, m),
        "bytes and milliseconds are costs, accuracy is not: turn its sign.",
    ),
    "accuracy and size only": (
        lambda a, s, m: _not_beaten(a, s),
        "a larger network may be the quicker one: there are three columns.",
    ),
    "those that are beaten": (
        lambda a, s, m: ~_not_beaten(a, s, m),
        "True is asked for where no other network is as good in all and better in something.",
    ),
}

# Inside the clip, near its ends and beyond them; never on the border, nor half a step beyond it: conventions differ.
_VALUES = torch.tensor([-2, -1.1875, -0.96875, -0.59375, -0.09375, 0, 0.15625, 0.34375, 0.46875, 0.71875, 0.96875, 3])
_ROUNDED = {"3 bits, levels from -1 to 0.75": (_VALUES, 0.25, 3), "4 bits, the same step": (2 * _VALUES, 0.25, 4)}

_FACTOR = torch.tensor([1.5, -2.0, 1.0, 0.5, -1.0])
_READER = (torch.arange(50) % 17 - 8.0).view(5, 5, 2)  # each mistake chooses others, of one channel or of four
_KEPT = {f"{count} of five": (_FACTOR, _READER, count) for count in (2, 3, 1, 4)}

_ACCURACY = torch.tensor([0.97, 0.95, 0.95, 0.93, 0.95, 0.90, 0.91, 0.90, 0.93, 0.89])
_BYTES = torch.tensor([400.0, 100.0, 100.0, 120.0, 110.0, 30.0, 90.0, 30.0, 60.0, 30.0])
_MILLISECONDS = torch.tensor([2.0, 0.8, 0.8, 0.5, 0.8, 0.9, 0.7, 0.9, 1.2, 0.9])

_WEIGHTS, _CHANNELS = 16 * 32 * 3 * 3 + 32 * 10, 32 + 10

EXERCISES: dict[str, Exercise] = {
    "14.1": Exercise(
        title="Predict the bytes",
        hint="Count weights, channels and biases of both layers; then one byte, four and four for each.",
        differs=number(tolerance=1e-4),
        solution=_WEIGHTS + 4 * _CHANNELS + 4 * _CHANNELS,
        mistakes={
            "all numbers as floats": (4 * (_WEIGHTS + _CHANNELS), "int8 takes one byte a weight, not four."),
            "a quarter of the floats": (
                _WEIGHTS + _CHANNELS,
                "the biases stay floats, and each output channel brings a step, a float too.",
            ),
            "the steps forgotten": (_WEIGHTS + 4 * _CHANNELS, "each output channel brings a step, a float of 4 bytes."),
            "one step a layer": (
                _WEIGHTS + 4 * 2 + 4 * _CHANNELS,
                "per channel means one step for each of the 32 and of the 10 outputs.",
            ),
            "a step for each input channel": (
                _WEIGHTS + 4 * (16 + 32) + 4 * _CHANNELS,
                "the channels are those of the output: axis 0 of the weights.",
            ),
            "steps and biases of one byte": (_WEIGHTS + 2 * _CHANNELS, "steps and biases stay floats: 4 bytes each."),
            "bits for bytes": (8 * (_WEIGHTS + 8 * _CHANNELS), "8 bits are one byte."),
        },
        remark="Floats take 19,880 bytes: 3.8 times as many, not 4. Beside 4 bits, two weights a byte, 7.1 times.",
    ),
    "14.2": Exercise(
        title="Recall fake quantisation",
        hint="Divide by the scale, clamp to the levels, round with a detour for the gradient, multiply by the scale.",
        differs=_compare_values_and_gradients,
        solution=my_quantizer,
        mistakes=_QUANTIZER_MISTAKES,
        remark="Forward it is a staircase, backward a ramp with flat ends.",
    ),
    "14.3": Exercise(
        title="Choose the channels that stay",
        hint="reader[:, c] holds all weights that read channel c. topk gives the numbers in the order of importance.",
        differs=calls(_KEPT),
        solution=channels_kept,
        mistakes=_CHANNEL_MISTAKES,
        remark="Muralidharan et al. measure importance from activations on a few inputs instead of from weights.",
    ),
    "14.4": Exercise(
        title="Design: which networks are on the front?",
        hint="Compare each with each: as good in all three, and better in one. `[:, None]` makes all pairs.",
        differs=calls({"ten networks": (_ACCURACY, _BYTES, _MILLISECONDS)}),
        solution=on_the_front,
        mistakes=_FRONT_MISTAKES,
        remark="Measured numbers have intervals: of two networks that the seeds can't tell apart take the cheaper one.",
    ),
}

QUIZ = (
    Question(
        "A network's weights are stored as int8, and everything is computed in floats, as before. What is sure?",
        {
            "Its weights take about a quarter of the bytes": "And a step per channel. A small file may still grow.",
            "It is about four times as fast": "Products of floats take as long as before; int8 products need a runtime "
            "and a processor that have them.",
            "It is as accurate as before": "With 8 bits mostly, with few bits hardly: measure it.",
        },
        right="Its weights take about a quarter of the bytes",
    ),
    Question(
        "In training with fake quantisation a weight lies far beyond the last level. What does the loss do to it?",
        {
            "Nothing: its gradient is 0": "Clipping is flat there. A larger step, or weight decay, brings it back.",
            "It pulls the weight back to the grid": "The loss sees the clipped value, which does not change when the "
            "weight does.",
            "It pushes the weight as if nothing were rounded": "That is so inside the clip: straight through goes the "
            "rounding, not the clipping.",
        },
        right="Nothing: its gradient is 0",
    ),
    Question(
        "A student of 4 bits is as accurate as its teacher and takes an eighth of the bytes. Which opponent must it "
        "still beat?",
        {
            "A smaller network in floats, of equal bytes and equal training": "Fewer weights are the other way to few "
            "bytes: only beside it do 4 bits show what they are worth.",
            "The teacher": "That has been done, and says that there was room, not which way to use it is the best.",
            "The same network, rounded and not taught": "That shows what teaching brings, not whether to round at all.",
        },
        right="A smaller network in floats, of equal bytes and equal training",
    ),
)
