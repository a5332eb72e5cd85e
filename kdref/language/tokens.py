"""Divergences between two next-token distributions: per token and over a batch.

Source: Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024, https://arxiv.org/abs/2306.13649 (GKD);
Ko et al., "DistiLLM", ICML 2024, https://arxiv.org/abs/2402.03898 (skew). Lesson: notebooks/19_writing_models.ipynb.

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
        teacher_logits: Raw scores, same shape. Treated as a constant. Where one side has more words, cut both to the
            shared ones, ``logits[..., :n]``: padding with -inf makes forward KL infinite, with 0 it invents words.
        kind: One of the six; the three with a mixture require ``mix``, :math:`\beta` or :math:`\alpha` in [0, 1].
        temperature: :math:`\tau > 0`; P and Q are softmaxes of logits divided by it.
        mix: The teacher's share in M, or in skew_reverse the student's.

    Returns:
        Per token, shape ``(...)``, in nats, at least 0, 0 where the two agree; total variation has no unit and is at
        most 1. Words only the teacher has make forward KL infinite, words only the student has reverse KL.

    Raises:
        TypeError: If the logits are not floating-point tensors, or a setting is no number.
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
    return _divergence(log_q, log_p, kind, mix)


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
        num_tokens: What to divide by, a positive number; the tokens that count by default.

    Returns:
        Scalar loss in nats per token. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: As in ``token_divergence``; if the mask is no bool tensor or the count no number.
        ValueError: As in ``token_divergence``; if the mask does not fit, no token is there or the count isn't positive
            (of a tensor on the CPU only).

    Example:
        >>> fair, sure = torch.zeros(2, 2), torch.tensor([[50.0, 0.0], [torch.nan, torch.nan]])
        >>> token_loss(fair, sure, kind="forward", mask=torch.tensor([True, False]))  # log 2, of the first alone
        tensor(0.6931)

    Source: Agarwal et al. 2024, Section 2; the count as in huggingface/trl #4719.
    """
    _check_words(student_logits, teacher_logits)
    if student_logits.numel() == 0:
        shape = tuple(student_logits.shape[:-1])
        raise ValueError(f"there is no token (shape {shape}), and the mean of nothing is undefined")
    _check_mask(mask, student_logits.shape[:-1])
    _check_count(num_tokens)
    if mask is not None:
        student_logits, teacher_logits = (z.masked_fill(~mask[..., None], 0) for z in (student_logits, teacher_logits))
    values = token_divergence(student_logits, teacher_logits, kind=kind, temperature=temperature, mix=mix)
    count = values.numel() if mask is None else mask.sum().clamp(min=1)
    kept = values if mask is None else values.masked_fill(~mask, 0)
    return kept.sum() / (count if num_tokens is None else num_tokens)


def _log_probs(logits: Tensor) -> Tensor:
    """Log-softmax; -inf becomes the lowest number, whose product with a probability of 0 is 0."""
    return F.log_softmax(logits, dim=-1).clamp(min=torch.finfo(logits.dtype).min)


def _divergence(log_q: Tensor, log_p: Tensor, kind: str, mix: float | None) -> Tensor:
    """Of Q from P, along the last axis; a probability of 0 stands there as the lowest number."""
    if kind == "total_variation":
        return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2
    if kind == "jensen_shannon" and mix is not None:
        log_m = _log_mixture(mix, log_p, log_q)
        return mix * _kl_of_words(log_p, log_m) + (1 - mix) * _kl_of_words(log_q, log_m)
    own, other = (log_p, log_q) if "forward" in kind else (log_q, log_p)
    value = _kl_of_words(own, other if mix is None else _log_mixture(mix, own, other))
    return value.masked_fill(value > 1e18, math.inf)  # a word that the other side lacks


def _kl_of_words(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(dim=-1)


def _log_mixture(share: float, log_a: Tensor, log_b: Tensor) -> Tensor:
    """The logarithm of ``share`` times one distribution and the rest times the other."""
    log_share, log_rest = (math.log(weight) if weight > 0 else -math.inf for weight in (share, 1 - share))
    return torch.logaddexp(log_a + log_share, log_b + log_rest)


def _check_words(student: Tensor, teacher: Tensor) -> None:
    _check_logits(student)
    _check_logits(teacher)
    if student.shape != teacher.shape:
        n = min(student.shape[-1], teacher.shape[-1])
        cut = f": cut both to shared words, [..., :{n}], not -inf" if student.shape[:-1] == teacher.shape[:-1] else ""
        raise ValueError(f"both logits must be (..., V), got {tuple(student.shape)} and {tuple(teacher.shape)}{cut}")


def _check_kind(kind: object, mix: object) -> None:
    share = 0 if mix is None else mix
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(share, numbers.Real):
        raise TypeError(f"mix must be a number, got {mix!r}")
    if (kind in MIXED) != (mix is not None) or not 0 <= float(share) <= 1:
        raise ValueError(f"mix must be in [0, 1] for {', '.join(MIXED)}, and None for others, got {mix} for {kind!r}")


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


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


def _check_count(num_tokens: object) -> None:
    if isinstance(num_tokens, Tensor) and num_tokens.dim() > 0:
        raise ValueError(f"num_tokens must be one number, got shape {tuple(num_tokens.shape)}: take its .sum()")
    unseen = isinstance(num_tokens, Tensor) and (num_tokens.device.type != "cpu" or torch.compiler.is_compiling())
    if num_tokens is None or unseen:  # looking would cost a sync
        return
    if not isinstance(num_tokens, numbers.Real | Tensor):
        raise TypeError(f"num_tokens must be a number, got {num_tokens!r}")
    if not 0 < float(num_tokens) < math.inf:
        raise ValueError(f"num_tokens must be positive and finite, got {float(num_tokens)}")


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
