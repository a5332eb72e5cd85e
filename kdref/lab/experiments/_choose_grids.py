"""Which settings of a loss are tried: three to begin with, and further ones for as long as the best is at an end.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["DECAY", "FLAT", "LADDERS", "WEIGHT", "WHERE", "Climb", "Ladder", "climbed"]

FLAT = 0.005  # of accuracy: a last step that gains less than half a point is flat
WHERE = ("inside", "flat", "border", "end")


class Ladder(NamedTuple):
    """The settings that may be tried, from the lowest to the highest, and those that are tried first."""

    values: tuple[float, ...]
    first: tuple[float, ...]
    borders: tuple[float, ...] = ()  # beyond them there is nothing: weight decay 0, a share of 1


class Climb(NamedTuple):
    """How far the search has come."""

    tried: tuple[float, ...]  # all that is or must be run
    best: float | None = None  # None while some of these are missing
    where: str = ""  # one of ``WHERE``: the best lies inside; or at an end that is flat, natural, or just an end


def climbed(ladder: Ladder, found: Mapping[float, float]) -> Climb:
    """What is to be run next, given the validation accuracy of some settings, or what is chosen.

    Args:
        ladder: The list.
        found: Mean validation accuracy by setting.

    Example:
        >>> ladder = Ladder((0.1, 1, 10, 100, 1000), first=(1, 10, 100))
        >>> climbed(ladder, {1: 0.5, 10: 0.6, 100: 0.7})
        Climb(tried=(1, 10, 100, 1000), best=None, where='')
        >>> climbed(ladder, {1: 0.5, 10: 0.6, 100: 0.7, 1000: 0.6})
        Climb(tried=(1, 10, 100, 1000), best=100, where='inside')
    """
    low = ladder.values.index(ladder.first[0])
    high = ladder.values.index(ladder.first[-1])
    while True:
        tried = ladder.values[low : high + 1]
        if not all(value in found for value in tried):
            return Climb(tried)
        best = max(tried, key=lambda value: found[value])
        if best not in (tried[0], tried[-1]):
            return Climb(tried, best, "inside")
        at_top = best == tried[-1]
        if best in ladder.borders:
            return Climb(tried, best, "border")
        if found[best] - found[tried[-2] if at_top else tried[1]] < FLAT:
            return Climb(tried, best, "flat")
        if best == ladder.values[-1 if at_top else 0]:
            return Climb(tried, best, "end")
        low, high = (low, high + 1) if at_top else (low - 1, high)


DECAY = Ladder((0.0, 0.1, 0.3, 1.0, 3.0, 10.0), first=(0.0, 0.1, 0.3), borders=(0.0,))
WEIGHT = Ladder(  # of losses from inside, in units of their gradient
    (0.0016, 0.008, 0.04, 0.2, 1.0, 5.0, 25.0, 125.0, 625.0, 3125.0), first=(0.2, 1.0, 5.0)
)
TEMPERATURE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
THIRDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LADDERS = {  # of losses on logits, each of the one hyper-parameter named in ``_response``
    "label smoothing": Ladder((0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9), first=(0.03, 0.1, 0.3)),
    "virtual teacher": Ladder(TEMPERATURE, first=(1.0, 2.0, 4.0)),
    "hard labels of the teacher": Ladder((0.03, 0.1, 0.3, 0.6, 1.0), first=(0.3, 0.6, 1.0), borders=(1.0,)),
    "soft targets": Ladder(TEMPERATURE, first=(2.0, 4.0, 8.0)),
    "learnable temperature": Ladder((2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0), first=(10.0, 20.0, 40.0)),
    "logit matching": Ladder(THIRDS, first=(0.3, 1.0, 3.0)),
    "decoupled (DKD)": Ladder((0.0625, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0), first=(1.0, 4.0, 16.0)),
    "normalised (NKD)": Ladder(TEMPERATURE, first=(1.0, 2.0, 4.0)),
    "correlation (DIST)": Ladder(THIRDS, first=(0.3, 1.0, 3.0)),
    "standardised logits": Ladder(THIRDS, first=(1.0, 3.0, 10.0)),
}
