"""How varied texts are that a model has written: distinct pieces of n tokens, and how like each other they are.

Lesson: notebooks/19_writing_models.ipynb.
"""

import math
from collections import Counter

from torch import Tensor

__all__ = ["distinct_n_grams", "self_bleu"]

LONGEST = 4  # tokens of the n-grams that BLEU counts
SMALL = 0.1  # instead of no n-gram in common, whose logarithm would be minus infinity


def distinct_n_grams(
    rows: Tensor,  # (N, L)
    mask: Tensor,  # (N, L)
    n: int = 2,
) -> float:
    """Share of the n-grams of all texts together that are different ones: 1 if none comes twice.

    It falls as there is more text, so compare equally many tokens only.

    Args:
        rows: Tokens, shape ``(N, L)``.
        mask: True where a token is part of the text, shape ``(N, L)``; the others don't count.
        n: Tokens of an n-gram.

    Returns:
        A share, more than 0 and at most 1; 0 where no text is that long.

    Raises:
        ValueError: If shapes differ or n is less than 1.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1, 2, 1, 2], [1, 2, 9, 9]])
        >>> distinct_n_grams(rows, rows < 9)  # 12, 21, 12 and 12: two of four
        0.5
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    grams = [gram for text in _texts(rows, mask) for gram in _grams(text, n)]
    return len(set(grams)) / max(len(grams), 1)


def self_bleu(
    rows: Tensor,  # (N, L)
    mask: Tensor,  # (N, L)
) -> float:
    r"""Mean over texts of BLEU with all other texts as references: 1 if all are equal, near 0 if no two share a word.

    .. math::
        \text{BLEU} = \min(1, e^{1 - r / c}) \exp \tfrac14 \sum_{n=1}^4 \log \frac{m_n}{l_n}

    :math:`l_n` counts the text's n-grams; :math:`m_n` those found in some other text, each at most as often as in the
    text that has it most often; 0.1 where there is none. c is the text's length, r the nearest length of another text.
    It rises with the number of texts, so compare equally many only.

    Args:
        rows: Tokens, shape ``(N, L)``, of at least two texts.
        mask: True where a token is part of the text, shape ``(N, L)``.

    Returns:
        From 0 to 1, no unit. A text without tokens counts as 0.

    Raises:
        ValueError: If shapes differ or there are less than two texts.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
        >>> self_bleu(rows, rows > 0)
        1.0
    """
    said = _texts(rows, mask)
    if len(said) < 2:
        raise ValueError(f"self-BLEU compares texts with each other and needs two, got {len(said)}")
    counted = [[Counter(_grams(text, n)) for text in said] for n in range(1, LONGEST + 1)]
    most = [_most(counters) for counters in counted]
    lengths = Counter(map(len, said))
    total = 0.0
    for i, text in enumerate(said):
        if not text:
            continue
        logarithms = [_precision(counters[i], top) for counters, top in zip(counted, most, strict=True)]
        others = lengths - Counter([len(text)])
        nearest = min(others, key=lambda length: (abs(length - len(text)), length))
        total += math.exp(min(0.0, 1 - nearest / len(text)) + sum(logarithms) / LONGEST)
    return total / len(said)


def _texts(rows: Tensor, mask: Tensor) -> list[tuple[int, ...]]:
    if rows.dim() != 2 or rows.shape != mask.shape:
        raise ValueError(f"rows and mask must both be (N, L), got {tuple(rows.shape)} and {tuple(mask.shape)}")
    return [tuple(row[kept].tolist()) for row, kept in zip(rows, mask, strict=True)]


def _grams(text: tuple[int, ...], n: int) -> list[tuple[int, ...]]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _most(counters: list[Counter[tuple[int, ...]]]) -> dict[tuple[int, ...], tuple[int, int]]:
    """How often an n-gram is in the text that has it most often, and in the second: the reference without oneself."""
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for counter in counters:
        for gram, count in counter.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _precision(counter: Counter[tuple[int, ...]], most: dict[tuple[int, ...], tuple[int, int]]) -> float:
    """Logarithm of the share of a text's n-grams that another text has too."""
    matched = 0
    for gram, count in counter.items():
        first, second = most[gram]
        matched += min(count, second if first == count else first)
    return math.log((matched or SMALL) / max(sum(counter.values()), 1))
