"""Means of a step's terms, read from the device once in a while: every reading makes the processor wait for it.

Lesson: notebooks/17_scale_out.ipynb.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["LOOK_EVERY", "Means"]

LOOK_EVERY = 50
"""Steps between two readings on an accelerator. On the CPU nothing waits, and every step is read."""


class Means:
    """Example-weighted means of named terms over an epoch.

    Args:
        epoch: Its number, for the message.
        every: Steps from one reading to the next; None: 1 on the CPU, ``LOOK_EVERY`` elsewhere.

    Example:
        >>> means = Means(1, every=2)
        >>> for value in (1.0, 4.0):
        ...     means.add({"loss": torch.tensor(value)}, 3)
        >>> means.of([means.totals()])
        {'loss': 2.5}
    """

    def __init__(self, epoch: int, *, every: int | None = None) -> None:
        """See the class."""
        self._epoch, self._every = epoch, every
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}  # a term may be missing in some batches: its mean is over the others
        self._unread: list[tuple[list[str], int, Tensor]] = []

    def add(self, terms: Mapping[str, Tensor], examples: int) -> None:
        """Take a step's terms, as they are now.

        Raises:
            ValueError: If there is no ``"loss"`` among them.
            FloatingPointError: If they are read, and a loss is not finite.
        """
        if "loss" not in terms:
            raise ValueError(f"step must return a term named 'loss', got {sorted(terms)}")
        device = terms["loss"].device
        every = self._every or (1 if device.type == "cpu" else LOOK_EVERY)
        if every == 1:
            self._count({name: value.item() for name, value in terms.items()}, examples, late=0)
            return
        exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        # a copy, since a term may be a parameter, which the update changes before it is read
        values = torch.stack([value.detach().to(device, exact).reshape(()) for value in terms.values()])
        self._unread.append((list(terms), examples, values))
        if len(self._unread) >= every:
            self.look()

    def look(self) -> None:
        """Read what has been added since the last time, in one transfer.

        Raises:
            FloatingPointError: If a loss is not finite; names the epoch and the terms at fault.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        numbers = iter(torch.cat([values for _, _, values in unread]).tolist())
        for step, (names, examples, _) in enumerate(unread):
            self._count({name: next(numbers) for name in names}, examples, late=len(unread) - 1 - step)

    def totals(self) -> dict[str, Any]:
        """Sums and counts so far, for a checkpoint, or for the other processes."""
        self.look()
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def go_on_from(self, totals: Mapping[str, Any]) -> None:
        """Count on from what ``totals`` gave."""
        self._sums, self._counts = dict(totals["sums"]), dict(totals["counts"])

    @staticmethod
    def of(totals: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The means over all processes.

        Raises:
            ValueError: If no step was taken.
        """
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for part in totals:
            for name, value in part["sums"].items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + part["counts"][name]
        if not counts.get("loss"):
            raise ValueError(
                "batches gave no batch in this epoch: pass something that can be iterated anew, not a generator"
            )
        return {name: total / counts[name] for name, total in sums.items()}

    def _count(self, values: Mapping[str, float], examples: int, late: int) -> None:
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(_blame(values, self._epoch, late))
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples
            self._counts[name] = self._counts.get(name, 0) + examples


def _blame(values: Mapping[str, float], epoch: int, late: int) -> str:
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    named = ", ".join(f"'{name}' is {value}" for name, value in bad.items() if name != "loss" or len(bad) == 1)
    where = "The weights are as before this step"
    if late:
        where = f"It was read {late} steps later, and the weights have been updated since: go on from a checkpoint"
    return f"epoch {epoch}: term {named}. {where}: look at the inputs, or lower the learning rate"
