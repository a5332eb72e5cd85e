"""Whom to trust, example by example: weights for several teachers.

Source: Zhang, Chen and Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022,
https://arxiv.org/abs/2201.00007 (CA-MKD). The loss that takes them is in averages.py.
Lesson: notebooks/06_multi_teacher.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K teachers, B examples, C classes. Stack the teachers' logits: ``torch.stack([teacher(x) for teacher in ...])``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["confidence_weights", "entropy_weights"]


def confidence_weights(
    teacher_logits: Tensor,  # (K, B, C)
    labels: Tensor,  # (B,)
) -> Tensor:  # (K, B)
    r"""Weights that fall with a teacher's cross-entropy on the label, per example (CA-MKD).

    .. math::
        w_{ki} = \frac{1}{K - 1} \Big( 1 - \frac{\exp(\ell_{ki})}{\sum_j \exp(\ell_{ji})} \Big), \quad
        \ell_{ki} = -\log \mathrm{softmax}(z^t_{ki})_{y_i}

    The worst teacher of an example loses its say, all others keep about the same: no weight exceeds 1/(K - 1), so with
    many teachers the best one is not singled out, and two bad ones are not shut out together.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).

    Returns:
        Weights, shape ``(K, B)``, in [0, 1/(K - 1)], summing to 1 over teachers. One teacher gets 1; of two, each gets
        its share of the label's probability.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If the logits are not ``(K, B, C)`` or empty, or the labels not ``(B,)``.

    Example:
        >>> half, three_quarters = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
        >>> confidence_weights(torch.stack([half, three_quarters]), torch.tensor([0]))
        tensor([[0.4000],
                [0.6000]])

    Source: Zhang et al. 2022, equations 1 and 2; the authors' code divides by zero for one teacher.
    """
    _check_teachers(teacher_logits)
    _check_labels(teacher_logits[0], labels)
    z = teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32))
    surprise = -F.log_softmax(z, dim=-1).gather(-1, labels.expand(len(z), -1).unsqueeze(-1)).squeeze(-1)
    if len(z) == 1:
        return torch.ones_like(surprise)
    return (1 - F.softmax(surprise, dim=0)) / (len(z) - 1)


def entropy_weights(
    teacher_logits: Tensor,  # (K, B, C)
) -> Tensor:  # (K, B)
    r"""Weights that fall with a teacher's entropy, per example: for data without labels.

    .. math::
        w_{ki} = \frac{\exp(-H_{ki})}{\sum_j \exp(-H_{ji})}, \quad H_{ki} = -\sum_c p_{kic} \log p_{kic}

    They measure how sure a teacher is, not whether it is right: one that is sure and wrong gets the *largest* weight.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(K, B, C)``. Treated as a constant.

    Returns:
        Weights, shape ``(K, B)``, summing to 1 over teachers. No teacher gets more than C times another's.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the logits are not ``(K, B, C)`` or empty.

    Example:
        >>> certain, fair = torch.tensor([[50.0, 0.0]]), torch.zeros(1, 2)
        >>> entropy_weights(torch.stack([certain, fair]))  # exp(0) to exp(-log 2)
        tensor([[0.6667],
                [0.3333]])

    Source: after Kwon et al., "Adaptive Knowledge Distillation Based on Entropy", ICASSP 2020; the softmax over minus
    the entropy is ours. Code that follows Zhang et al. 2022 has 1 - H/ΣH, which sums to K - 1.
    """
    _check_teachers(teacher_logits)
    log_p = F.log_softmax(teacher_logits.detach().to(torch.promote_types(teacher_logits.dtype, torch.float32)), dim=-1)
    return F.softmax((log_p.exp() * log_p).sum(dim=-1), dim=0)


def _check_teachers(logits: Tensor) -> None:
    _check_logits(logits)
    if logits.dim() != 3 or logits.numel() == 0:
        raise ValueError(
            f"teachers' logits must be (K, B, C), not empty, got {tuple(logits.shape)}: "
            "stack them with torch.stack, also a single teacher's"
        )


def _check_logits(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a class axis at the end, got shape {tuple(logits.shape)}")


def _check_labels(student_logits: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: convert them with labels.long()")
    if student_logits.dim() != 2 or labels.shape != student_logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, C) and labels (B,), got {tuple(student_logits.shape)} and {tuple(labels.shape)}"
        )
