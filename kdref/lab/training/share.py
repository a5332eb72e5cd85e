"""One process's rows of batches that all processes draw alike.

Lesson: notebooks/17_scale_out.ipynb.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdref.lab.training.forward import examples_in
from kdref.lab.training.process import OneProcess

__all__ = ["Share"]


class Share:
    """The rows of each batch that are this process's: as many for each, in the batch's order.

    A DistributedSampler gives some examples twice, so that shares are equal; here nothing is repeated, and a batch
    that can't be shared equally is refused: the mean of the processes' means would not be the batch's.

    Args:
        batches: Batches, or lists of indices, as a batch sampler gives them; equal on all processes.
        process: Whose share.

    Example:
        >>> from torch.utils.data import BatchSampler
        >>> class Second(OneProcess):
        ...     rank, count = 1, 2
        ...     def gathered(self, value):
        ...         return [value, value]
        >>> list(Share(BatchSampler(range(8), 4, drop_last=False), Second()))
        [[2, 3], [6, 7]]
    """

    def __init__(self, batches: Iterable[Any], process: OneProcess) -> None:
        """See the class."""
        self.batches, self._process = batches, process

    def __len__(self) -> int:
        """Batches per epoch, where that is known."""
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        """One epoch.

        Raises:
            ValueError: If a batch can't be shared equally, or the processes drew different ones.
        """
        for number, batch in enumerate(self.batches):
            indices = isinstance(batch, list) and all(isinstance(index, int) for index in batch)
            examples = len(batch) if indices else examples_in(batch)
            if number == 0:  # once an epoch: an exchange makes everybody wait
                self._compare(batch if indices else batch_sum(batch))
            if examples % self._process.count:
                raise ValueError(
                    f"a batch of {examples} can't be shared equally by {self._process.count} processes: let batch_size "
                    "be a multiple of them, with drop_last=True"
                )
            each = examples // self._process.count
            rows = slice(self._process.rank * each, (self._process.rank + 1) * each)
            yield _cut(batch, rows, examples, self._process.device)

    def _compare(self, drawn: Any) -> None:
        found = self._process.gathered(drawn)
        if any(other != found[0] for other in found):
            raise ValueError(
                "the processes draw different batches: seed the order alike on all of them, with a generator of its own"
            )


def batch_sum(batch: Any) -> list[float]:
    """The sum of each of a batch's tensors, by which different batches are told apart."""
    if isinstance(batch, Tensor | np.ndarray):
        return [float(torch.as_tensor(batch).double().nan_to_num().sum())]
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return [value for part in parts for value in batch_sum(part)]


def _cut(value: Any, rows: slice, examples: int, device: torch.device | None) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        if value.ndim and len(value) != examples:
            raise ValueError(f"all parts of a batch must hold its {examples} examples, got shape {tuple(value.shape)}")
        part = value[rows] if value.ndim else value
        return part.to(device, non_blocking=True) if device is not None and isinstance(part, Tensor) else part
    if isinstance(value, Mapping):
        return {name: _cut(part, rows, examples, device) for name, part in value.items()}
    if isinstance(value, tuple | list):
        if not any(isinstance(part, Tensor | np.ndarray | Mapping | tuple | list) for part in value):
            return value[rows] if len(value) == examples else value  # texts, names, indices
        parts = [_cut(part, rows, examples, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
