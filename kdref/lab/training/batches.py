"""Batches of data that fits in memory, and a frozen teacher's outputs, computed once.

Lesson: notebooks/01_soft_targets.ipynb.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdref.lab.training.forward import Inputs, calls, evaluating, examples_in, forward, logits_of

__all__ = ["Batches", "teacher_outputs"]


class Batches:
    """Index slices of tensors that lie in memory, in a new order each epoch.

    One indexing call per tensor and batch replaces the fetching and collating of single examples, which costs more
    than a small model's step. Tensors are kept together: row i of each belongs to the same example, so a teacher's
    precomputed outputs stay with their inputs.

    Args:
        tensors: Tensors that share their first axis.
        batch_size: Examples per batch, at least 1; the last batch may be smaller.
        seed: Seed of the orders: equal seeds give equal orders, epoch by epoch. None keeps the given order.
        drop_last: Leave out a last batch that is smaller.

    Raises:
        ValueError: If there is no tensor or example, something else than a tensor, the lengths differ or the batch
            size is not positive.

    Example:
        >>> for x, y in Batches(torch.arange(3), torch.arange(3) * 10, batch_size=2):
        ...     print(x, y)
        tensor([0, 1]) tensor([ 0, 10])
        tensor([2]) tensor([20])
    """

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int | None = None, drop_last: bool = False) -> None:
        """See the class."""
        other = [type(tensor).__name__ for tensor in tensors if not isinstance(tensor, Tensor) or not tensor.ndim]
        if other:
            raise ValueError(f"Batches takes tensors with examples first, one by one, got {', '.join(other)}")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            raise ValueError(f"tensors must share their first axis, got lengths {lengths}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not lengths[0] or (drop_last and lengths[0] < batch_size):
            raise ValueError(f"{lengths[0]} examples make no batch of {batch_size}: every epoch would be empty")
        self.tensors = tensors
        self.batch_size = batch_size
        self.drop_last = drop_last
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.tensors[0]), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch."""
        size = self.batch_size
        if self._generator is None:
            for start in range(0, len(self) * size, size):
                yield tuple(tensor[start : start + size] for tensor in self.tensors)
            return
        order = torch.randperm(len(self.tensors[0]), generator=self._generator).to(self.tensors[0].device)
        for start in range(0, len(self) * size, size):
            rows = order[start : start + size]
            yield tuple(tensor[rows] for tensor in self.tensors)


@torch.no_grad()
def teacher_outputs(teacher: nn.Module, inputs: Inputs, *, batch_size: int = 1024) -> Tensor:
    """Compute a frozen teacher's outputs once, in the order of the inputs, to be batched together with them.

    Valid only while student and teacher see the same inputs: with augmentation, call the teacher inside ``step`` on
    the augmented batch instead.

    Args:
        teacher: Put in eval mode for the call and restored afterwards, sub-module by sub-module. It gives a tensor, or
            something that holds ``logits`` (Hugging Face's outputs, named tuples, dictionaries): then these are taken.
        inputs: All inputs, examples first: a tensor; or a dictionary of tensors, passed by keyword, as a tokenizer
            makes it; or a tuple of tensors, passed by position.
        batch_size: Examples per forward pass; it changes memory and speed only.

    Returns:
        Outputs, examples first, without gradient.

    Raises:
        ValueError: If the batch size is not positive, there are no inputs, they are not equally many tensors, or the
            teacher gives no tensor, or one with another number of rows.

    Example:
        >>> teacher_outputs(nn.Flatten(), torch.zeros(5, 2, 2), batch_size=2).shape
        torch.Size([5, 4])
    """
    outputs = []
    with evaluating(teacher):
        for batch in calls(inputs, batch_size):
            found, count = logits_of(forward(teacher, batch), of=type(teacher).__name__), examples_in(batch)
            if not found.ndim or len(found) != count:
                raise ValueError(f"for {count} examples the output is of shape {tuple(found.shape)}: examples go first")
            outputs.append(found)
    return torch.cat(outputs)
