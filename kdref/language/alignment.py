"""A loss between models with different tokenizers, by the bytes that their tokens cover.

Two segmentations of one text share some boundaries. Between two neighbours of these lies a span: some tokens of the
student, some of the teacher, the same bytes. What each model says of a span is the product of its tokens'
probabilities, and these two numbers can be compared, whatever the vocabularies.

Source: Minixhofer et al., "Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching", NeurIPS 2025,
https://arxiv.org/abs/2503.20083 (ALM), and the authors' code, https://github.com/bminixhofer/tokenkit. Lesson:
notebooks/19_writing_models.ipynb.

GOLD, in huggingface/trl, aligns by the same boundaries but compares whole vocabularies: the distribution at a span's
first token times the probabilities of the tokens that follow it there (a setting takes the last one's distribution),
sorted as in ``universal_logit_loss``; a setting compares words that both vocabularies hold by name.

Needs only torch: copy this file into your project as it is.
Shapes: L tokens of the student's, L' of the teacher's, S spans; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
from torch import Tensor

__all__ = ["align_spans", "likelihood_matching_loss", "span_log_probs"]

KINDS = ("forward", "reverse", "total_variation")
NOWHERE = torch.iinfo(torch.int64).max


def align_spans(
    student_ends: Tensor,  # (..., L)
    teacher_ends: Tensor,  # (..., L')
) -> tuple[Tensor, Tensor, Tensor]:  # (..., L), (..., L'), (..., S)
    r"""The spans between boundaries that two segmentations of the same bytes share: which token is in which.

    .. math::
        \text{token } i \text{ is in span } \#\{c \in E_s \cap E_t : c < e_i\}

    Count bytes, not characters: a byte-level tokenizer cuts through characters, and a tokenizer that reports offsets in
    characters gives the same end to several tokens. Nothing here can tell ends from lengths: take ``.cumsum(-1)``.

    Args:
        student_ends: :math:`e`, at which byte of the text each token ends, shape ``(..., L)``, whole numbers; below 0
            for padding and for tokens that no model predicts, like the start. Give the end of the text, which has no
            byte, an end of its own on both sides: one more than the text's bytes.
        teacher_ends: The same of the teacher's tokens, shape ``(..., L')``.

    Returns:
        The span of each token, from 0, int64, for the student, ``(..., L)``, and the teacher, ``(..., L')``; -1 for
        padding and after the last shared boundary. And the mask of spans, ``(..., S)``, True where there is one;
        S is the smaller of L and L', whatever the text, so that one graph does for all.

    Raises:
        TypeError: If the ends are no tensors of whole numbers.
        ValueError: If leading axes differ or a side has no token.

    Example:
        >>> student, teacher, mask = align_spans(torch.tensor([2, 4, 6]), torch.tensor([2, 5, 6]))
        >>> student, teacher, mask  # na|ï|ve and na|ïv|e
        (tensor([0, 1, 1]), tensor([0, 1, 1]), tensor([ True,  True, False]))

    Source: Minixhofer et al. 2025; tokenkit/align.py, which compares lengths of byte-level tokens.
    """
    _check_ends(student_ends, teacher_ends)
    s, t = (ends.long().sort(dim=-1).values for ends in (student_ends, teacher_ends))
    in_both = t.gather(-1, torch.searchsorted(t, s).clamp(max=t.shape[-1] - 1)) == s
    first = torch.cat([torch.ones_like(in_both[..., :1]), s[..., 1:] != s[..., :-1]], dim=-1)
    shared = s.masked_fill(~(in_both & first) | (s < 0), NOWHERE).sort(dim=-1).values
    shared = shared[..., : min(s.shape[-1], t.shape[-1])].contiguous()
    mask = shared < NOWHERE
    return _span_of(student_ends, shared, mask), _span_of(teacher_ends, shared, mask), mask


def span_log_probs(
    token_log_probs: Tensor,  # (..., L)
    span_of_token: Tensor,  # (..., L)
    num_spans: int,
) -> Tensor:  # (..., S)
    r"""What a model says of each span: the sum of its tokens' log-probabilities.

    .. math::
        \log p(\text{span } j) = \sum_{i \,:\, \text{span}(i) = j} \log p(x_i \mid x_{<i})

    The logits at a place are about the token that follows it: gather ``logits[:, :-1]`` at ``ids[:, 1:]``, and align
    the ends of ``ids[:, 1:]``.

    Args:
        token_log_probs: Of the tokens of the text, each given those before it, shape ``(..., L)``. Receives the
            gradient.
        span_of_token: From ``align_spans``, below ``num_spans``; what stands where it is -1 does not matter, not even
            NaN. Shape ``(..., L)``, int64.
        num_spans: S, ``mask.shape[-1]``.

    Returns:
        Log-probabilities in nats, shape ``(..., S)``; 0 for a span without tokens, which the mask leaves out.

    Raises:
        TypeError: If the log-probabilities are not floating point, the spans not int64 or the number not whole.
        ValueError: If the shapes differ or there is not one span.

    Example:
        >>> halves = torch.full((3,), 0.5).log()
        >>> span_log_probs(halves, torch.tensor([0, 1, 1]), 2).exp()
        tensor([0.5000, 0.2500])

    Source: Minixhofer et al. 2025.
    """
    _check_spans_of_tokens(token_log_probs, span_of_token, num_spans)
    values = token_log_probs.to(torch.promote_types(token_log_probs.dtype, torch.float32))
    outside = span_of_token < 0
    index = span_of_token.masked_fill(outside, num_spans)
    sums = values.new_zeros(*values.shape[:-1], num_spans + 1)
    return sums.scatter_add(-1, index, values.masked_fill(outside, 0))[..., :num_spans]


def likelihood_matching_loss(
    student_span_log_probs: Tensor,  # (..., S)
    teacher_span_log_probs: Tensor,  # (..., S)
    *,
    mask: Tensor | None = None,  # (..., S)
    kind: str = "forward",
    temperature: float = 100.0,
) -> Tensor:  # ()
    r"""Divergence of two outcomes, this span or another text, between student and teacher (ALM).

    .. math::
        \frac{1}{\sum_j m_j} \sum_j m_j \, D\big(\mathrm{Bernoulli}(p_j^{1/\tau}), \mathrm{Bernoulli}(q_j^{1/\tau})\big)
        \qquad \text{forward: } \mathrm{KL}(p \| q) \quad \text{reverse: } \mathrm{KL}(q \| p) \quad
        \text{total\_variation: } |p - q|

    The teacher's words that the text does not hold play no part, so it says less than a KL over the vocabulary. At
    :math:`\tau = 1` a long span has a probability near 0 on both sides, and hardly a gradient; the higher the
    temperature, the smaller the loss, like :math:`1/\tau`, so its weight beside cross-entropy has to grow.

    Args:
        student_span_log_probs: :math:`\log q`, shape ``(..., S)``. Receives the gradient.
        teacher_span_log_probs: :math:`\log p`, same shape. Treated as a constant.
        mask: :math:`m`, from ``align_spans``; what stands elsewhere does not matter, not even NaN.
        kind: One of the three.
        temperature: :math:`\tau > 0`, 100 in the authors' configurations.

    Returns:
        Scalar loss in nats per span (total variation: no unit), 0 where the two agree or nothing counts. Their code's
        default, a cross-entropy, is larger by the teacher's entropy and has the same gradient.

    Raises:
        TypeError: If the log-probabilities are not floating point, the mask is no bool tensor or a setting no number.
        ValueError: If shapes differ, no span is there, the kind is unknown or the temperature is not positive.

    Example:
        >>> half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
        >>> likelihood_matching_loss(quarter, half, temperature=1.0)  # log(2) / 2 + log(2 / 3) / 2
        tensor(0.1438)

    Source: Minixhofer et al. 2025; in their code, losses.py, binary_ce, reverse_binary_kl and abs_exp, here without
    debiasing: there a span's probability is multiplied by that of a boundary after it, and spans are joined until the
    teacher's is above 0.1.
    """
    _check_spans(student_span_log_probs, teacher_span_log_probs, mask)
    _check_setting(kind, temperature)
    b = _scaled(student_span_log_probs, mask, temperature)
    a = _scaled(teacher_span_log_probs.detach().to(b.dtype), mask, temperature)
    values = _divergence_of_two(b, a, kind)
    return values.mean() if mask is None else values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _span_of(ends: Tensor, shared: Tensor, mask: Tensor) -> Tensor:
    """How many shared boundaries lie before each token's end."""
    span = torch.searchsorted(shared, ends.long().contiguous())
    return span.masked_fill((ends < 0) | (span >= mask.sum(dim=-1, keepdim=True)), -1)


def _scaled(log_probs: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """Of p to the power 1/τ, in at least float32; no probability is quite 1, nor its logarithm below all numbers."""
    x = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    x = x if mask is None else x.masked_fill(~mask, -1)
    limits = torch.finfo(x.dtype)
    return (x.clamp(max=-limits.eps) / temperature).clamp(min=limits.min / 4)


def _divergence_of_two(b: Tensor, a: Tensor, kind: str) -> Tensor:
    """Between a Bernoulli of probability exp(b), the student's, and one of exp(a)."""
    if kind == "total_variation":
        return (a.exp() - b.exp()).abs()
    own, other = (a, b) if kind == "forward" else (b, a)
    return own.exp() * (own - other) - own.expm1() * (_log1mexp(own) - _log1mexp(other))


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)), x < 0: near 0 by expm1, far from it by log1p, neither of which sees what is the other's."""
    half = -math.log(2)
    near, far = x.clamp(min=half), x.clamp(max=half)
    return torch.where(x > half, (-near.expm1()).log(), (-far.exp()).log1p())


def _check_ends(student: object, teacher: object) -> None:
    for ends in (student, teacher):
        if not isinstance(ends, Tensor) or ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool:
            got = ends.dtype if isinstance(ends, Tensor) else type(ends).__name__
            raise TypeError(f"ends must be a tensor of whole numbers, got {got}: at which byte each token ends")
    s, t = (tuple(ends.shape) for ends in (student, teacher) if isinstance(ends, Tensor))
    if not s or not t or s[:-1] != t[:-1] or 0 in (s[-1], t[-1]):
        raise ValueError(f"need ends (..., L) and (..., L') of the same texts, none empty, got {s} and {t}")


def _check_spans_of_tokens(token_log_probs: object, span_of_token: object, num_spans: object) -> None:
    values, spans = token_log_probs, span_of_token
    if not (isinstance(values, Tensor) and isinstance(spans, Tensor) and values.is_floating_point()):
        kinds = " and ".join(str(x.dtype) if isinstance(x, Tensor) else type(x).__name__ for x in (values, spans))
        raise TypeError(f"need floating-point log-probabilities and their spans, got {kinds}")
    if spans.dtype != torch.int64:
        raise TypeError(f"span_of_token must be int64, got {spans.dtype}: align_spans makes it")
    if values.shape != spans.shape or values.dim() == 0:
        got = f"{tuple(values.shape)} and {tuple(spans.shape)}"
        raise ValueError(f"need a span per token, got {got}: logits[:, :-1] at ids[:, 1:], and the ends of ids[:, 1:]")
    if isinstance(num_spans, bool) or not isinstance(num_spans, int):
        raise TypeError(f"num_spans must be a whole number, got {num_spans!r}: mask.shape[-1]")
    if num_spans < 1:
        raise ValueError(f"num_spans must be at least 1, got {num_spans}: mask.shape[-1]")


def _check_spans(student: object, teacher: object, mask: object) -> None:
    for x in (student, teacher):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"span log-probabilities must be floating-point tensors, got {got}: span_log_probs")
    s, t = (tuple(x.shape) for x in (student, teacher) if isinstance(x, Tensor))
    if s != t:
        raise ValueError(f"both sides need the same spans, got {s} and {t}: give span_log_probs one num_spans")
    if math.prod(s) == 0:
        raise ValueError(f"there is no span (shape {s}), and the mean of nothing is undefined")
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and tuple(mask.shape) == s):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        error = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise error(f"mask must be a bool tensor {s}, one per span, got {got}: align_spans makes it")


def _check_setting(kind: object, temperature: object) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    if not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}: the authors' is 100")
