"""What the experiments on marked text share: bigram models of film reviews, and what they write.

The smallest language model there is: the next word hangs on the one before. Its logits are a table, learning is
counting, and nothing is left to an optimiser. Words that are not among the commonest are left out of the text.
Lesson: notebooks/16_provenance.ipynb.
"""

import functools
import re
from collections import Counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data import snippets
from kdref.provenance import watermark_logits

VOCABULARY = 500  # the commonest words and marks of punctuation, and the end of a sentence
END = 0
PRIOR = 100.0  # so many words are counted beforehand after every word, as common as they are anywhere
LENGTH = 100  # words in a row that a model writes


class Words(NamedTuple):
    """Sentences one after the other, each followed by END, as numbers ``(N,)``, and the words that they stand for."""

    train: Tensor
    validation: Tensor
    test: Tensor
    names: tuple[str, ...]


@functools.lru_cache(maxsize=1)
def words() -> Words:
    """The film reviews, in numbers."""
    parts = snippets()
    split = [
        [re.findall(r"[a-z']+|[.,!?;:]", text.lower()) for text in part.texts]
        for part in (parts.train, parts.validation, parts.test)
    ]
    common = Counter(word for text in split[0] for word in text).most_common(VOCABULARY - 1)
    names = ("<end>", *(word for word, _ in common))
    number = {word: index for index, word in enumerate(names)}
    rows = [[number[word] for text in part for word in (*text, "<end>") if word in number] for part in split]
    train, validation, test = (torch.tensor([END, *row]) for row in rows)
    return Words(train, validation, test, names)


def pairs(text: Tensor) -> tuple[Tensor, Tensor]:
    """Words and the word before each, of a text ``(N,)`` or of many ``(B, L)``."""
    return text[..., 1:].flatten(), text[..., :-1].flatten()


def count(text: Tensor) -> Tensor:
    """The bigram model of a text: logits of the next word, one row for each word before it, ``(V, V)``."""
    word, before = pairs(text)
    seen = torch.bincount(before * VOCABULARY + word, minlength=VOCABULARY**2).view(VOCABULARY, VOCABULARY).double()
    anywhere = (seen.sum(0) + 1) / (seen.sum() + VOCABULARY)
    return ((seen + PRIOR * anywhere) / (seen.sum(1, keepdim=True) + PRIOR)).log()


def marked(model: Tensor, key: int, strength: float = 2.0) -> Tensor:
    """The same model with the watermark of a key."""
    return watermark_logits(model, torch.arange(VOCABULARY), strength=strength, key=key).log_softmax(-1)


def write(model: Tensor, number: int, *, seed: int) -> Tensor:
    """So many words that the model draws, in rows of LENGTH after an END that is not counted: ``(B, 1 + LENGTH)``."""
    generator, rows = torch.Generator().manual_seed(seed), -(-number // LENGTH)
    chances, text = model.exp().cumsum(-1), [torch.full((rows,), END)]
    for _ in range(LENGTH):
        drawn = torch.rand(rows, 1, dtype=torch.float64, generator=generator)
        text.append(torch.searchsorted(chances[text[-1]], drawn).squeeze(1).clamp(max=VOCABULARY - 1))
    return torch.stack(text, dim=1)


def paraphrased(text: Tensor, model: Tensor, share: float, *, seed: int) -> Tensor:
    """The text with that share of its words drawn anew by another writer, after the word before as it is now."""
    generator, chances = torch.Generator().manual_seed(seed), model.exp().cumsum(-1)
    rows, new = len(text), [text[:, 0]]
    for old in text[:, 1:].T:
        drawn = torch.rand(rows, 1, dtype=torch.float64, generator=generator)
        other = torch.searchsorted(chances[new[-1]], drawn).squeeze(1).clamp(max=VOCABULARY - 1)
        new.append(torch.where(torch.rand(rows, generator=generator) < share, other, old))
    return torch.stack(new, dim=1)


def measured(model: Tensor, text: Tensor) -> dict[str, float]:
    """How often the likeliest next word is right, and the surprise in nats a word, on a text of people."""
    word, before = pairs(text)
    return {
        "accuracy": (model.argmax(-1)[before] == word).double().mean().item(),
        "nll": F.nll_loss(model[before], word).item(),
    }
