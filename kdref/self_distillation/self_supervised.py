"""A moving average as the teacher, and self-distillation without labels (DINO), with what keeps it from collapsing.

Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.14294; Tarvainen and Valpola, "Mean teachers are better role models", NIPS 2017,
https://arxiv.org/abs/1703.01780. Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C outputs of the head (DINO's "classes", which nobody named); ``...`` is any number of leading axes.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DinoCenter", "EmaTeacher", "dino_loss", "output_information"]


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
        ValueError: If the decay is outside [0, 1].

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
        _check_decay("decay", decay)
        self.decay = decay
        self.module = copy.deepcopy(student).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Call the averaged network, in eval mode and without gradient."""
        return self.module(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student's parameters and buffers.

        Args:
            student: The network that was copied, or one of the same form.

        Raises:
            ValueError: If the names or shapes of its parameters and buffers are others, or the decay has left [0, 1].
        """
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


class DinoCenter(nn.Module):
    r"""The running mean of the teacher's outputs, which DINO subtracts: no output can win for all examples.

    .. math::
        c \leftarrow m\,c + (1 - m)\,\frac1B \sum_i z^t_i

    ``dino_loss`` uses it and never changes it: call ``update`` with the same raw outputs afterwards. The mean is of
    this process alone; where several train together, hand ``update`` the outputs of all, or average ``value``.

    Args:
        num_outputs: C, at least 1.
        momentum: :math:`m` in [0, 1]. The paper's 0.9.

    Raises:
        ValueError: If there is no output or the momentum is outside [0, 1].

    Example:
        >>> center = DinoCenter(2, momentum=0.5)
        >>> center.update(torch.tensor([[4.0, 0.0], [8.0, 2.0]]))  # mean (6, 1)
        >>> center.value
        tensor([3.0000, 0.5000])

    Source: Caron et al. 2021, equation 4.
    """

    value: Tensor

    def __init__(self, num_outputs: int, *, momentum: float = 0.9) -> None:
        """Begin at zero."""
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be at least 1, got {num_outputs}")
        _check_decay("momentum", momentum)
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(num_outputs))

    def forward(self, teacher_outputs: Tensor) -> Tensor:  # (..., C)
        """Subtract the center from raw outputs ``(..., C)``."""
        return teacher_outputs - self.value.to(torch.promote_types(teacher_outputs.dtype, torch.float32))

    @torch.no_grad()
    def update(self, teacher_outputs: Tensor) -> None:
        """Move towards the mean of the teacher's raw outputs, shape ``(..., C)``: not centred, not softmaxed.

        Args:
            teacher_outputs: Of all views the teacher saw.

        Raises:
            TypeError: If the outputs are not floating point.
            ValueError: If they are not ``(..., C)`` with this center's C, or empty.
        """
        _check_outputs(teacher_outputs)
        _check_width(teacher_outputs, self)
        self.value.lerp_(teacher_outputs.to(self.value).flatten(0, -2).mean(dim=0), 1 - self.momentum)


def dino_loss(
    student_outputs: Tensor,  # (..., C)
    teacher_outputs: Tensor,  # (..., C)
    center: DinoCenter,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:  # ()
    r"""Cross-entropy from the teacher's centred, sharpened answer to one view to the student's on another (DINO).

    .. math::
        -\frac1B \sum_i \sum_c p_{ic} \log q_{ic}, \quad
        p = \mathrm{softmax}\Big(\frac{z^t - c}{\tau_t}\Big), \; q = \mathrm{softmax}\Big(\frac{z^s}{\tau_s}\Big)

    Both must see the same image, and not the same view of it: sum the loss over pairs of views. Two trivial answers
    satisfy it, one output for all examples and the uniform distribution. Sharpening alone (:math:`\tau_t < \tau_s`)
    ends in the first, centring alone in the second; watch ``output_information``, for the loss looks well in the
    first. It is a cross-entropy: not 0 where the two agree, and without the factor τ².

    Args:
        student_outputs: :math:`z^s`, raw outputs of the student's head, shape ``(..., C)``. Receives the gradient.
        teacher_outputs: :math:`z^t`, of the teacher's, same shape, of other views of the same examples. A constant.
        center: c; a fresh one that is never updated is no centring. Update it after the loss.
        student_temperature: :math:`\tau_s > 0`.
        teacher_temperature: :math:`\tau_t > 0`. The authors begin with 0.04 and may raise it to 0.07.

    Returns:
        Scalar loss in nats, the mean over leading axes, at least 0.

    Raises:
        TypeError: If the outputs are not floating point.
        ValueError: If the shapes don't fit, there is no example or a temperature is not positive.

    Example:
        >>> agree = torch.tensor([[1.0, 0.0]])
        >>> dino_loss(agree, agree, DinoCenter(2), student_temperature=1.0, teacher_temperature=1.0)  # an entropy
        tensor(0.5822)

    Source: Caron et al. 2021, equations 1 and 2, and the authors' code.
    """
    for outputs in (student_outputs, teacher_outputs):
        _check_outputs(outputs)
    if student_outputs.shape != teacher_outputs.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student_outputs.shape)} and "
            f"{tuple(teacher_outputs.shape)}"
        )
    _check_width(teacher_outputs, center)
    _check_temperature(student_temperature)
    _check_temperature(teacher_temperature)
    dtype = torch.promote_types(student_outputs.dtype, torch.float32)
    p = F.softmax(center(teacher_outputs.detach().to(dtype)) / teacher_temperature, dim=-1)
    log_q = F.log_softmax(student_outputs.to(dtype) / student_temperature, dim=-1)
    return -(p * log_q).sum(dim=-1).mean()


def output_information(
    outputs: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""How many nats an output tells about which example it is of: 0 after either collapse.

    .. math::
        \frac1B \sum_i \mathrm{KL}(p_i \,\|\, \bar p) = H(\bar p) - \frac1B \sum_i H(p_i), \quad
        \bar p = \frac1B \sum_i p_i

    The mutual information of output and example. It is large when each example is answered surely, and not all alike.

    Args:
        outputs: Raw outputs, shape ``(..., C)``, of many examples: B of them can show at most log B. Without gradient.
        temperature: :math:`\tau > 0` of the softmax p.

    Returns:
        Scalar in nats, from 0 to the smaller of log B and log C.

    Raises:
        TypeError: If the outputs are not floating point.
        ValueError: If there is no output axis, no example or the temperature is not positive.

    Example:
        >>> output_information(100 * torch.eye(4)), output_information(100 * torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        (tensor(1.3863), tensor(0.))

    Source: a standard identity; Caron et al. 2021, Section 5.3, watch the two entropies apart.
    """
    _check_outputs(outputs)
    _check_temperature(temperature)
    rows = outputs.detach().flatten(0, -2).to(torch.promote_types(outputs.dtype, torch.float32))
    log_p = F.log_softmax(rows / temperature, dim=-1)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(rows))
    return F.kl_div(log_mean.expand_as(log_p), log_p, reduction="batchmean", log_target=True).clamp(min=0)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _check_outputs(outputs: Tensor) -> None:
    if not outputs.is_floating_point():
        raise TypeError(f"outputs must be floating point, got {outputs.dtype}: pass the head's raw scores")
    if outputs.dim() < 2 or outputs.numel() == 0:
        raise ValueError(f"outputs must be (..., C), not empty, got shape {tuple(outputs.shape)}")


def _check_width(outputs: Tensor, center: DinoCenter) -> None:
    if outputs.shape[-1:] != center.value.shape:
        raise ValueError(f"the center is of {len(center.value)} outputs, got {tuple(outputs.shape)}")


def _check_decay(name: str, decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {decay}: it is the share of the old value that stays")


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")
