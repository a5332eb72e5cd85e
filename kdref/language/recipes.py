"""Recipes of distilled language models: DistilBERT's three losses, a teacher kept in a few numbers, other tokenizers.

Source: Sanh et al., "DistilBERT, a distilled version of BERT", NeurIPS EMC² Workshop 2019,
https://arxiv.org/abs/1910.01108; the other papers stand at their functions. Sampled teachers and what is stored of them
are in sparse.py. Lesson: notebooks/11_language_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words or classes, D features, k words kept; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["alternate_layers", "cosine_hidden_loss", "distilbert_loss", "sparse_teacher", "universal_logit_loss"]


def alternate_layers(
    num_teacher_layers: int,
    num_student_layers: int,
    *,
    keep_last: bool = False,
) -> list[int]:
    r"""Which of the teacher's layers a shallower student starts from: every other one, at half the depth.

    .. math::
        \lfloor i\,T/S \rfloor \quad \text{or, with the last kept, } \mathrm{round}\big(i\,(T-1)/(S-1)\big),
        \quad i = 0 \dots S - 1

    Copy these layers' weights into the student's, in this order, and the embeddings as they are.

    Args:
        num_teacher_layers: :math:`T`.
        num_student_layers: :math:`S`, from 1 to T.
        keep_last: Spread the layers from the first to the last. The paper takes "one layer out of two"; its code,
            for 12 to 6, takes 0, 2, 4, 7, 9, 11, which is this.

    Returns:
        Indices from 0, ascending, as many as the student has layers. One layer is the first.

    Raises:
        ValueError: If the student has no layer, or more than the teacher.

    Example:
        >>> alternate_layers(12, 6), alternate_layers(12, 6, keep_last=True)
        ([0, 2, 4, 6, 8, 10], [0, 2, 4, 7, 9, 11])

    Source: Sanh et al. 2019, Section 2, and the authors' script extract_distilbert.py.
    """
    if not 1 <= num_student_layers <= num_teacher_layers:
        raise ValueError(f"need 1 to {num_teacher_layers} student layers, got {num_student_layers}")
    if keep_last and num_student_layers > 1:
        return [round(i * (num_teacher_layers - 1) / (num_student_layers - 1)) for i in range(num_student_layers)]
    return [i * num_teacher_layers // num_student_layers for i in range(num_student_layers)]


def cosine_hidden_loss(
    student_hidden: Tensor,  # (..., D)
    teacher_hidden: Tensor,  # (..., D)
    *,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""One minus the cosine of student's and teacher's hidden states, averaged over the tokens that count.

    .. math::
        \frac{1}{\sum_i m_i} \sum_i m_i \, \Big(1 - \frac{h^s_i \cdot h^t_i}{\|h^s_i\| \, \|h^t_i\|}\Big)

    It ties directions, so student and teacher need the same width and the same axes, which a student copied from the
    teacher's layers has.

    Args:
        student_hidden: :math:`h^s`, shape ``(..., D)``. Receives the gradient.
        teacher_hidden: :math:`h^t`, same shape. Treated as a constant.
        mask: :math:`m`, True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss in [0, 2], no unit. A row of zeros has cosine 0. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If the hidden states are not floating point or the mask is not bool.
        ValueError: If the shapes differ or don't fit, or no token is there.

    Example:
        >>> cosine_hidden_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
        tensor(0.5000)

    Source: Sanh et al. 2019, Section 2; ``CosineEmbeddingLoss`` of the unmasked tokens in the authors' code.
    """
    _check_sides(student_hidden, teacher_hidden, same_width=True)
    _check_mask(student_hidden, mask)
    student, teacher = _kept(student_hidden, mask), _kept(teacher_hidden.detach(), mask)
    similarity = (_directions(student) * _directions(teacher.to(student.dtype))).sum(dim=-1)
    return _mean_over(1 - similarity, mask)


def distilbert_loss(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V)
    student_hidden: Tensor,  # (..., D)
    teacher_hidden: Tensor,  # (..., D)
    labels: Tensor,  # (...)
    *,
    mask: Tensor | None = None,  # (...)
    soft_weight: float = 5.0,
    hard_weight: float = 2.0,
    hidden_weight: float = 1.0,
    temperature: float = 2.0,
) -> Tensor:  # ()
    r"""DistilBERT's triple loss: soft targets, labels, and the direction of the last hidden states.

    .. math::
        w_s \, \tau^2 \, \overline{\mathrm{KL}(p \,\|\, q)} \; + \; w_h \, \overline{-\log q_y}\big|_{\tau = 1}
        \; + \; w_c \, \overline{1 - \cos(h^s, h^t)}

    Each bar is a mean of its own: over the tokens that count, or over labels other than -100. For a classifier the
    logits are one row per sequence, ``(B, C)``, and the mask then only concerns the hidden states ``(B, L, D)``.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient, as the hidden states do.
        teacher_logits: Raw scores, same shape. Treated as a constant.
        student_hidden: :math:`h^s` of the last layer, shape ``(..., D)``.
        teacher_hidden: :math:`h^t`, same shape. Treated as a constant.
        labels: :math:`y`, int64, shape of the logits without their last axis; -100 where there is none (in masked
            language modelling, everywhere but at the masked words).
        mask: True where a token counts, shape of the hidden states without their last axis, bool.
        soft_weight: :math:`w_s \ge 0`.
        hard_weight: :math:`w_h \ge 0`.
        hidden_weight: :math:`w_c \ge 0`. The authors' README has 5, 2 and 1 in one command and 0.33 each in another.
        temperature: :math:`\tau > 0`, of the soft term only; 2 is the default of the authors' script.

    Returns:
        Scalar loss, at least 0. What has nothing to average over adds 0, with a gradient of 0.

    Raises:
        TypeError: If logits or hidden states are not floating point, labels not int64 or the mask not bool.
        ValueError: If shapes don't fit, nothing is there, a weight is negative or the temperature is not positive.

    Example:
        >>> agree, hidden = torch.zeros(1, 2), torch.ones(1, 3)
        >>> distilbert_loss(agree, agree, hidden, hidden, torch.tensor([0]))  # twice log 2, of the label alone
        tensor(1.3863)

    Source: Sanh et al. 2019, Section 2, and the authors' distiller.py and README, which weigh the three differently.
    """
    _check_sides(student_logits, teacher_logits, same_width=True)
    for name, weight in (("soft", soft_weight), ("hard", hard_weight), ("hidden", hidden_weight)):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name}_weight must be 0 or more and finite, got {weight}")
    _check_temperature(temperature)
    if labels.dtype != torch.int64 or labels.shape != student_logits.shape[:-1]:
        kind = TypeError if labels.dtype != torch.int64 else ValueError
        raise kind(f"labels must be int64 {tuple(student_logits.shape[:-1])}, got {labels.dtype} {tuple(labels.shape)}")
    hidden = cosine_hidden_loss(student_hidden, teacher_hidden, mask=mask)
    per_token = mask if mask is not None and mask.shape == labels.shape else None
    student, teacher = _kept(student_logits, per_token), _kept(teacher_logits.detach(), per_token)
    log_q, log_p = F.log_softmax(student / temperature, dim=-1), F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(log_q, log_p.to(log_q.dtype), reduction="none", log_target=True).sum(dim=-1)
    soft = _mean_over(divergence, per_token) * temperature**2
    known = labels != -100
    logits = _kept(student_logits, known)
    log_likelihood = F.log_softmax(logits, dim=-1).gather(-1, labels.masked_fill(~known, 0).unsqueeze(-1)).squeeze(-1)
    return soft_weight * soft - hard_weight * _mean_over(log_likelihood, known) + hidden_weight * hidden


def sparse_teacher(
    logits: Tensor,  # (..., V)
    *,
    k: int,
) -> tuple[Tensor, Tensor, Tensor]:  # (..., k), (..., k), (...)
    r"""The teacher's k likeliest words, and how much probability all others have together.

    .. math::
        \log p_v \text{ for the } k \text{ largest}, \qquad \log t = \log \sum_{v \text{ not kept}} p_v

    The tail's mass is kept, so that a loss can say what it does about it. Top-k probabilities made to sum to 1, as is
    common, are biased by exactly t, in total variation: the student learns that the tail is empty.

    Args:
        logits: The teacher's raw scores, shape ``(..., V)``. No gradient.
        k: Words to keep, from 1 to V.

    Returns:
        Their indices, int64, likeliest first; their log-probabilities, in float32 or the logits' wider type; and the
        tail's log mass, -inf where nothing is left. ``pack_sparse`` (sparse.py) stores an entry in 6 bytes.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If there is no word axis or k is out of range.

    Example:
        >>> indices, log_probs, tail = sparse_teacher(torch.tensor([0.5, 0.1, 0.3, 0.1]).log(), k=2)
        >>> indices, log_probs.exp(), tail.exp()
        (tensor([0, 2]), tensor([0.5000, 0.3000]), tensor(0.2000))

    Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
    https://arxiv.org/abs/2503.16870, which shows the bias.
    """
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not token ids")
    if logits.dim() == 0 or not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"need logits (..., V) and k from 1 to V, got {tuple(logits.shape)} and {k}")
    log_probs = F.log_softmax(logits.detach().to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
    kept, indices = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, indices, -torch.inf)  # summing the rest is exact where 1 - the sum of the kept is not
    return indices, kept, rest.logsumexp(dim=-1)


def universal_logit_loss(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V')
    *,
    mask: Tensor | None = None,  # (...)
    temperature: float = 1.0,
) -> Tensor:  # ()
    r"""Distance of the sorted probabilities (ULD), for student and teacher with different tokenizers.

    .. math::
        \frac{1}{\sum_i m_i} \sum_i m_i \sum_r \big| q_{i(r)} - p_{i(r)} \big|, \quad
        q_{(1)} \ge q_{(2)} \ge \dots, \text{ the shorter one continued by probabilities of } 0

    It ignores which token is which: a student that is exactly as sure of the wrong word as the teacher is of the right
    one has loss 0. So never use it without cross-entropy with the text, as the paper never does.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        teacher_logits: Raw scores, shape ``(..., V')``; V' may differ. Treated as a constant. Position i of both must
            be about the same place in the text.
        mask: :math:`m`, True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.
        temperature: :math:`\tau > 0`, applied to both.

    Returns:
        Scalar loss in [0, 2], no unit: twice the total variation of the sorted distributions.

    Raises:
        TypeError: If the logits are not floating point or the mask is not bool.
        ValueError: If leading axes differ, the mask doesn't fit, no token is there or the temperature is not positive.

    Example:
        >>> sure = torch.tensor([[200.0, 0.0, 0.0]])
        >>> universal_logit_loss(sure, torch.tensor([[0.0, 200.0]])), universal_logit_loss(sure, torch.zeros(1, 2))
        (tensor(0.), tensor(1.))

    Source: Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs",
    TMLR 2025, https://arxiv.org/abs/2402.12030, Section 3, without its cross-entropy.
    """
    _check_sides(student_logits, teacher_logits, same_width=False)
    _check_mask(student_logits, mask)
    _check_temperature(temperature)
    student, teacher = _kept(student_logits, mask), _kept(teacher_logits.detach(), mask)
    q, p = (F.softmax(z / temperature, dim=-1).sort(dim=-1, descending=True).values for z in (student, teacher))
    missing = q.shape[-1] - p.shape[-1]
    q, p = F.pad(q, (0, max(-missing, 0))), F.pad(p, (0, max(missing, 0)))
    return _mean_over((q - p.to(q.dtype)).abs().sum(dim=-1), mask)


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    """In at least float32, with zeros where nothing counts, so that not even NaN gets through."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else (values * mask).sum() / mask.sum().clamp(min=1)


def _directions(rows: Tensor) -> Tensor:
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    return F.normalize(rows / largest.masked_fill(largest == 0, 1.0), dim=-1, eps=0.5)


def _check_sides(student: Tensor, teacher: Tensor, *, same_width: bool) -> None:
    for side in (student, teacher):
        if not side.is_floating_point():
            raise TypeError(f"logits and hidden states must be floating point, got {side.dtype}")
    same = student.shape == teacher.shape if same_width else student.shape[:-1] == teacher.shape[:-1]
    if not same or 0 in (student.dim(), student.numel(), teacher.numel()):
        raise ValueError(f"student's and teacher's don't fit: {tuple(student.shape)} and {tuple(teacher.shape)}")


def _check_mask(student: Tensor, mask: Tensor | None) -> None:
    if mask is not None and (mask.dtype != torch.bool or mask.shape != student.shape[:-1]):
        kind = TypeError if mask.dtype != torch.bool else ValueError
        raise kind(f"mask must be bool {tuple(student.shape[:-1])}, got {mask.dtype} {tuple(mask.shape)}")


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
