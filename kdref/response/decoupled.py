"""Decoupled distillation: the target class and the others apart, each with a weight of its own.

Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679 (DKD); Yang et al.,
"From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized
Soft Labels", ICCV 2023, https://arxiv.org/abs/2303.13005 (NKD). Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dkd_loss", "nkd_loss", "nontarget_class_divergence", "target_class_divergence"]


def target_class_divergence(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (B,)
    r"""Divergence of "the label or not", a two-class question, per example: the TCKD part of distillation.

    .. math::
        \mathrm{TCKD} = p_y \log \frac{p_y}{q_y} + (1 - p_y) \log \frac{1 - p_y}{1 - q_y}, \qquad
        \mathrm{KL}(p \,\|\, q) = \mathrm{TCKD} + (1 - p_y)\,\mathrm{NCKD}

    The paper reads it as how hard the teacher finds the example; where the teacher is sure, it says little.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Divergence per example, shape ``(B,)``, in nats, at least 0. There is no :math:`\tau^2` in it.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If shapes don't fit, there are fewer than two classes or the temperature is not positive.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[50.0, 0.0, 0.0]])
        >>> target_class_divergence(fair, sure, torch.tensor([0]))  # log 3
        tensor([1.0986])

    Source: Zhao et al. 2022, equations 5 and 6.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, at_least=2)
    student, _ = _decouple(student_logits, labels, temperature)
    teacher, _ = _decouple(teacher_logits.detach(), labels, temperature)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def nontarget_class_divergence(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (B,)
    r"""Divergence of the other classes among themselves, per example: the NCKD part of distillation.

    .. math::
        \mathrm{NCKD} = \sum_{c \ne y} \hat p_c \log \frac{\hat p_c}{\hat q_c}, \quad
        \hat p_c = \frac{p_c}{1 - p_y}, \; \hat q_c = \frac{q_c}{1 - q_y}

    This is the dark knowledge. Plain distillation weighs it with :math:`1 - p_y`, which hides it where the teacher is
    sure. It ignores the target's logit. With two classes it is 0 for every input, hence the error.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Divergence per example, shape ``(B,)``, in nats, at least 0. There is no :math:`\tau^2` in it.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If shapes don't fit, there are fewer than three classes or the temperature is not positive.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[0.0, 50.0, 0.0]])
        >>> nontarget_class_divergence(fair, sure, torch.tensor([0]))  # log 2
        tensor([0.6931])

    Source: Zhao et al. 2022, equations 5 and 6.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, at_least=3)
    log_q = F.log_softmax(_others(student_logits, labels) / temperature, dim=-1)
    log_p = F.log_softmax(_others(teacher_logits.detach(), labels) / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)


def dkd_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    target_weight: float | Tensor = 1.0,  # () or (B,)
    nontarget_weight: float | Tensor = 8.0,  # () or (B,)
    temperature: float | Tensor = 4.0,
) -> Tensor:  # ()
    r"""Decoupled knowledge distillation (DKD): target and non-target divergence, weighted freely.

    .. math::
        \tau^2 \cdot \frac1B \sum_i \big( w_t\,\mathrm{TCKD}_i + w_n\,\mathrm{NCKD}_i \big)

    With :math:`w_t = 1` and :math:`w_n = 1 - p_y` per example it is plain distillation; the constant 8 undoes the
    suppression by sure teachers. Add the cross-entropy yourself: the authors weigh it 1 and let this loss grow linearly
    over the first 20 epochs. Their formula and ours agree, their numerics don't: they take the log of a sum of
    probabilities and mask with -1000, which gives infinite losses and NaN gradients at large logits.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        target_weight: :math:`w_t \ge 0`, the paper's alpha: a number, or one per example, shape ``(B,)``.
        nontarget_weight: :math:`w_n \ge 0`, the paper's beta: the authors' 0.5 (ImageNet, at τ = 1) to 8.
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Scalar loss in nats times :math:`\tau^2`, at least 0.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If shapes don't fit, the batch is empty, there are fewer than three classes, a weight is negative or
            the temperature is not positive.

    Example:
        >>> fair, sure = torch.zeros(1, 3), torch.tensor([[50.0, 0.0, 0.0]])
        >>> dkd_loss(fair, sure, torch.tensor([0]), temperature=1.0)  # log 3 + 8 * 0
        tensor(1.0986)

    Source: Zhao et al. 2022, equation 7.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, at_least=3)
    _check_not_empty(student_logits)
    _check_weight("target_weight", target_weight, labels)
    _check_weight("nontarget_weight", nontarget_weight, labels)
    student_target, student_others = _decouple(student_logits, labels, temperature)
    teacher_target, teacher_others = _decouple(teacher_logits.detach(), labels, temperature)
    target = F.kl_div(student_target, teacher_target, reduction="none", log_target=True).sum(dim=-1)
    nontarget = F.kl_div(student_others, teacher_others, reduction="none", log_target=True).sum(dim=-1)
    return (target_weight * target + nontarget_weight * nontarget).mean() * temperature**2


def nkd_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    soft_weight: float = 1.5,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Normalised knowledge distillation (NKD): a soft label for the target, normalised ones for the others.

    .. math::
        \frac1B \sum_i \Big[ -p_y \log q_y - \gamma \tau^2 \sum_{c \ne y} \hat p_c \log \hat q_c \Big], \quad
        p_y, q_y \text{ at } \tau = 1, \; \hat p, \hat q \text{ at } \tau \text{ as in DKD}

    It is a weighted cross-entropy, no divergence: it is not 0 where the two agree, and nothing bounds :math:`q_y` but
    1, so its minimum is *not* at q = p. The authors add the cross-entropy with the labels at weight 1, which pulls
    the same way. Formula and code agree.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        soft_weight: :math:`\gamma \ge 0`, the weight of the non-target classes.
        temperature: :math:`\tau > 0`, of the non-target classes only.

    Returns:
        Scalar loss in nats, at least :math:`\gamma \tau^2` times the entropy of the teacher's :math:`\hat p`.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If shapes don't fit, the batch is empty, there are fewer than two classes, the weight is negative or
            the temperature is not positive.

    Example:
        >>> fair = torch.zeros(1, 3)
        >>> nkd_loss(fair, fair, torch.tensor([0]))  # log(3)/3 + 1.5 * log(2)
        tensor(1.4059)

    Source: Yang et al. 2023, Section 3.1.
    """
    _check_decoupled(student_logits, teacher_logits, labels, temperature, at_least=2)
    _check_not_empty(student_logits)
    _check_weight("soft_weight", soft_weight, labels)
    student = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    teacher = teacher_logits.detach().to(student.dtype)
    p_target = torch.exp(-F.cross_entropy(teacher, labels, reduction="none"))
    target = p_target * F.cross_entropy(student, labels, reduction="none")
    p_others = F.softmax(_others(teacher, labels) / temperature, dim=-1)
    others = -(p_others * F.log_softmax(_others(student, labels) / temperature, dim=-1)).sum(dim=-1)
    return (target + soft_weight * temperature**2 * others).mean()


def _others(logits: Tensor, labels: Tensor) -> Tensor:  # (B, C - 1)
    # The last class takes the target's place, then the last column goes: what stays are the other classes, without a
    # mask that would have to be infinite.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.scatter(1, labels.unsqueeze(1), logits[:, -1:])[:, :-1]


def _decouple(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the label and of all others together (B, 2), and of the others alone (B, C - 1)."""
    others = _others(logits, labels) / temperature
    label = logits.gather(1, labels.unsqueeze(1)).to(others.dtype) / temperature
    log_odds = label - others.logsumexp(dim=1, keepdim=True)
    return torch.cat([F.logsigmoid(log_odds), F.logsigmoid(-log_odds)], dim=1), F.log_softmax(others, dim=1)


def _check_decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor, *, at_least: int
) -> None:
    _check_logits(student)
    _check_logits(teacher)
    _check_same_shape(student, teacher)
    _check_labels(student, labels)
    _check_temperature(temperature)
    if student.shape[-1] < at_least:
        raise ValueError(
            f"needs at least {at_least} classes, got {student.shape[-1]}: with fewer, nothing is left to compare "
            "among the classes beside the label; use soft_target_loss"
        )


def _check_weight(name: str, weight: float | Tensor, labels: Tensor) -> None:
    if isinstance(weight, Tensor):
        if weight.dim() > 0 and weight.shape != labels.shape:
            raise ValueError(f"{name} must be a number or {tuple(labels.shape)}, got shape {tuple(weight.shape)}")
    elif not 0 <= weight < float("inf"):
        raise ValueError(f"{name} must be 0 or more and finite, got {weight}: a negative one drives the two apart")


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


def _check_labels(student_logits: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: convert them with labels.long()")
    if student_logits.dim() != 2 or labels.shape != student_logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, C) and labels (B,), got {tuple(student_logits.shape)} and {tuple(labels.shape)}"
        )
