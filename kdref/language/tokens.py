"""Divergences between two next-token distributions: per token, over a batch, and without ever holding the logits.

Source: Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024, https://arxiv.org/abs/2306.13649 (GKD);
Ko et al., "DistiLLM", ICML 2024, https://arxiv.org/abs/2402.03898 (skew). Lesson: notebooks/11_language_models.ipynb.

Needs only torch: copy this file into your project as it is. No loss here carries τ², as is usual for language models.
Shapes: N tokens, V words of the vocabulary, H features; ``...`` is any number of leading axes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fused_linear_loss", "token_divergence", "token_loss"]

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
    _check_temperature(temperature)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q, log_p = (_log_probs(z.to(dtype) / temperature) for z in (student_logits, teacher_logits.detach()))
    return _divergence(kind, mix or 0.0, *_terms(kind, mix or 0.0, log_q, log_p))


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


def fused_linear_loss(
    student_hidden: Tensor,  # (N, H)
    student_weight: Tensor,  # (V, H)
    teacher_hidden: Tensor,  # (N, H')
    teacher_weight: Tensor,  # (V, H')
    *,
    kind: str,
    student_bias: Tensor | None = None,  # (V,)
    teacher_bias: Tensor | None = None,  # (V,)
    mask: Tensor | None = None,  # (N,)
    num_tokens: float | Tensor | None = None,
    temperature: float = 1.0,
    mix: float | None = None,
    chunk_size: int | None = None,
) -> Tensor:  # ()
    r"""``token_loss`` of projected hidden states, in the memory of a few tokens' logits.

    .. math::
        \texttt{token\_loss}(h^s W_s^\top + b_s, \; h^t W_t^\top + b_t)

    Each chunk is projected and compared, and its gradient computed, in the forward pass: no ``(N, V)`` tensor ever
    exists. So it can be differentiated only once. Under autocast the projections are in its dtype, like ``nn.Linear``;
    float16 is computed in float32, because small probabilities vanish in it.

    Args:
        student_hidden, student_weight: :math:`h^s, W_s`, shapes ``(N, H)``, ``(V, H)``. They receive gradients.
        teacher_hidden, teacher_weight: :math:`h^t, W_t`, shapes ``(N, H')``, ``(V, H')``. Treated as constants.
        student_bias, teacher_bias: :math:`b`, shape ``(V,)``, likewise. -inf for words that a side lacks.
        mask: As in ``token_loss``, shape ``(N,)``. Tokens that don't count are not even projected.
        kind, num_tokens, temperature, mix: As in ``token_loss``.
        chunk_size: Tokens at a time, by default those of 2²⁴ logits. Two such blocks are held.

    Returns:
        Scalar loss in nats per token, as ``token_loss``.

    Raises:
        TypeError: If a tensor is not floating point or the mask is not bool.
        ValueError: As in ``token_loss``; if the shapes don't fit or the chunk size is not positive.

    Example:
        >>> hidden, words = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0]])
        >>> fused_linear_loss(hidden, words, hidden, torch.tensor([[50.0], [0.0]]), kind="forward")
        tensor(0.6931)

    Source: the idea: Hsu et al., "Liger Kernel", 2024, https://arxiv.org/abs/2410.10989.
    """
    student = _linear(student_hidden, student_weight, student_bias)
    teacher = _linear(teacher_hidden, teacher_weight, teacher_bias)
    sizes = [(len(side[0]), len(side[1])) for side in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"both sides need the same (N, V), got {sizes}: a bias of -inf takes a word away")
    _check_tokens(student_hidden.shape[:1], mask, num_tokens)
    _check_kind(kind, mix)
    _check_temperature(temperature)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    how = kind, mix or 0.0, temperature, chunk_size or max(1, 2**24 // len(student_weight)), torch.is_grad_enabled()
    hidden, targets = (side[0] if mask is None else side[0][mask] for side in (student, teacher))
    with torch.autocast(hidden.device.type, enabled=False):
        total: Tensor = _FusedLinear.apply(how, hidden, *student[1:], targets, *teacher[1:])
    return total / (max(len(hidden), 1) if num_tokens is None else num_tokens)


class _FusedLinear(torch.autograd.Function):
    """The sum over tokens, whose gradients are made beside it."""

    @staticmethod
    def forward(ctx: Any, how: Any, *tensors: Any) -> Tensor:
        kind, mix, temperature, chunk, grad = how
        hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias = tensors
        dtype, shape = torch.promote_types(hidden.dtype, torch.float32), (min(chunk, len(hidden)), len(weight))
        rows = max(1, 2**19 // len(weight)) if hidden.device.type == "cpu" else chunk  # what a processor's cache holds
        students, teachers = hidden.new_empty(shape), teacher_hidden.new_empty(shape)
        total: Tensor = hidden.new_zeros((), dtype=dtype)
        wanted = [grad and needed for needed in ctx.needs_input_grad[1:4]]
        sums = [torch.zeros_like(x, dtype=dtype) if want else None for x, want in zip(tensors, wanted, strict=False)]
        for start in range(0, len(hidden), chunk):
            h, t = hidden[start : start + chunk], teacher_hidden[start : start + chunk]
            z = torch.addmm(bias, h, weight.T, out=students[: len(h)])
            y = torch.addmm(teacher_bias, t, teacher_weight.T, out=teachers[: len(t)])
            for s, r in zip(z.split(rows), y.split(rows), strict=True):
                terms = _terms(kind, mix, *(_log_probs(x.to(dtype) / temperature) for x in (s, r)))
                total += _divergence(kind, mix, *terms).sum()
                if any(wanted):
                    torch.div(_gradient(kind, mix, *terms), temperature, out=s)  # in place of the logits
            if sums[0] is not None:
                sums[0][start : start + chunk] = z @ weight
            if sums[1] is not None:
                sums[1].addmm_(z.T, h) if z.dtype == dtype else sums[1].add_(z.T @ h)
            if sums[2] is not None:
                sums[2] += z.sum(dim=0, dtype=dtype)
        ctx.save_for_backward(*sums)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("fused_linear_loss can't be differentiated twice (create_graph=True): use token_loss")
        return None, *(g if g is None else g * upstream for g in ctx.saved_tensors), None, None, None


def _log_probs(logits: Tensor) -> Tensor:
    """Log-softmax; -inf becomes the lowest number, whose product with a probability of 0 is 0."""
    return F.log_softmax(logits, dim=-1).clamp(min=torch.finfo(logits.dtype).min)


def _terms(kind: str, mix: float, log_q: Tensor, log_p: Tensor) -> tuple[Tensor, ...]:
    """Both distributions, their logs, and the log of the one that KL's first argument is compared with."""
    log_m = log_q if kind == "forward" else log_p
    if kind in MIXED:
        own, other = (log_q, log_p) if kind == "skew_reverse" else (log_p, log_q)
        log_own, log_other = (math.log(share) if share > 0 else -math.inf for share in (mix, 1 - mix))
        log_m = torch.logaddexp(own + log_own, other + log_other)
    return log_q.exp(), log_p.exp(), log_q, log_p, log_m


def _divergence(kind: str, mix: float, q: Tensor, p: Tensor, log_q: Tensor, log_p: Tensor, log_m: Tensor) -> Tensor:
    if kind == "total_variation":
        return (p - q).abs().sum(dim=-1) / 2
    if kind == "jensen_shannon":
        return mix * (p * (log_p - log_m)).sum(dim=-1) + (1 - mix) * (q * (log_q - log_m)).sum(dim=-1)
    value = (p * (log_p - log_m) if "forward" in kind else q * (log_q - log_m)).sum(dim=-1)
    return value.masked_fill(value > 1e18, math.inf)  # a word that the other side lacks


def _gradient(kind: str, mix: float, q: Tensor, p: Tensor, log_q: Tensor, log_p: Tensor, log_m: Tensor) -> Tensor:
    """The divergence's gradient with respect to the student's softened logits."""
    if "forward" in kind:
        pull = p if kind == "forward" else (log_p + log_q - log_m).exp() * (1 - mix)
        return pull.sum(dim=-1, keepdim=True) * q - pull
    if kind == "total_variation":
        slope = (q - p).sign() / 2
    elif kind == "jensen_shannon":
        slope = (1 - mix) * (log_q - log_m)
    else:
        slope = log_q - log_m - (mix * (log_q - log_m).exp() if mix else 0)
    return q * (slope - (q * slope).sum(dim=-1, keepdim=True))


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


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """What ``nn.Linear`` would compute with under autocast, but float32 for float16; no bias is 0."""
    given = [hidden, weight, weight.new_zeros(len(weight)) if bias is None else bias]
    if not all(x.is_floating_point() for x in given):
        raise TypeError(f"hidden states, weight and bias must be floating point, got {[x.dtype for x in given]}")
    if hidden.dim() != 2 or weight.shape != (len(given[2]), hidden.shape[1]) or given[2].dim() != 1 or not len(weight):
        raise ValueError(f"need hidden (N, H), weight (V, H), bias (V,), got {[tuple(x.shape) for x in given]}")
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return [x.to(torch.float32 if dtype == torch.float16 else dtype) for x in given]


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")
