"""Self-distillation without labels (DINO), with what keeps it from collapsing. Its teacher is an ``EmaTeacher``.

Source: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021,
https://arxiv.org/abs/2104.14294. Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C outputs of the head (DINO's "classes", which nobody named); ``...`` is any number of axes. The
outputs are on the last axis, or on ``class_dim``: 1 for heads on images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DinoCenter", "dino_loss", "output_information"]


class DinoCenter(nn.Module):
    r"""The running mean of the teacher's outputs, which DINO subtracts: no output can win for all examples.

    .. math::
        c \leftarrow m\,c + (1 - m)\,\frac1B \sum_i z^t_i

    ``dino_loss`` uses it and never changes it: call ``update`` with the same raw outputs afterwards. The mean is of
    this process alone; where several train together, hand ``update`` the outputs of all, or average ``value``.

    Args:
        num_outputs: C, at least 2.
        momentum: :math:`m` in [0, 1]. The paper's 0.9.

    Raises:
        TypeError, ValueError: If there are fewer than two outputs or the momentum is outside [0, 1].

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
        _check_numbers(num_outputs=num_outputs)
        if num_outputs < 2:
            raise ValueError(f"num_outputs must be at least 2, got {num_outputs}: one output can only win")
        _check_decay("momentum", momentum)
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(num_outputs))

    def forward(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> Tensor:  # (..., C)
        """Subtract the center from raw outputs ``(..., C)``."""
        outputs = teacher_outputs.to(torch.promote_types(teacher_outputs.dtype, torch.float32))
        return (outputs.movedim(class_dim, -1) - self.value.to(outputs.dtype)).movedim(-1, class_dim)

    @torch.no_grad()
    def update(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> None:
        """Move towards the mean of the teacher's raw outputs, shape ``(..., C)``: not centred, not softmaxed.

        Args:
            teacher_outputs: Of all views the teacher saw.
            class_dim: The axis of the outputs.

        Raises:
            TypeError, ValueError: If they are no floating-point tensor ``(..., C)`` with this center's C, or empty.
        """
        _check_outputs(teacher_outputs, class_dim)
        _check_width(teacher_outputs, self, class_dim)
        rows = teacher_outputs.to(self.value).movedim(class_dim, -1).flatten(0, -2)
        self.value.lerp_(rows.mean(dim=0), 1 - self.momentum)


def dino_loss(
    student_outputs: Tensor,  # (..., C)
    teacher_outputs: Tensor,  # (..., C)
    center: DinoCenter,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
    class_dim: int = -1,
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
        class_dim: The axis of the outputs.

    Returns:
        Scalar loss in nats, the mean over all axes but the outputs, at least 0.

    Raises:
        TypeError, ValueError: If the outputs are not floating-point tensors, the shapes don't fit, there is no example,
            or a temperature is not positive, or of a shape that is neither () nor one per example.

    Example:
        >>> agree = torch.tensor([[1.0, 0.0]])
        >>> dino_loss(agree, agree, DinoCenter(2), student_temperature=1.0, teacher_temperature=1.0)  # an entropy
        tensor(0.5822)

    Source: Caron et al. 2021, equations 1 and 2, and the authors' code.
    """
    for outputs in (student_outputs, teacher_outputs):
        _check_outputs(outputs, class_dim)
    _check_same_shape(student_outputs, teacher_outputs)
    _check_width(teacher_outputs, center, class_dim)
    _check_temperature(student_temperature, student_outputs, class_dim)
    _check_temperature(teacher_temperature, student_outputs, class_dim)
    dtype = torch.promote_types(student_outputs.dtype, torch.float32)
    centred = center(teacher_outputs.detach().to(dtype), class_dim=class_dim)
    p = F.softmax(centred / teacher_temperature, dim=class_dim)
    log_q = F.log_softmax(student_outputs.to(dtype) / student_temperature, dim=class_dim)
    return -(p * log_q).masked_fill(p == 0, 0).sum(dim=class_dim).mean()  # 0 · ∞ would be NaN


def output_information(
    outputs: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""How many nats an output tells about which example it is of: 0 after either collapse.

    .. math::
        \frac1B \sum_i \mathrm{KL}(p_i \,\|\, \bar p) = H(\bar p) - \frac1B \sum_i H(p_i), \quad
        \bar p = \frac1B \sum_i p_i

    The mutual information of output and example. It is large when each example is answered surely, and not all alike.

    Args:
        outputs: Raw outputs, shape ``(..., C)``, of many examples: B of them can show at most log B. Without gradient.
        temperature: :math:`\tau > 0` of the softmax p.
        class_dim: The axis of the outputs; every place of an image is an example.

    Returns:
        Scalar in nats, from 0 to the smaller of log B and log C.

    Raises:
        TypeError, ValueError: If the outputs are no floating-point tensor, there are fewer than two, there is no
            example, or the temperature is not positive, or of a shape that is neither () nor one per example.

    Example:
        >>> output_information(100 * torch.eye(4)), output_information(100 * torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        (tensor(1.3863), tensor(0.))

    Source: a standard identity; Caron et al. 2021, Section 5.3, watch the two entropies apart.
    """
    _check_outputs(outputs, class_dim)
    _check_temperature(temperature, outputs, class_dim)
    logits = outputs.detach().to(torch.promote_types(outputs.dtype, torch.float32)) / temperature
    log_p = F.log_softmax(logits.movedim(class_dim, -1).flatten(0, -2), dim=1)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    return _kl(log_mean, log_p, 1).mean().clamp(min=0)  # rounding, after a collapse


def _check_outputs(outputs: Tensor, class_dim: int) -> None:
    _check_logits(outputs, class_dim)
    if outputs.dim() < 2 or outputs.numel() == 0:
        raise ValueError(f"outputs must be (..., C), not empty, got shape {tuple(outputs.shape)}")


def _check_width(outputs: Tensor, center: nn.Module, class_dim: int) -> None:
    if not isinstance(center, DinoCenter):
        raise TypeError(
            f"center must be a DinoCenter, got {type(center).__name__}: DinoCenter({outputs.shape[class_dim]})"
        )
    if outputs.shape[class_dim] != len(center.value):
        raise ValueError(f"the center is of {len(center.value)} outputs, got {tuple(outputs.shape)}")


def _check_decay(name: str, decay: float) -> None:
    _check_numbers(**{name: decay})
    if not 0 <= decay <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {decay}: it is the share of the old value that stays")


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


def _check_logits(logits: object, class_dim: int = -1) -> None:
    if not isinstance(logits, Tensor):
        hint = "take its .logits" if hasattr(logits, "keys") or isinstance(logits, tuple) else "use torch.as_tensor"
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}: {hint}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    _check_numbers(class_dim=class_dim)
    shape, where = tuple(logits.shape), "at the end" if class_dim == -1 else f"at {class_dim}"
    if not -len(shape) <= class_dim < len(shape) or shape[class_dim] == 0:
        raise ValueError(f"logits need a class axis {where}, got shape {shape}")
    if shape[class_dim] == 1:
        one = f"one class can only be right, got shape {shape}: give a sigmoid's output z its other class on both sides"
        raise ValueError(f"{one}, torch.cat([z, torch.zeros_like(z)], dim={class_dim}), or use multi_label_loss")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_temperature(temperature: object, logits: Tensor | None = None, class_dim: int = -1) -> None:
    if isinstance(temperature, Tensor):  # looking at its value would cost a sync
        shape, one_each = tuple(temperature.shape), () if logits is None else logits.narrow(class_dim, 0, 1).shape
        fits = len(shape) == len(one_each) and all(size in (1, n) for size, n in zip(shape, one_each, strict=True))
        if shape and not fits:
            each = f", or one per example {tuple(one_each)}" if one_each else ""
            raise ValueError(f"temperature must be a number{each}, got shape {shape}")
    elif not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    elif not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
