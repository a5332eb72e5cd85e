"""Distillation up to shift and scale: the student matches z-scores of the teacher's outputs, not the outputs.

Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, https://arxiv.org/abs/2403.01427;
Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, https://arxiv.org/abs/2205.10536 (DIST).
Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dist_loss", "standardize_logits", "standardized_kd_loss"]


def standardize_logits(
    logits: Tensor,  # (..., C)
    *,
    eps: float = 1e-7,
    class_dim: int = -1,
) -> Tensor:  # (..., C)
    r"""Z-scores of each example's logits: mean 0 and standard deviation 1 over its classes.

    .. math::
        Z(z)_c = \frac{z_c - \bar z}{\sigma(z) + \epsilon}, \quad \sigma(z)^2 = \frac{1}{C - 1} \sum_c (z_c - \bar z)^2

    Invariant to :math:`z \to az + b` with a > 0, as far as :math:`\epsilon` is small beside :math:`\sigma`. The
    largest score is at most :math:`(C - 1)/\sqrt C`, so with few classes softmax of it can't be sure: two classes
    always give :math:`\pm 1/\sqrt2`. Equal logits get scores of 0 and no gradient; in the authors' code their gradient
    is 1/eps, ten million. The divisor C - 1 and eps are those of that code.

    Args:
        logits: Raw scores :math:`z`, shape ``(..., C)``. Receives a gradient; detach a teacher's logits yourself.
        eps: :math:`\epsilon \ge 0`, in logits. It keeps rows of nearly equal logits from large gradients.
        class_dim: The axis of the classes.

    Returns:
        Z-scores, same shape, no unit. NaN where a logit of the example is NaN or infinite, for it has no mean: leave a
        class that is masked with -inf out on both sides.

    Raises:
        TypeError, ValueError: If the logits are not a floating-point tensor of two classes or more, or eps is negative.

    Example:
        >>> standardize_logits(torch.tensor([[10.0, 20.0, 30.0]]))
        tensor([[-1.,  0.,  1.]])

    Source: Sun et al. 2024, Section 4.2 and Algorithm 1.
    """
    _check_logits(logits, class_dim)
    _check_numbers(eps=eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be 0 or more and finite, got {eps}: it is added to a standard deviation")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    mean = logits.mean(dim=class_dim, keepdim=True)
    centred = logits - mean
    return centred / (_deviation(centred, mean, class_dim, freedom=logits.shape[class_dim] - 1) + eps)


def standardized_kd_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 2.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Soft-target loss of standardised logits: the student copies the order and the spacing, at a scale of its own.

    .. math::
        \tau^2 \cdot \frac1B \sum_i \mathrm{KL}(p_i \,\|\, q_i), \quad
        p = \mathrm{softmax}(Z(z^t) / \tau), \; q = \mathrm{softmax}(Z(z^s) / \tau)

    Its gradient is orthogonal to the ones vector and to the student's centred logits, so it can't set their scale:
    keep cross-entropy beside it (the authors weigh this loss 9 times as much). With two classes there is nothing
    left to learn but the order.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        temperature: The base temperature :math:`\tau > 0`; in logits it is :math:`\tau\sigma`, per example and side.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, averaged over all axes but the classes, at least 0; 0 where one
        side's logits are a positive multiple of the other's plus a constant, NaN where a logit is infinite.

    Raises:
        TypeError, ValueError: As in ``standardize_logits``; if the shapes differ, the batch is empty, or the
            temperature is not positive or above a million.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])
        >>> standardized_kd_loss(student, teacher)  # 2 * (e**0.5 - 1) / (e**0.5 + 1 + e**-0.5)
        tensor(0.3986)

    Source: Sun et al. 2024, Algorithm 1.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature, student_logits, class_dim)
    _check_not_empty(student_logits)
    dtype = _precision(student_logits, temperature)
    student = standardize_logits(student_logits.to(dtype), class_dim=class_dim)
    teacher = standardize_logits(teacher_logits.detach().to(dtype), class_dim=class_dim)
    log_q, log_p = (F.log_softmax(scores / temperature, dim=class_dim) for scores in (student, teacher))
    loss = (_kl(log_q, log_p, class_dim) * _per_example(temperature, class_dim) ** 2).mean()
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def dist_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Distillation from a stronger teacher (DIST): correlate the probabilities, by example and by class.

    .. math::
        \tau^2 \Big[ w_{\text{inter}} \frac1B \sum_i \big(1 - \rho(q_{i\cdot}, p_{i\cdot})\big)
        + w_{\text{intra}} \frac1C \sum_c \big(1 - \rho(q_{\cdot c}, p_{\cdot c})\big) \Big], \quad
        1 - \rho(u, v) = \frac{1}{2n} \sum_{j=1}^n \big(Z(u)_j - Z(v)_j\big)^2

    with population z-scores Z, which are 0 for a constant row or column: one constant gives ½, two give 0, so a batch
    of one has no intra term. The authors' code adds 1e-8 to the product of two norms instead: a constant gives 1, and
    with thousands of classes the norms are small enough for it to bend the gradient. It has no temperature either.
    Invariant to positive affine maps of the *probabilities*, not of the logits. Every place of an image is an example,
    as in the authors' code for segmentation: the intra term then relates all places of the batch.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        inter_weight: :math:`w_{\text{inter}} \ge 0`, the paper's beta: relations among one example's classes.
        intra_weight: :math:`w_{\text{intra}} \ge 0`, the paper's gamma: relations among examples, per class.
        temperature: :math:`\tau > 0` of the probabilities, one for all examples. The paper takes 1, and 4 with
            weights 2 on CIFAR-100.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss times :math:`\tau^2`, no unit; each mean is in [0, 2], and 0 where the two agree.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the batch is empty, there are fewer than two
            classes, a weight is negative, or the temperature is not positive or above a million.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> dist_loss(-teacher, teacher)  # turned round: 1 - (-1), by example and by class
        tensor(4.)

    Source: Huang et al. 2022, Section 4.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature)
    _check_not_empty(student_logits)
    for name, weight in (("inter_weight", inter_weight), ("intra_weight", intra_weight)):
        _check_numbers(**{name: weight})
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be 0 or more and finite, got {weight}: a negative one trains away from it")
    dtype = _precision(student_logits, temperature)
    rows = (z.to(dtype).movedim(class_dim, -1).flatten(0, -2) for z in (student_logits, teacher_logits.detach()))
    q, p = (F.softmax(z / temperature, dim=1) for z in rows)
    inter = _correlation_distance(q, p, dim=1)
    intra = _correlation_distance(q, p, dim=0)
    loss = (inter_weight * inter + intra_weight * intra) * temperature**2
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def _correlation_distance(student: Tensor, teacher: Tensor, *, dim: int) -> Tensor:  # ()
    """The mean of 1 - Pearson's correlation along an axis, as half the mean squared difference of z-scores."""
    return F.mse_loss(_z_scores(student, dim), _z_scores(teacher, dim)) / 2


def _z_scores(probabilities: Tensor, dim: int) -> Tensor:
    """Population z-scores along an axis; 0 where the variance is a rounding error of a constant."""
    mean = probabilities.mean(dim, keepdim=True)
    centred = probabilities - mean
    variance = centred.square().mean(dim, keepdim=True)
    limits = torch.finfo(mean.dtype)
    constant = variance <= (8 * limits.eps * mean) ** 2 + limits.tiny
    return centred * variance.masked_fill(constant, math.inf).rsqrt()


def _deviation(centred: Tensor, mean: Tensor, dim: int, *, freedom: int) -> Tensor:
    """Root mean square; infinite where that is a rounding error of a constant, whose z-scores so are 0."""
    largest, limits = centred.detach().abs().amax(dim, keepdim=True), torch.finfo(mean.dtype)
    constant = largest <= 8 * limits.eps * mean.abs() + limits.tiny
    unit = largest.masked_fill(constant, 1.0)  # of the differences, so that no square overflows
    mean_square = (centred * (1 / unit)).square().sum(dim, keepdim=True) / freedom
    return (unit * mean_square.masked_fill(constant, 1.0).sqrt()).masked_fill(constant, math.inf)


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


def _precision(logits: Tensor, temperature: float | Tensor) -> torch.dtype:
    """At least float32; float64 where a factor τ² would make its rounding errors as large as the loss."""
    large = not isinstance(temperature, Tensor) and temperature > 32
    if large and temperature > 1e6:
        raise ValueError(f"temperature {temperature} leaves rounding errors only: use logit_matching_loss, the limit")
    double = large and logits.device.type != "mps"  # Apple's GPUs have no float64
    return torch.promote_types(logits.dtype, torch.float64 if double else torch.float32)


def _per_example(temperature: float | Tensor, class_dim: int) -> float | Tensor:
    """The temperature without a class axis, to multiply values per example."""
    if isinstance(temperature, Tensor) and temperature.dim() > 0:
        return temperature.squeeze(class_dim)
    return temperature


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


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
