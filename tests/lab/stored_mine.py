"""A teacher and data that the tests of store_teacher name on its command line, as a user's own."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tests import checks

EXAMPLES, CLASSES, WORDS, LENGTH = 50, 3, 11, 6
X = checks.randn(EXAMPLES, 4, seed=1, dtype=torch.float32)
TEXTS = torch.randint(WORDS, (EXAMPLES, LENGTH), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.arange(EXAMPLES) % LENGTH + 1  # one token to six


def teacher(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, CLASSES))


class Images(Dataset[tuple[Tensor, int]]):
    """Labelled examples. While the file DIE_AT names holds a number, the process that reads that example is killed."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = os.environ.get("DIE_AT", "")
        if path and Path(path).exists() and int(Path(path).read_text()) == index and is_late():
            os.kill(os.getpid(), signal.SIGKILL)
        return X[index], index % CLASSES


def is_late() -> bool:
    """Whether the data have been hashed: each example was read once then."""
    global READ
    READ += 1
    return READ > 1


READ = 0


def data() -> Images:
    return Images()


class LanguageModel(nn.Module):
    """Says the next word from this one, and wants its padding masked as a real one does."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.table = nn.Embedding(WORDS, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"logits": 3 * self.table(input_ids.masked_fill(~attention_mask, 0))}


class Texts(Dataset[dict[str, Tensor]]):
    """Texts filled up on the left or on the right."""

    def __init__(self, side: str = "right") -> None:
        self.side = side

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        real = torch.arange(LENGTH) < LENGTHS[index]
        ids = TEXTS[index].masked_fill(~real, 0)
        both = {"input_ids": ids, "attention_mask": real}
        if self.side == "left":
            both = {name: value.roll(LENGTH - int(LENGTHS[index])) for name, value in both.items()}
        return both | {"labels": ids}


def language_model() -> nn.Module:
    return LanguageModel()


def texts() -> Texts:
    return Texts()


def real_tokens(batch: dict[str, Tensor]) -> Tensor:
    return batch["attention_mask"]


def tokenizer() -> str:
    return "words by number"
