"""Divergences between two next-token distributions: per token and over a batch.

Source: Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024, https://arxiv.org/abs/2306.13649 (GKD);
Ko et al., "DistiLLM", ICML 2024, https://arxiv.org/abs/2402.03898 (skew). Lesson: notebooks/11_language_models.ipynb.

Needs only torch: copy this file into your project as it is. No loss here carries τ², as is usual for language models.
Shapes: V words of the vocabulary; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["token_divergence", "token_loss"]

MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")
KINDS = ("forward", "reverse", "total_variation", *MIXED)


def token_divergence(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V)
    *,
    kind: str = "forward",
    temperature: float | Tensor = 1.0,
    mix: float | None = None,
) -> Tensor:  # (...)
    r"""How far the student's distribution Q of the next token is from the teacher's P, per token.

    .. math::
        \text{forward: } & \mathrm{KL}(P \| Q) \qquad \text{reverse: } \mathrm{KL}(Q \| P) \qquad
        \text{total\_variation: } \tfrac12 \textstyle\sum_v |p_v - q_v| \\
        \text{jensen\_shannon: } & \beta \, \mathrm{KL}(P \| M) + (1 - \beta) \, \mathrm{KL}(Q \| M), \quad
        M = \beta P + (1 - \beta) Q \\
        \text{skew\_forward: } & \mathrm{KL}(P \,\|\, \alpha P + (1 - \alpha) Q) \qquad
        \text{skew\_reverse: } \mathrm{KL}(Q \,\|\, \alpha Q + (1 - \alpha) P)

    Jensen-Shannon tends to 0 at both ends (divided by β, to forward KL as β does to 0; by 1 - β, to reverse KL at 1),
    where libraries that return a KL jump. Skew is at most -log α.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        teacher_logits: Raw scores, same shape. Treated as a constant. A word that one side lacks is at -inf there.
        kind: One of the six; the three with a mixture require ``mix``, :math:`\beta` or :math:`\alpha` in [0, 1].
        temperature: :math:`\tau > 0`; P and Q are softmaxes of logits divided by it.
        mix: The teacher's share in M, or in skew_reverse the student's.

    Returns:
        Per token, shape ``(...)``, in nats, at least 0, 0 where the two agree; total variation has no unit and is at
        most 1. Words only the teacher has make forward KL infinite, words only the student has reverse KL.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If shapes differ, the kind is unknown, or ``mix`` or the temperature is not as said.

    Example:
        >>> token_divergence(torch.tensor([0.0, 0.0]), torch.tensor([50.0, 0.0]), kind="total_variation")
        tensor(0.5000)

    Source: Agarwal et al. 2024, Section 2; Ko et al. 2024, Section 3.1.
    """
    _check_words(student_logits, teacher_logits)
    _check_kind(kind, mix)
    _check_temperature(temperature, student_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q, log_p = (_log_probs(z.to(dtype) / temperature) for z in (student_logits, teacher_logits.detach()))
    if kind == "total_variation":
        return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2
    if kind == "jensen_shannon" and mix is not None:
        log_m = _log_mixture(mix, log_p, log_q)
        return mix * _kl_of_words(log_p, log_m) + (1 - mix) * _kl_of_words(log_q, log_m)
    own, other = (log_p, log_q) if "forward" in kind else (log_q, log_p)
    value = _kl_of_words(own, other if mix is None else _log_mixture(mix, own, other))
    return value.masked_fill(value > 1e18, math.inf)  # a word that the other side lacks


def token_loss(
    student_logits: Tensor,  # (..., V)
    teacher_logits: Tensor,  # (..., V)
    *,
    kind: str,
    mask: Tensor | None = None,  # (...)
    num_tokens: float | Tensor | None = None,
    temperature: float | Tensor = 1.0,
    mix: float | None = None,
) -> Tensor:  # ()
    r"""Mean of ``token_divergence`` over the tokens that count.

    .. math::
        \frac1n \sum_i m_i \, D(P_i, Q_i), \quad n = \sum_i m_i \ \text{ or } \texttt{num\_tokens}

    Means over micro-batches don't add up, because each has another number of tokens: divide all by the batch's.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient, which is 0 for masked tokens.
        teacher_logits: Raw scores, same shape. Treated as a constant.
        kind, temperature, mix: As in ``token_divergence``.
        mask: :math:`m`, True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter, not
            even NaN. Make it from lengths: by token ids, an end-of-sequence token that also pads would be lost.
        num_tokens: What to divide by, positive; the tokens that count by default.

    Returns:
        Scalar loss in nats per token. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If the logits are not floating point or the mask is not bool.
        ValueError: As in ``token_divergence``; if the mask does not fit, no token is there or the count isn't positive.

    Example:
        >>> fair, sure = torch.zeros(2, 2), torch.tensor([[50.0, 0.0], [torch.nan, torch.nan]])
        >>> token_loss(fair, sure, kind="forward", mask=torch.tensor([True, False]))  # log 2, of the first alone
        tensor(0.6931)

    Source: Agarwal et al. 2024, Section 2; the count as in huggingface/trl #4719.
    """
    _check_words(student_logits, teacher_logits)
    _check_tokens(student_logits.shape[:-1], mask, num_tokens)
    if mask is not None:
        student_logits, teacher_logits = (z.masked_fill(~mask[..., None], 0) for z in (student_logits, teacher_logits))
    values = token_divergence(student_logits, teacher_logits, kind=kind, temperature=temperature, mix=mix)
    count = values.numel() if mask is None else mask.sum().clamp(min=1)
    return (values if mask is None else values * mask).sum() / (count if num_tokens is None else num_tokens)


def _log_probs(logits: Tensor) -> Tensor:
    """Log-softmax; -inf becomes the lowest number, whose product with a probability of 0 is 0."""
    return F.log_softmax(logits, dim=-1).clamp(min=torch.finfo(logits.dtype).min)


def _kl_of_words(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(dim=-1)


def _log_mixture(share: float, log_a: Tensor, log_b: Tensor) -> Tensor:
    """The logarithm of ``share`` times one distribution and the rest times the other."""
    log_share, log_rest = (math.log(weight) if weight > 0 else -math.inf for weight in (share, 1 - share))
    return torch.logaddexp(log_a + log_share, log_b + log_rest)


def _check_words(student: Tensor, teacher: Tensor) -> None:
    if not student.is_floating_point() or not teacher.is_floating_point():
        raise TypeError(f"logits must be floating point, got {student.dtype} and {teacher.dtype}: pass raw scores")
    if student.shape != teacher.shape or student.dim() == 0 or student.shape[-1] == 0:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"both logits must be (..., V), got {shapes}: pad words that a side lacks with -inf, not 0")


def _check_kind(kind: str, mix: float | None) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if (kind in MIXED) != (mix is not None) or (mix is not None and not 0 <= mix <= 1):
        raise ValueError(f"mix must be in [0, 1] for {', '.join(MIXED)}, and None for others, got {mix} for {kind!r}")


def _check_tokens(shape: torch.Size, mask: Tensor | None, num_tokens: float | Tensor | None) -> None:
    if 0 in shape:
        raise ValueError(f"there is no token (shape {tuple(shape)}), and the mean of nothing is undefined")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != shape):
        kind = TypeError if mask.dtype != torch.bool else ValueError
        raise kind(f"mask must be bool {tuple(shape)}, one per token, got {mask.dtype} {tuple(mask.shape)}: .bool()")
    if isinstance(num_tokens, int | float) and not num_tokens > 0:
        raise ValueError(f"num_tokens must be positive, got {num_tokens}")


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
