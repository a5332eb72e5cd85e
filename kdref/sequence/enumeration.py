"""Sequences and their probabilities: what a language model says of whole sequences, counted out for tiny languages.

Source: Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, https://arxiv.org/abs/1606.07947 (Section 3).
Losses on drawn sequences are in losses.py. Lesson: notebooks/12_reasoning.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: N sequences, L tokens, V vocabulary; ``...`` is any number of leading axes.
Logits at position t are those from which token t is drawn: shift a language model's output by one position first.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["enumerate_sequences", "markov_logits", "sequence_kl_divergence", "sequence_log_prob"]

MOST_SEQUENCES = 10_000_000


def enumerate_sequences(*, vocabulary: int, length: int) -> Tensor:  # (V**L, L)
    r"""Every sequence of a length, each once, in alphabetical order.

    A sum over its rows is exact: use it to check an estimate that draws sequences, not to train with.

    Args:
        vocabulary: V, the number of tokens, at least 1.
        length: L, at least 1. There are :math:`V^L` sequences, and ten million at most are made.

    Returns:
        Tokens, shape ``(V**L, L)``, int64.

    Raises:
        TypeError: If vocabulary or length is no number.
        ValueError: If vocabulary or length is below 1, or there are too many sequences.

    Example:
        >>> enumerate_sequences(vocabulary=2, length=2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]

    Source: Kim and Rush 2016, Section 3.2, the set that their sum runs over.
    """
    _check_numbers(vocabulary=vocabulary, length=length)
    if vocabulary < 1 or length < 1:
        raise ValueError(f"vocabulary and length must be at least 1, got {vocabulary} and {length}")
    if vocabulary**length > MOST_SEQUENCES:
        raise ValueError(f"{vocabulary}**{length} sequences are more than {MOST_SEQUENCES}: draw some instead")
    grid = torch.meshgrid(*[torch.arange(vocabulary)] * length, indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, length)


def markov_logits(
    initial_logits: Tensor,  # (V,)
    transition_logits: Tensor,  # (V, V)
    tokens: Tensor,  # (..., L)
) -> Tensor:  # (..., L, V)
    r"""Next-token logits of a language in which a token depends on the one before it only.

    .. math::
        z_1 = \text{initial}, \qquad z_t = \text{transition}_{y_{t-1}} \quad (t > 1)

    The smallest language in which what is drawn now decides what is asked later.

    Args:
        initial_logits: Raw scores of the first token, shape ``(V,)``. Receives a gradient.
        transition_logits: Row v holds the raw scores of the token after v, shape ``(V, V)``. Receives a gradient.
        tokens: Sequences, shape ``(..., L)``, int64. The last token is not used.

    Returns:
        Raw scores at every position, shape ``(..., L, V)``.

    Raises:
        TypeError: If the logits are not floating point or the tokens not int64.
        ValueError: If the shapes don't fit or (looked at on the CPU only) a token is out of range.

    Example:
        >>> sticky = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
        >>> markov_logits(torch.zeros(2), sticky, torch.tensor([[1, 0, 0]])).tolist()
        [[[0.0, 0.0], [0.0, 5.0], [5.0, 0.0]]]

    Source: Shannon, "A Mathematical Theory of Communication", 1948, Section 3, the first-order approximation.
    """
    _check_logits(initial_logits)
    _check_logits(transition_logits)
    if initial_logits.dim() != 1 or transition_logits.shape != (len(initial_logits), len(initial_logits)):
        raise ValueError(
            f"expected initial logits (V,) and transitions (V, V), got {tuple(initial_logits.shape)} and "
            f"{tuple(transition_logits.shape)}"
        )
    _check_tensors(tokens=tokens)
    _check_drawn(initial_logits.expand(*tokens.shape, -1), tokens, None)
    tokens = tokens.clone()
    _check_ids("tokens", tokens[..., :-1], len(initial_logits), hint="they choose rows of the transitions")
    first = initial_logits.expand(*tokens.shape[:-1], 1, -1)
    return torch.cat([first, transition_logits[tokens[..., :-1]]], dim=-2)


def sequence_kl_divergence(
    student_logits: Tensor,  # (..., N, L, V)
    teacher_logits: Tensor,  # (..., N, L, V)
    tokens: Tensor,  # (..., N, L)
    *,
    mask: Tensor | None = None,  # (..., N, L)
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (...)
    r"""Divergence of the student's from the teacher's distribution over whole sequences, by exact enumeration.

    .. math::
        \mathrm{KL}(P \,\|\, Q) = \sum_n P(y_n) \log \frac{P(y_n)}{Q(y_n)}
        = \sum_t \mathrm{E}_{y_{<t} \sim P}\, \mathrm{KL}\big(p(\cdot \mid y_{<t}) \,\|\, q(\cdot \mid y_{<t})\big)

    By the chain rule on the right, token-level distillation on sequences that the teacher draws *is* sequence-level
    distillation; on other sequences it is not. Swap the arguments for the reverse divergence.

    Args:
        student_logits: The student's raw scores on every sequence, shape ``(..., N, L, V)``. Receives the gradient.
        teacher_logits: The teacher's, same shape. Treated as a constant.
        tokens: Every sequence that the teacher may write, each once, shape ``(..., N, L)``, int64: a sum that leaves
            some out is not a divergence.
        mask: True where a token counts, shape ``(..., N, L)``, bool; False after the end of a shorter sequence.
        temperature: :math:`\tau > 0`, of both.

    Returns:
        Divergence per language, shape ``(...)``, in nats per sequence, at least 0; infinite where the student excludes
        a sequence that the teacher may write.

    Raises:
        TypeError: If the logits are not floating point, the tokens not int64 or the mask not bool.
        ValueError: If the shapes don't fit, the temperature is not positive or (looked at on the CPU only) a token that
            counts is out of range.

    Example:
        >>> tokens = enumerate_sequences(vocabulary=2, length=3)
        >>> sure = torch.tensor([50.0, 0.0]).expand(8, 3, 2)
        >>> sequence_kl_divergence(torch.zeros(8, 3, 2), sure, tokens)  # three fair coins: 3 log 2
        tensor(2.0794)

    Source: Kim and Rush 2016, Section 3.2, the loss that they approximate; the chain rule: Cover and Thomas, "Elements
    of Information Theory", Theorem 2.5.3.
    """
    _check_words(student_logits, teacher_logits)
    _check_tensors(tokens=tokens)
    if tokens.dim() < 2:
        raise ValueError(f"expected tokens (..., N, L), got {tuple(tokens.shape)}")
    log_q = _drawn_log_probs(student_logits, tokens, mask, temperature).sum(dim=-1)
    log_p = _drawn_log_probs(teacher_logits.detach(), tokens, mask, temperature).sum(dim=-1)
    return _kl(log_q, log_p, -1)


def sequence_log_prob(
    logits: Tensor,  # (..., L, V)
    tokens: Tensor,  # (..., L)
    *,
    mask: Tensor | None = None,  # (..., L)
    temperature: float | Tensor = 1.0,
) -> Tensor:  # (...)
    r"""Log-probability that a language model gives to whole sequences.

    .. math::
        \log Q(y) = \sum_t \log q(y_t \mid y_{<t})

    The sum, not the mean over tokens: the mean is no probability's logarithm, and ranks long sequences too high.

    Args:
        logits: Raw scores at every position, shape ``(..., L, V)``. Receives the gradient.
        tokens: The tokens drawn there, shape ``(..., L)``, int64, each in [0, V) where the mask is true.
        mask: True where a token counts, shape ``(..., L)``, bool. Build it from lengths: a mask made from token ids
            drops the end-of-sequence token wherever padding has the same id. None counts all.
        temperature: :math:`\tau > 0`, at which the sequences were drawn.

    Returns:
        Log-probability per sequence, shape ``(...)``, in nats, at most 0; 0 where no token counts.

    Raises:
        TypeError: If the logits are not floating point, the tokens not int64 or the mask not bool.
        ValueError: If the shapes don't fit, the temperature is not positive or (looked at on the CPU only) a token that
            counts is out of range.

    Example:
        >>> sequence_log_prob(torch.zeros(1, 3, 2), torch.tensor([[0, 1, 1]]))  # 3 log ½
        tensor([-2.0794])

    Source: Kim and Rush 2016, Section 2.1.
    """
    return _drawn_log_probs(logits, tokens, mask, temperature).sum(dim=-1)


def _drawn_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor | None, temperature: float | Tensor) -> Tensor:
    """Log-probability of each drawn token, (..., L); 0 where the mask is false, whatever stands there."""
    _check_logits(logits)
    _check_drawn(logits, tokens, mask)
    _check_temperature(temperature, logits)
    logits, tokens = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, tokens.clone()
    if mask is not None:  # before the softmax: a NaN that is multiplied by zero stays NaN, also in the gradient
        logits, tokens = logits.masked_fill(~mask[..., None], 0.0), tokens.masked_fill(~mask, 0)
    _check_ids("tokens", tokens, logits.shape[-1], hint="mask what does not count")
    log_probs = F.log_softmax(logits, dim=-1).gather(-1, tokens[..., None]).squeeze(-1)
    return log_probs if mask is None else log_probs.masked_fill(~mask, 0.0)


def _check_drawn(logits: Tensor, tokens: Tensor, mask: Tensor | None) -> None:
    _check_tensors(tokens=tokens)
    if tokens.dtype != torch.int64:
        raise TypeError(f"tokens must be int64 ids, got {tokens.dtype}: convert them with tokens.long()")
    if logits.shape[:-1] != tokens.shape or tokens.dim() == 0:
        shapes = f"{tuple(logits.shape)} and {tuple(tokens.shape)}"
        raise ValueError(f"expected logits (..., L, V) and tokens (..., L), got {shapes}")
    _check_mask(mask, tokens.shape)


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


def _check_words(student: Tensor, teacher: Tensor) -> None:
    _check_logits(student)
    _check_logits(teacher)
    if student.shape != teacher.shape:
        n = min(student.shape[-1], teacher.shape[-1])
        cut = f": cut both to shared words, [..., :{n}], not -inf" if student.shape[:-1] == teacher.shape[:-1] else ""
        raise ValueError(f"both logits must be (..., V), got {tuple(student.shape)} and {tuple(teacher.shape)}{cut}")


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


def _check_ids(name: str, ids: Tensor, words: int, *, hint: str) -> None:
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = ids[(ids < 0) | (ids >= words)]
        if len(wrong):
            raise ValueError(f"{name} must be in [0, {words}), got {wrong[0].item()}: {hint}")


def _check_tensors(**tensors: object) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            whole = hasattr(value, "keys") or isinstance(value, tuple)
            hint = "take its .logits or .hidden_states" if whole else "use torch.as_tensor"
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}")
