"""Many teachers, one student: two ways to average them, the loss against all of them, and how far they disagree.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning Workshop,
https://arxiv.org/abs/1503.02531; You et al., "Learning from Multiple Teacher Networks", KDD 2017,
https://doi.org/10.1145/3097983.3098135. Weights that say whom to trust are in weights.py, votes on
triplets of examples in triplets.py. Lesson: notebooks/06_multi_teacher.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K teachers, B examples, C classes. Stack the teachers' logits: ``torch.stack([teacher(x) for teacher in ...])``.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["average_logits", "average_probabilities", "disagreement", "multi_teacher_loss"]


def average_probabilities(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (B, C)
    r"""Weighted arithmetic mean of the teachers' softened probabilities: what an ensemble predicts.

    .. math::
        \bar p_{ic} = \sum_k w_{ki}\, p_{kic}, \quad p_{ki} = \mathrm{softmax}(z^t_{ki} / \tau)

    The result is softened already: as logits it would be softened twice. To train on it, call ``multi_teacher_loss``,
    whose gradient is the same, or ``F.kl_div(log_q, p, reduction="batchmean")``. A class is likely if *one* teacher
    finds it likely, so teachers who have not heard of a class don't veto it.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.
        temperature: :math:`\tau > 0`, applied to every teacher.

    Returns:
        Probabilities, shape ``(B, C)``, that sum to 1 over classes if the weights do over teachers.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the logits are not ``(K, B, C)`` or empty, the weights don't fit or the temperature is not
            positive.

    Example:
        >>> certain, clueless = torch.tensor([[50.0, 0.0, 0.0]]), torch.zeros(1, 3)
        >>> average_probabilities(torch.stack([certain, clueless]))
        tensor([[0.6667, 0.1667, 0.1667]])

    Source: Hinton et al. 2015, Section 2; You et al. 2017.
    """
    _check_teachers(teacher_logits)
    _check_weights(weights, teacher_logits)
    _check_temperature(temperature)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    return (_shares(weights, z) * F.softmax(z / temperature, dim=-1)).sum(dim=0)


def average_logits(
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
) -> Tensor:  # (B, C)
    r"""Weighted mean of the teachers' raw logits: after softmax, the geometric mean of their probabilities.

    .. math::
        \bar z_i = \sum_k w_{ki}\, z^t_{ki}, \quad
        \mathrm{softmax}(\bar z_i / \tau)_c \propto \prod_k p_{kic}^{w_{ki}}

    A class is likely if *every* teacher finds it likely. One teacher that gives a class almost no probability vetoes
    it, and one with large logits outvotes the rest.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.

    Returns:
        Raw logits, shape ``(B, C)``, not softened: hand them to any loss as one teacher's.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the logits are not ``(K, B, C)`` or empty, or the weights don't fit.

    Example:
        >>> certain, clueless = torch.tensor([[50.0, 0.0, 0.0]]), torch.zeros(1, 3)
        >>> average_logits(torch.stack([certain, clueless]))  # still certain
        tensor([[25.,  0.,  0.]])

    Source: Hinton et al. 2015, Section 2, names both means, "an arithmetic or geometric mean" of the teachers'
    predictive distributions.
    """
    _check_teachers(teacher_logits)
    _check_weights(weights, teacher_logits)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    return (_shares(weights, z) * z).sum(dim=0)


def multi_teacher_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (K, B, C)
    *,
    weights: Tensor | None = None,  # (K,) or (K, B)
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Temperature squared times the weighted mean divergence from each of the teachers.

    .. math::
        \frac{\tau^2}{B} \sum_i \sum_k w_{ki}\, \mathrm{KL}(p_{ki} \,\|\, q_i)
        = \frac{\tau^2}{B} \sum_i \Big[ \mathrm{KL}(\bar p_i \,\|\, q_i)
        + \sum_k w_{ki}\, \mathrm{KL}(p_{ki} \,\|\, \bar p_i) \Big]

    The last term, the teachers' weighted Jensen-Shannon divergence, is a constant of the student: the gradient is that
    of the loss against ``average_probabilities``, and the loss cannot reach 0 where teachers disagree.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.
        weights: :math:`w`, one per teacher, ``(K,)``, or per teacher and example, ``(K, B)``, at least 0, that sum to
            1 over teachers (not checked). None is 1/K each.
        temperature: :math:`\tau > 0`, applied to all.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, at least 0; 0 exactly where student and teachers all agree.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the logits are not ``(B, C)`` and ``(K, B, C)`` or empty, the weights don't fit or the
            temperature is not positive.

    Example:
        >>> student = torch.zeros(1, 2, requires_grad=True)
        >>> opposed = torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]])
        >>> loss = multi_teacher_loss(student, opposed)
        >>> loss, torch.autograd.grad(loss, student)[0]  # log 2, and nothing to learn
        (tensor(0.6931, grad_fn=<MulBackward0>), tensor([[0., 0.]]))

    Source: You et al. 2017 average the softened outputs; Zhang et al., "Confidence-Aware Multi-Teacher Knowledge
    Distillation", ICASSP 2022, https://arxiv.org/abs/2201.00007, weigh the losses, per example. Their code divides the
    weighted sum by K once more.
    """
    _check_logits(student_logits)
    _check_teachers(teacher_logits)
    if student_logits.shape != teacher_logits.shape[1:]:
        raise ValueError(
            f"expected student (B, C) and teachers (K, B, C), got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}: stack the teachers' logits along a new first axis"
        )
    _check_weights(weights, teacher_logits)
    _check_temperature(temperature)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q = F.log_softmax(student_logits.to(dtype) / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach().to(dtype) / temperature, dim=-1)
    divergence = F.kl_div(log_q.expand_as(log_p), log_p, reduction="none", log_target=True)
    return (_shares(weights, log_p) * divergence).sum(dim=(0, 2)).mean() * temperature**2


def disagreement(
    teacher_logits: Tensor,  # (K, B, C)
) -> Tensor:  # (B,)
    r"""How far the teachers' predictions are apart, per example: their generalised Jensen-Shannon divergence.

    .. math::
        \frac1K \sum_k \mathrm{KL}(p_{ki} \,\|\, \bar p_i) = H(\bar p_i) - \frac1K \sum_k H(p_{ki}), \quad
        \bar p_i = \frac1K \sum_k p_{ki}

    It is what averaging adds to the entropy, and what ``multi_teacher_loss`` cannot get below at temperature 1.
    Teachers that share an error don't show here.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.

    Returns:
        Divergence per example, shape ``(B,)``, in nats, in [0, log K]; 0 where all teachers agree.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the logits are not ``(K, B, C)`` or empty.

    Example:
        >>> disagreement(torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]]))  # log 2
        tensor([0.6931])

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory 37, 1991.
    """
    _check_teachers(teacher_logits)
    log_p = F.log_softmax(teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32)), dim=-1)
    gap = log_p - (log_p.logsumexp(dim=0) - math.log(len(log_p)))
    return (log_p.exp() * gap).sum(dim=-1).mean(dim=0).clamp(min=0)  # rounding, where teachers agree


def _shares(weights: Tensor | None, like: Tensor) -> Tensor:  # (K, 1, 1) or (K, B, 1)
    if weights is None:
        return like.new_full((len(like), 1, 1), 1 / len(like))
    return weights.to(like.dtype).reshape(len(like), -1, 1)


def _check_teachers(logits: Tensor) -> None:
    _check_logits(logits)
    if logits.dim() != 3 or logits.numel() == 0:
        raise ValueError(
            f"teachers' logits must be (K, B, C), not empty, got {tuple(logits.shape)}: "
            "stack them with torch.stack, also a single teacher's"
        )


def _check_weights(weights: Tensor | None, logits: Tensor) -> None:
    if weights is not None and weights.shape not in (logits.shape[:1], logits.shape[:2]):
        expected = f"(K,) = {tuple(logits.shape[:1])} or (K, B) = {tuple(logits.shape[:2])}"
        raise ValueError(f"weights must be {expected}, got {tuple(weights.shape)}")


def _check_logits(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a class axis at the end, got shape {tuple(logits.shape)}")


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")
