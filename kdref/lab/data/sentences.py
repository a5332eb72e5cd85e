"""Sentences of film reviews that people rated: is what they say good or bad? Source: data/README.md.

Lesson: notebooks/11_language_models.ipynb.
"""

import bz2
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kdref.lab.data.files import data_file

__all__ = ["KINDS", "NAME", "SIZES", "Part", "Snippets", "snippets"]

NAME = "snippets.tsv.bz2"
SIZES = (6000, 1000, 3072)  # train, validation, test

_NEGATION = re.compile(r"\b(not|no|never|nothing|nobody|none|neither|nor|without|cannot)\b|n't\b", re.IGNORECASE)
_CONTRAST = re.compile(r"\b(but|though|although|yet|however|despite)\b", re.IGNORECASE)
# Kinds of sentences, from a text and its rating; a sentence can be of several kinds
KINDS: dict[str, Callable[[str, float], bool]] = {
    "short": lambda text, _: len(text.split()) <= 10,
    "long": lambda text, _: len(text.split()) > 25,
    "negation": lambda text, _: _NEGATION.search(text) is not None,
    "contrast": lambda text, _: _CONTRAST.search(text) is not None,
    "mild": lambda _, rating: abs(rating) < 1.25,
    "strong": lambda _, rating: abs(rating) > 2.25,
}


class Part(NamedTuple):
    """Sentences, in a fixed order."""

    texts: tuple[str, ...]
    y: Tensor  # (N,) int64: 1 where the mean rating is positive, 0 where it is negative
    rating: Tensor  # (N,) float32: mean of some twenty people's ratings from -4 to 4

    def of(self, kind: str) -> Tensor:
        """Which sentences are of this kind, a key of ``KINDS``: shape ``(N,)``, True or False.

        Raises:
            ValueError: If there is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"no kind of sentences is named {kind!r}: there are {list(KINDS)}")
        pairs = zip(self.texts, self.rating.tolist(), strict=True)
        return torch.tensor([KINDS[kind](text, rating) for text, rating in pairs])


@dataclass(frozen=True, eq=False, repr=False)
class Snippets:
    """The sentences in three parts. ``validation`` is for choosing, ``test`` for reporting, once."""

    train: Part
    validation: Part
    test: Part

    def __repr__(self) -> str:
        """Sizes instead of sentences."""
        sizes = f"{len(self.train.y)} train, {len(self.validation.y)} validation, {len(self.test.y)} test"
        return f"snippets: {sizes} sentences, 2 classes"


def snippets() -> Snippets:
    """10,072 sentences with a mean rating of at least ½ in size, half of them positive.

    The split is fixed, so a fine-tuned network can be stored and compared: sentences are ordered by the SHA-256 of
    their text, which shuffles them and keeps equal sentences together. The tensors are yours: every call makes new
    ones.

    Returns:
        6,000 sentences to learn from, 1,000 to choose by, 3,072 to test on.

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it.

    Example:
        >>> snippets()
        snippets: 6000 train, 1000 validation, 3072 test sentences, 2 classes
    """
    rows, parts = _rows(), []
    for first, size in zip((0, SIZES[0], sum(SIZES[:2])), SIZES, strict=True):
        ratings, texts = zip(*rows[first : first + size], strict=True)
        rating = torch.tensor(ratings)
        parts.append(Part(texts, (rating > 0).long(), rating))
    return Snippets(*parts)


@functools.lru_cache(maxsize=1)
def _rows() -> list[tuple[float, str]]:
    """Rating and text of each sentence in the order of the split; read once."""
    content = data_file(NAME).read_bytes()
    lines = bz2.decompress(content).decode("utf-8").splitlines()
    rows = [(float(rating), text) for rating, text in (line.split("\t") for line in lines)]
    return sorted(rows, key=lambda row: (hashlib.sha256(row[1].encode("utf-8")).digest(), row[0]))
