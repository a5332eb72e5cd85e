"""Distillation up to shift and scale: the student matches z-scores of the teacher's outputs, not the outputs.

Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, https://arxiv.org/abs/2403.01427;
Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, https://arxiv.org/abs/2205.10536 (DIST).
Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of leading axes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dist_loss", "standardize_logits", "standardized_kd_loss"]


def standardize_logits(
    logits: Tensor,  # (..., C)
    *,
    eps: float = 1e-7,
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

    Returns:
        Z-scores, same shape, no unit.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If there are fewer than two classes or eps is negative.

    Example:
        >>> standardize_logits(torch.tensor([[10.0, 20.0, 30.0]]))
        tensor([[-1.,  0.,  1.]])

    Source: Sun et al. 2024, Section 4.2 and Algorithm 1.
    """
    _check_logits(logits)
    if logits.shape[-1] < 2:
        raise ValueError(f"needs at least 2 classes, got {logits.shape[-1]}: one value has no standard deviation")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"eps must be 0 or more and finite, got {eps}: it is added to a standard deviation")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    mean = logits.mean(dim=-1, keepdim=True)
    centred = logits - mean
    variance = centred.square().sum(dim=-1, keepdim=True) / (logits.shape[-1] - 1)
    return centred / (_deviation(variance, mean) + eps)


def standardized_kd_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    temperature: float | Tensor = 2.0,
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

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, averaged over all leading axes, at least 0; 0 where one side's
        logits are a positive multiple of the other's plus a constant.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, there are fewer than two classes, the batch is empty or the temperature is
            not positive.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])
        >>> standardized_kd_loss(student, teacher)  # 2 * (e**0.5 - 1) / (e**0.5 + 1 + e**-0.5)
        tensor(0.3986)

    Source: Sun et al. 2024, Algorithm 1.
    """
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature)
    _check_not_empty(student_logits)
    log_q = F.log_softmax(standardize_logits(student_logits) / temperature, dim=-1)
    log_p = F.log_softmax(standardize_logits(teacher_logits.detach()) / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1).mean() * temperature**2


def dist_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Distillation from a stronger teacher (DIST): correlate the probabilities, by example and by class.

    .. math::
        \tau^2 \Big[ w_{\text{inter}} \frac1B \sum_i \big(1 - \rho(q_{i\cdot}, p_{i\cdot})\big)
        + w_{\text{intra}} \frac1C \sum_c \big(1 - \rho(q_{\cdot c}, p_{\cdot c})\big) \Big], \quad
        1 - \rho(u, v) = \frac{1}{2n} \sum_{j=1}^n \big(Z(u)_j - Z(v)_j\big)^2

    with population z-scores Z, which are 0 for a constant row or column: one constant gives ½, two give 0, so a batch
    of one has no intra term. The authors' code adds 1e-8 to the product of two norms instead: a constant gives 1, and
    with thousands of classes the norms are small enough for it to bend the gradient. It has no temperature either.
    Invariant to positive affine maps of the *probabilities*, not of the logits.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        inter_weight: :math:`w_{\text{inter}} \ge 0`, the paper's beta: relations among one example's classes.
        intra_weight: :math:`w_{\text{intra}} \ge 0`, the paper's gamma: relations among examples, per class.
        temperature: :math:`\tau > 0` of the probabilities. The paper takes 1, and 4 with weights 2 on CIFAR-100.

    Returns:
        Scalar loss times :math:`\tau^2`, no unit; each mean is in [0, 2], and 0 where the two agree.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ or are not ``(B, C)``, the batch is empty, a weight is negative or the
            temperature is not positive.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> dist_loss(-teacher, teacher)  # turned round: 1 - (-1), by example and by class
        tensor(4.)

    Source: Huang et al. 2022, Section 4.
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_temperature(temperature)
    _check_not_empty(student_logits)
    if student_logits.dim() != 2:
        raise ValueError(f"expected logits (B, C), got {tuple(student_logits.shape)}: flatten the leading axes")
    for name, weight in (("inter_weight", inter_weight), ("intra_weight", intra_weight)):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be 0 or more and finite, got {weight}: a negative one trains away from it")
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    q = F.softmax(student_logits.to(dtype) / temperature, dim=-1)
    p = F.softmax(teacher_logits.detach().to(dtype) / temperature, dim=-1)
    inter = _correlation_distance(q, p, dim=1)
    intra = _correlation_distance(q, p, dim=0)
    return (inter_weight * inter + intra_weight * intra) * temperature**2


def _correlation_distance(student: Tensor, teacher: Tensor, *, dim: int) -> Tensor:  # ()
    """The mean of 1 - Pearson's correlation along an axis, as half the mean squared difference of z-scores."""
    return F.mse_loss(_z_scores(student, dim), _z_scores(teacher, dim)) / 2


def _z_scores(probabilities: Tensor, dim: int) -> Tensor:
    mean = probabilities.mean(dim, keepdim=True)
    centred = probabilities - mean
    variance = centred.square().mean(dim, keepdim=True)
    return centred * (1 / _deviation(variance, mean))  # a quotient of two large tensors takes longer backwards


def _deviation(variance: Tensor, mean: Tensor) -> Tensor:
    """The root of the variance; infinite where that is a rounding error of a constant, whose z-scores so are 0."""
    limits = torch.finfo(mean.dtype)
    constant = variance <= (8 * limits.eps * mean) ** 2 + limits.tiny
    return variance.masked_fill(constant, torch.inf).sqrt()


def _check_logits(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a class axis at the end, got shape {tuple(logits.shape)}")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")
