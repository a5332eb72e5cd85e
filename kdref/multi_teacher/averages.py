"""Many teachers, one student: two ways to average them, the loss against all of them, and how far they disagree.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
https://arxiv.org/abs/1503.02531; You et al., "Learning from Multiple Teacher Networks", KDD 2017,
https://doi.org/10.1145/3097983.3098135. Weights that say whom to trust are in weights.py, votes on triplets of
examples in triplets.py. Lesson: notebooks/06_multi_teacher.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K teachers, B examples, C classes. Stack the teachers' logits: ``torch.stack([teacher(x) for teacher in ...])``.
``class_dim`` counts the axes of *one* network's logits: 1 for images ``(B, C, H, W)``, stacked ``(K, B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["average_logits", "average_probabilities", "disagreement", "multi_teacher_loss"]


def average_probabilities(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # (B, C)
    r"""Weighted arithmetic mean of the teachers' softened probabilities: what an ensemble predicts.

    .. math::
        \bar p_{ic} = \sum_k w_{ki}\, p_{kic}, \quad p_{ki} = \mathrm{softmax}(z^t_{ki} / \tau)

    The result is softened already: as logits it would be softened twice. To train on it, call ``multi_teacher_loss``,
    whose gradient is the same, or ``F.kl_div(log_q, p, reduction="batchmean")``. A class is likely if *one* teacher
    finds it likely, so teachers who have not heard of a class don't veto it.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.
        temperature: :math:`\tau > 0`, applied to every teacher: a number, or one per example, shape ``(B, 1)``.
        class_dim: The axis of the classes in one teacher's logits.

    Returns:
        Probabilities, shape ``(B, C)``, that sum to 1 over classes if the weights do over teachers.

    Raises:
        TypeError, ValueError: If the logits are no floating-point tensor ``(K, B, C)`` or empty, the weights don't fit,
            or the temperature is not positive, or of a shape that is neither () nor one per example.

    Example:
        >>> certain, clueless = torch.tensor([[50.0, 0.0, 0.0]]), torch.zeros(1, 3)
        >>> average_probabilities(torch.stack([certain, clueless]))
        tensor([[0.6667, 0.1667, 0.1667]])

    Source: Hinton et al. 2015, Section 2; You et al. 2017.
    """
    dim = _check_teachers(teacher_logits, class_dim)
    _check_weights(weights, teacher_logits, dim)
    _check_temperature(temperature, teacher_logits[0], class_dim)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    return (_shares(weights, z, dim) * F.softmax(z / temperature, dim=dim)).sum(dim=0)


def average_logits(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
    class_dim: int = -1,
) -> Tensor:  # (B, C)
    r"""Weighted mean of the teachers' raw logits: after softmax, the geometric mean of their probabilities.

    .. math::
        \bar z_i = \sum_k w_{ki}\, z^t_{ki}, \quad
        \mathrm{softmax}(\bar z_i / \tau)_c \propto \prod_k p_{kic}^{w_{ki}}

    A class is likely if *every* teacher finds it likely. One teacher that gives a class almost no probability vetoes
    it, and one with large logits outvotes the rest.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.
        class_dim: The axis of the classes in one teacher's logits.

    Returns:
        Raw logits, shape ``(B, C)``, not softened: hand them to any loss as one teacher's. -inf where a teacher of any
        weight gives -inf.

    Raises:
        TypeError, ValueError: As in ``average_probabilities``.

    Example:
        >>> certain, clueless = torch.tensor([[50.0, 0.0, 0.0]]), torch.zeros(1, 3)
        >>> average_logits(torch.stack([certain, clueless]))  # still certain
        tensor([[25.,  0.,  0.]])

    Source: Hinton et al. 2015, Section 2, names both means, "an arithmetic or geometric mean" of the teachers'
    predictive distributions.
    """
    dim = _check_teachers(teacher_logits, class_dim)
    _check_weights(weights, teacher_logits, dim)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    return _weighted_logits(_shares(weights, z, dim), z)


def multi_teacher_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
    temperature: float | Tensor = 1.0,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Temperature squared times the weighted mean divergence from each of the teachers.

    .. math::
        \frac{\tau^2}{B} \sum_i \sum_k w_{ki}\, \mathrm{KL}(p_{ki} \,\|\, q_i)
        = \frac{\tau^2}{B} \sum_i \Big[ \mathrm{KL}(\bar p_i \,\|\, q_i)
        + \sum_k w_{ki}\, \mathrm{KL}(p_{ki} \,\|\, \bar p_i) \Big]

    The last term, the teachers' weighted Jensen-Shannon divergence, is a constant of the student: the gradient is that
    of the loss against ``average_probabilities``, and the loss cannot reach 0 where teachers disagree.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.
        temperature: :math:`\tau > 0`, applied to all: a number, or one per example, shape ``(B, 1)``.
        class_dim: The axis of the classes in the student's logits.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, averaged over examples, at least 0; 0 exactly where student and
        teachers all agree. A teacher of weight 0 counts nothing, also where the student lacks one of its classes.

    Raises:
        TypeError, ValueError: As in ``average_probabilities``; if the shapes don't fit, or the temperature is above a
            million.

    Example:
        >>> student = torch.zeros(1, 2, requires_grad=True)
        >>> opposed = torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]])
        >>> loss = multi_teacher_loss(student, opposed)
        >>> loss.detach(), torch.autograd.grad(loss, student)[0]  # log 2, and nothing to learn
        (tensor(0.6931), tensor([[0., 0.]]))

    Source: You et al. 2017 average the softened outputs; Zhang et al., "Confidence-Aware Multi-Teacher Knowledge
    Distillation", ICASSP 2022, https://arxiv.org/abs/2201.00007, weigh the losses, per example. Their code divides the
    weighted sum by K once more.
    """
    _check_logits(student_logits, class_dim)
    dim = _check_teachers(teacher_logits, class_dim)
    if student_logits.shape != teacher_logits.shape[1:]:
        raise ValueError(
            f"expected student (B, C) and teachers (K, B, C), got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}: stack the teachers' logits along a new first axis"
        )
    _check_weights(weights, teacher_logits, dim)
    _check_temperature(temperature, student_logits, class_dim)
    dtype = _precision(student_logits, temperature)
    log_q = F.log_softmax(student_logits.to(dtype) / temperature, dim=class_dim)
    log_p = F.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=dim)
    divergence, shares = _kl(log_q, log_p, dim), _shares(weights, log_p, dim).squeeze(dim)
    divergence = divergence.masked_fill((shares == 0) & (divergence == math.inf), 0)  # 0 · ∞ would be NaN
    loss = ((shares * divergence).sum(dim=0) * _per_example(temperature, class_dim) ** 2).mean()
    return loss.to(torch.promote_types(student_logits.dtype, torch.float32))


def disagreement(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    class_dim: int = -1,
) -> Tensor:  # (B,)
    r"""How far the teachers' predictions are apart, per example: their generalised Jensen-Shannon divergence.

    .. math::
        \frac1K \sum_k \mathrm{KL}(p_{ki} \,\|\, \bar p_i) = H(\bar p_i) - \frac1K \sum_k H(p_{ki}), \quad
        \bar p_i = \frac1K \sum_k p_{ki}

    It is what averaging adds to the entropy, and what ``multi_teacher_loss`` cannot get below at temperature 1.
    Teachers that share an error don't show here.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``, or more axes. Treated as a constant.
        class_dim: The axis of the classes in one teacher's logits.

    Returns:
        Divergence per example, shape ``(B,)``, in nats, in [0, log K]; 0 where all teachers agree.

    Raises:
        TypeError, ValueError: If the logits are no floating-point tensor ``(K, B, C)`` or empty.

    Example:
        >>> disagreement(torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]]))  # log 2
        tensor([0.6931])

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory 37, 1991.
    """
    dim = _check_teachers(teacher_logits, class_dim)
    log_p = F.log_softmax(teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32)), dim=dim)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    return _kl(log_mean, log_p, dim).mean(dim=0).clamp(min=0)  # rounding, where teachers agree


def _shares(weights: Tensor | None, like: Tensor, dim: int) -> Tensor:
    """The teachers' weights, to multiply logits: as many axes, of size 1 but for the teachers' and the examples'."""
    if weights is None:
        weights = like.new_full((len(like),), 1 / len(like))
    missing = (1,) * (like.dim() - 1 - weights.dim())
    return weights.to(like.dtype, copy=True).reshape(*weights.shape, *missing).unsqueeze(dim)


def _weighted_logits(weights: Tensor, logits: Tensor) -> Tensor:  # (K, ...) -> (...)
    """Weighted sum over networks. A class that one of any weight lacks stays at -inf; one of weight 0 is not heard."""
    lacks = logits == -math.inf
    vetoed = (lacks & (weights > 0)).any(dim=0)
    total = (weights * logits.masked_fill(lacks, 0)).sum(dim=0)  # 0 · ∞ would be NaN
    return total - torch.zeros_like(total).masked_fill(vetoed, math.inf)


def _check_teachers(logits: Tensor, class_dim: int = -1) -> int:
    """The axis of the classes in the stack, counted from its end."""
    stack = "stack them with torch.stack, also a single teacher's"
    if not isinstance(logits, Tensor):
        raise TypeError(f"teachers' logits must be a tensor (K, B, C), got {type(logits).__name__}: {stack}")
    if logits.dim() < 3 or logits.numel() == 0:
        raise ValueError(f"teachers' logits must be (K, B, C), not empty, got {tuple(logits.shape)}: {stack}")
    _check_logits(logits[0], class_dim)
    return class_dim if class_dim < 0 else class_dim + 1 - logits.dim()


def _check_weights(weights: Tensor | None, logits: Tensor, dim: int) -> None:
    if weights is None:
        return
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a tensor, got {type(weights).__name__}: use torch.as_tensor")
    one_each = logits.select(dim, 0).shape
    if weights.dim() == 0 or weights.shape != one_each[: weights.dim()]:
        expected = f"(K,) = {tuple(one_each[:1])} or (K, B) = {tuple(one_each)}"
        raise ValueError(f"weights must be {expected}, got {tuple(weights.shape)}")


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
