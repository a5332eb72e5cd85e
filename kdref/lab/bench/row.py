"""One line of the benchmark of losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from kdref.lab.bench.peers import Loss

__all__ = ["Row"]


class Row(NamedTuple):
    """One loss of ours and others' that do the same.

    ``inputs(*size)`` makes the arguments, the student's first; ``others`` maps a column to what builds its loss, or
    raises ``ImportError``. A slow line takes one round in ``share``.
    """

    loss: str
    ours: Loss
    plain: Loss
    inputs: Callable[..., tuple[Tensor, ...]]
    sizes: Sequence[tuple[int, ...]]
    others: Mapping[str, Callable[[], Loss]] = {}
    target: str = "at least 0.9 / 0.9"
    share: int = 1
