"""A moving average of the student as its teacher.

Source: Tarvainen and Valpola, "Mean teachers are better role models", NIPS 2017, https://arxiv.org/abs/1703.01780.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
"""

import copy
import numbers
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EmaTeacher"]


class _AlwaysEval(nn.Module):
    """Stays in eval mode, also as a part of a model that is put in train mode."""

    def train(self, mode: bool = True) -> "_AlwaysEval":
        super().train(False)
        return self


class EmaTeacher(_AlwaysEval):
    r"""A teacher that follows its student: an exponential moving average of parameters and buffers.

    .. math::
        \theta^t \leftarrow d\,\theta^t + (1 - d)\,\theta^s

    Call ``update(student)`` after each step of the optimiser, not before. Buffers count: a teacher whose batch norm
    keeps its first statistics is no average of anything. Whole numbers, such as counts of batches, are copied. The
    teacher is a copy: frozen, without gradient, always in eval mode. In bfloat16 a difference times 0.001 is lost in
    rounding, and the average stands still: keep the weights in float32.

    Args:
        student: The network to follow; copied as it is now, and not changed.
        decay: :math:`d` in [0, 1]. 1 never changes the teacher, 0 copies the student. About 1 / (1 - d) steps are
            averaged. DINO raises it from 0.996 to 1 along a cosine: set ``teacher.decay`` before an update.

    Raises:
        TypeError, ValueError: If the student is no module or the decay is outside [0, 1].

    Example:
        >>> student = nn.Linear(1, 1, bias=False)
        >>> teacher = EmaTeacher(student, decay=0.75)
        >>> before = teacher.module.weight.item()
        >>> _ = student.weight.data.add_(4.0)
        >>> teacher.update(student)
        >>> round(teacher.module.weight.item() - before, 4)  # a quarter of the way
        1.0

    Source: Tarvainen and Valpola 2017, equation 1; Caron et al. 2021, Section 3.1, whose code averages the parameters
    only and leaves the teacher in train mode.
    """

    def __init__(self, student: nn.Module, *, decay: float) -> None:
        """Copy the student."""
        super().__init__()
        _check_module(student)
        _check_decay("decay", decay)
        self.decay = decay
        self.module = copy.deepcopy(student).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Call the averaged network, in eval mode and without gradient, with the student's arguments."""
        return self.module(*inputs, **named)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student's parameters and buffers.

        Args:
            student: The network that was copied, or one of the same form.

        Raises:
            TypeError, ValueError: If it is no module, the names or shapes of its parameters and buffers are others, or
                the decay has left [0, 1].
        """
        _check_module(student)
        _check_decay("decay", self.decay)
        own, new = dict(_state(self.module)), dict(_state(student))
        if {name: x.shape for name, x in own.items()} != {name: x.shape for name, x in new.items()}:
            odd = sorted(name for name in own.keys() | new.keys() if name not in own or name not in new)
            raise ValueError(f"the student is not of the teacher's form: {odd or 'shapes'} differ")
        for name, average in own.items():
            if average.is_floating_point() or average.is_complex():
                average.lerp_(new[name].to(average), 1 - self.decay)
            elif self.decay < 1:  # a count has no average
                average.copy_(new[name])


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _check_module(student: object) -> None:
    if not isinstance(student, nn.Module):
        raise TypeError(
            f"student must be a module, got {type(student).__name__}: the network, not its state or outputs"
        )


def _check_decay(name: str, decay: float) -> None:
    _check_numbers(**{name: decay})
    if not 0 <= decay <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {decay}: it is the share of the old value that stays")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
