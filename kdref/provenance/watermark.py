"""A watermark in text: a secret key makes some next words likelier, and who holds the key can count them.

Source: Kirchenbauer et al., "A Watermark for Large Language Models", ICML 2023, https://arxiv.org/abs/2301.10226;
Fernandez et al., "Three Bricks to Consolidate Watermarks for Large Language Models", 2023,
https://arxiv.org/abs/2308.00113 (the exact test, and repeats); Sander et al., "Watermarking Makes Language Models
Radioactive", NeurIPS 2024, https://arxiv.org/abs/2402.14904 (a student carries the mark).
Lesson: notebooks/16_provenance.ipynb.

A student that was trained on marked text prefers the same words: the test of the text is a test of the student.
Mark and test with one vocabulary, fraction and key: with another of them the mark is not there.

Needs only torch: copy this file into your project as it is.
Shapes: V words of the vocabulary; ``...`` is any number of axes, one entry for each position in a text.
"""

import math
import numbers
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["green_list", "watermark_logits", "watermark_p_value"]

BITS = 0xFFFFFFFF  # a hash has 32: products with its factor of 27 bits stay exact in int64 on every device
GOLDEN = 0x9E3779B9  # so that the key 0 is a key like any other
Whole = TypeVar("Whole", int, Tensor)


def green_list(
    previous_tokens: Tensor,  # (...)
    *,
    vocabulary: int,
    fraction: float = 0.5,
    key: int,
) -> Tensor:  # (..., V)
    r"""The words that the watermark favours after a word: a part of the vocabulary that the key alone knows.

    .. math::
        G_{uk} = \{v : h_k(u, v) \text{ is among the } \lfloor \gamma V \rfloor \text{ smallest of }
        h_k(u, 0), \dots, h_k(u, V - 1)\}

    h is a hash of whole numbers, so a key gives the same lists on any device and in any order. It is no cryptography:
    who sees much marked text can find out the lists, and forge or remove the mark.

    Args:
        previous_tokens: u, the word before each position, int64, in [0, V), any shape.
        vocabulary: V, the number of logits, which may be more than the tokeniser's words.
        fraction: :math:`\gamma` in (0, 1), the list's share of the vocabulary.
        key: k, a whole number in [0, 2⁶⁴). Keep it secret, and draw it from many.

    Returns:
        True for the words on the list, bool, shape ``(..., V)``: :math:`\lfloor \gamma V \rfloor` of them at each
        position.

    Raises:
        TypeError: If the tokens are no int64 tensor, or a setting is no number.
        ValueError: If a setting is out of its range, the list would be empty or all, or (looked at on the CPU only)
            a token is not in the vocabulary.

    Example:
        >>> green_list(torch.tensor([2, 3, 2]), vocabulary=6, key=7).int()
        tensor([[1, 0, 0, 1, 1, 0],
                [1, 0, 1, 0, 0, 1],
                [1, 0, 0, 1, 1, 0]], dtype=torch.int32)

    Source: Kirchenbauer et al. 2023, Algorithm 2, with the last word as the context.
    """
    size = _list_size(vocabulary, fraction)
    _check_key(key)
    _check_token_ids(previous_tokens=previous_tokens)
    _check_tokens(vocabulary, previous_tokens=previous_tokens)
    words = torch.arange(vocabulary, device=previous_tokens.device)
    low, high = int(key) & BITS, int(key) >> 32
    context = _mix(_mix(_mix(low ^ GOLDEN) ^ high) ^ previous_tokens)
    hashes = _mix(context.unsqueeze(-1) ^ _mix(words))  # all different: each step is one-to-one
    return hashes <= hashes.topk(size, largest=False, sorted=False).values.amax(-1, keepdim=True)


def watermark_logits(
    logits: Tensor,  # (..., V)
    previous_tokens: Tensor,  # (...)
    *,
    strength: float = 2.0,
    fraction: float = 0.5,
    key: int,
) -> Tensor:  # (..., V)
    r"""Logits of the next word with a bonus for the words on the green list (the soft watermark).

    .. math::
        z_v + \delta\,[v \in G_{uk}], \qquad
        P(\text{green}) = \frac{e^\delta g}{e^\delta g + 1 - g} \text{ where it was } g \text{ before}

    A word that is certain stays certain: the mark hides where there is a choice, and there is least of it in code,
    quotations and greedy answers. Sample from the result; apply temperature and top-k after it or before, but always
    the same way.

    Args:
        logits: z, raw scores of the next word, shape ``(..., V)``. Receives the gradient.
        previous_tokens: u, the word before, int64, the logits' shape without V.
        strength: :math:`\delta \ge 0`, in nats. 0 marks nothing.
        fraction: :math:`\gamma` in (0, 1), as in ``green_list``.
        key: k, as in ``green_list``.

    Returns:
        Marked logits, the shape and dtype of the logits.

    Raises:
        TypeError, ValueError: As in ``green_list``; if the logits are no floating-point tensor ``(..., V)`` that fits
            the tokens, or the strength is negative or infinite.

    Example:
        >>> watermark_logits(torch.zeros(6), torch.tensor(2), key=7)
        tensor([2., 0., 0., 2., 2., 0.])

    Source: Kirchenbauer et al. 2023, Algorithm 2.
    """
    _check_token_ids(previous_tokens=previous_tokens)
    _check_logits_of_words(logits, previous_tokens)
    _check_numbers(strength=strength)
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be finite and at least 0, got {strength}: 2.0 is usual, 0 marks nothing")
    green = green_list(previous_tokens, vocabulary=logits.shape[-1], fraction=fraction, key=key)
    return torch.where(green, logits + strength, logits)


def watermark_p_value(
    tokens: Tensor,  # (...)
    previous_tokens: Tensor,  # (...)
    *,
    vocabulary: int,
    fraction: float = 0.5,
    key: int,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""How probable so many green words are, or more, in a text whose writer does not know the key.

    .. math::
        p = \sum_{i = h}^{n} \binom{n}{i} \hat\gamma^i (1 - \hat\gamma)^{n - i}, \qquad
        \hat\gamma = \lfloor \gamma V \rfloor / V

    n counts the *different* pairs (previous word, word), h those of them whose word is green. A pair that comes again
    says nothing new: counted each time, a text that repeats itself would look marked under some keys. To test a
    student, leave out by the mask what it was given to read, or it is convicted of what it quotes.

    The binomial takes pairs for independent. Words after the same word come from one list, without replacement, so
    for a text that holds most pairs of a small vocabulary h is near :math:`\hat\gamma n` marked or not: the test is
    then weak, and cautious. One p-value is for one text and one key: of a hundred, one is below 0.01.

    Args:
        tokens: v, the words of the text or of many, int64, in [0, V), any shape.
        previous_tokens: u, the word before each, same shape. Neighbours are not taken from ``tokens`` here: the first
            word of a text has none.
        vocabulary, fraction, key: As in ``green_list``, and as the text was marked.
        mask: True where a word counts, bool, same shape; elsewhere tokens may be anything. All count if left out.

    Returns:
        Probability in (0, 1], float64 where the device has it. 1 if nothing counts. Small says marked; large says
        nothing at all.

    Raises:
        TypeError, ValueError: As in ``green_list``; if the shapes differ, or the mask is no bool tensor of that shape.

    Example:
        >>> text = torch.tensor([2, 0, 4, 5, 1, 3, 1])  # pairs 2 0, 0 4, 4 5, 5 1, 1 3, 3 1: all but the last are green
        >>> watermark_p_value(text[1:], text[:-1], vocabulary=6, key=7)  # (6 + 1) / 2⁶
        tensor(0.1094, dtype=torch.float64)

    Source: Fernandez et al. 2023, the test of the binomial in place of the z-score of Kirchenbauer et al. 2023 (their
    equation 3); each pair once: Fernandez et al. 2023, Sander et al. 2024.
    """
    share = _list_size(vocabulary, fraction) / vocabulary
    _check_token_ids(tokens=tokens, previous_tokens=previous_tokens)
    _check_same_text(tokens, previous_tokens)
    _check_mask(mask, tokens.shape)
    if mask is not None:
        tokens, previous_tokens = tokens.masked_fill(~mask, 0), previous_tokens.masked_fill(~mask, 0)
    _check_tokens(vocabulary, tokens=tokens, previous_tokens=previous_tokens)
    pairs = previous_tokens.flatten() * vocabulary + tokens.flatten()
    pairs = (pairs if mask is None else pairs.masked_fill(~mask.flatten(), -1)).sort().values
    new = (pairs >= 0) & (torch.cat([pairs[:1] - 1, pairs[:-1]]) != pairs)
    green = _are_green(pairs.clamp(min=0), vocabulary, fraction, key)
    return _binomial_tail((new & green).sum(), new.sum(), share, len(pairs))


def _are_green(pairs: Tensor, vocabulary: int, fraction: float, key: int) -> Tensor:
    """For each pair, whether its word is on the list; lists are made once a word, and some million entries a time."""
    previous, words, rows = pairs // vocabulary, pairs % vocabulary, max(1, 2**22 // vocabulary)
    settings: dict[str, Any] = {"vocabulary": vocabulary, "fraction": fraction, "key": key}
    if len(pairs) > vocabulary:
        every = torch.arange(vocabulary, device=pairs.device).split(rows)
        return torch.cat([green_list(some, **settings) for some in every])[previous, words]
    parts = zip(previous.split(rows), words.split(rows), strict=True)
    return torch.cat([green_list(some, **settings).gather(1, next_[:, None]).squeeze(1) for some, next_ in parts])


def _binomial_tail(hits: Tensor, trials: Tensor, share: float, most: int) -> Tensor:
    """P(X ≥ hits) for X binomial, in log space."""
    dtype = torch.float32 if hits.device.type == "mps" else torch.float64
    i, n = torch.arange(most + 1, device=hits.device).to(dtype), trials.to(dtype)
    rest = (n - i).clamp(min=0)
    log_ways = torch.lgamma(n + 1) - torch.lgamma(i + 1) - torch.lgamma(rest + 1)
    log_terms = log_ways + i * math.log(share) + rest * math.log1p(-share)
    return log_terms.masked_fill((i < hits) | (i > trials), -math.inf).logsumexp(0).exp().clamp(max=1)


def _mix(x: Whole) -> Whole:
    """A hash of 32 bits, one-to-one."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & BITS
    return x ^ (x >> 16)


def _list_size(vocabulary: Any, fraction: float) -> int:
    _check_numbers(vocabulary=vocabulary, fraction=fraction)
    whole = isinstance(vocabulary, numbers.Integral)
    if not whole or not 2 <= vocabulary <= 2**31:
        raise ValueError(f"vocabulary must be a whole number in [2, 2³¹], got {vocabulary}: the number of logits")
    size = math.floor(fraction * vocabulary + 1e-9) if 0 < fraction < 1 else 0  # 0.29 · 100 is 28.999999999999996
    if not 1 <= size < vocabulary:
        raise ValueError(f"fraction must leave words on both sides, got {fraction} of {vocabulary}: 0.5 is usual")
    return size


def _check_key(key: Any) -> None:
    _check_numbers(key=key)
    whole = isinstance(key, numbers.Integral)
    if not whole or not 0 <= key < 2**64:
        raise ValueError(f"key must be a whole number in [0, 2⁶⁴), got {key}: secrets.randbits(64) draws one")


def _check_token_ids(**tokens: object) -> None:
    for name, value in tokens.items():
        if not isinstance(value, Tensor) or value.dtype != torch.int64:
            found = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name} must be an int64 tensor, got {found}: use torch.as_tensor(ids).long()")


def _check_tokens(vocabulary: int, **tokens: Tensor) -> None:
    for name, value in tokens.items():
        if value.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
            wrong = value[(value < 0) | (value >= vocabulary)]
            if len(wrong):
                raise ValueError(f"{name} must be in [0, {vocabulary}), got {wrong[0].item()}: mask out padding")


def _check_same_text(tokens: Tensor, previous_tokens: Tensor) -> None:
    if tokens.shape != previous_tokens.shape:
        both = f"{tuple(tokens.shape)} and {tuple(previous_tokens.shape)}"
        raise ValueError(f"tokens and previous_tokens must have one shape, got {both}: text[1:] and text[:-1]")


def _check_logits_of_words(logits: object, previous_tokens: Tensor) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        found = logits.dtype if isinstance(logits, Tensor) else f"{type(logits).__name__}: take its .logits"
        raise TypeError(f"logits must be a floating-point tensor, got {found}")
    if logits.dim() == 0 or logits.shape[:-1] != previous_tokens.shape:
        both = f"{tuple(logits.shape)} and {tuple(previous_tokens.shape)}"
        raise ValueError(f"need logits (..., V) and previous_tokens (...), got {both}")


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
