"""What the training loop asks of the process it runs in: here of the only one. Several are in scale.py.

Lesson: notebooks/17_scale_out.ipynb.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["OneProcess"]


class OneProcess:
    """One process: nothing is exchanged.

    Example:
        >>> OneProcess().gathered("mine"), OneProcess().count
        (['mine'], 1)
    """

    rank = 0
    """Number of this process, from 0."""
    count = 1
    """How many processes train together."""
    device: torch.device | None = None
    """Where shared batches go; None leaves them where they are."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the parameters'."""
        loss.backward()

    def waiting(self, modules: Sequence[nn.Module]) -> AbstractContextManager[object]:
        """While it lasts, forward and backward passes leave exchanging the gradients to a later one."""
        return nullcontext()

    def clip(self, optimizer: Optimizer, norm: float) -> None:
        """Shorten the whole gradient of what the optimizer holds to this length, if it is longer."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, norm)

    def gathered(self, value: Any) -> list[Any]:
        """The value of each process, in their order, on every process."""
        return [value]

    def states(self, modules: Sequence[nn.Module], optimizer: Optimizer) -> tuple[list[Any], Any]:
        """What modules and optimizer hold, whole, for a checkpoint. Every process must call it."""
        return [module.state_dict() for module in modules], optimizer.state_dict()

    def set_states(
        self, modules: Sequence[nn.Module], optimizer: Optimizer, module_states: list[Any], optimizer_state: Any
    ) -> None:
        """Put back what ``states`` gave."""
        for module, state in zip(modules, module_states, strict=True):
            module.load_state_dict(state)
        optimizer.load_state_dict(optimizer_state)
