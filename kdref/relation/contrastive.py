"""Contrast within a batch: the student's embedding of an example is nearer to the teacher's of it than to others'.

Source: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
https://arxiv.org/abs/1807.03748 (InfoNCE). Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features of an embedding.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["info_nce_loss"]


def info_nce_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D)
    *,
    temperature: float | Tensor = 0.07,
) -> Tensor:  # ()
    r"""Cross-entropy of finding one's partner in the batch, from the student's side and from the teacher's (InfoNCE).

    .. math::
        \frac{1}{2B} \sum_i \Big[ -\log \frac{e^{c_{ii}/\tau}}{\sum_j e^{c_{ij}/\tau}}
        - \log \frac{e^{c_{ii}/\tau}}{\sum_j e^{c_{ji}/\tau}} \Big], \quad c_{ij} = \cos(x^s_i, x^t_j)

    The log of B minus the expected loss is a lower bound of the mutual information of the two embeddings, so a batch of
    B can never certify more than log B. Examples of one class are each other's negatives too.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`. The smaller, the more the nearest negatives count.

    Returns:
        Scalar loss in nats, at least 0. A batch of one gives 0. The lengths of rows don't matter; a row of zeros has
        cosine 0 with all others.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not both ``(B, D)``, or empty, or the temperature is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> info_nce_loss(x, x, temperature=1.0)  # log(1 + 1/e)
        tensor(0.3133)

    Source: van den Oord et al. 2018, equation 4, with cosines at a temperature, in both directions.
    """
    _check_pair(student_embeddings, teacher_embeddings)
    _check_temperature(temperature)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    student, teacher = (_unit_length(x.to(dtype)) for x in (student_embeddings, teacher_embeddings.detach()))
    logits = _full_product(student, teacher) / temperature
    partners = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.mT, partners)) / 2


def _unit_length(rows: Tensor) -> Tensor:  # (..., N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=-1, eps=0.5)  # the norm is at least 1 unless the row is zero


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_pair(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        _check_activations(embeddings, f"the {side}'s embeddings")
    if student.shape != teacher.shape or student.dim() != 2 or student.numel() == 0:
        raise ValueError(
            f"student's and teacher's embeddings must both be (B, D), not empty, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: put a linear layer on the student, or use rkd_distance_loss, where widths differ"
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


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")
