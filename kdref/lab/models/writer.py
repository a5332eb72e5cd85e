"""A small language model that writes sentences of film reviews: its pieces of text, its sizes, its shipped teacher.

``python -m kdref.lab.models.writer`` trains the teacher anew, in a few minutes. Texts are cut into byte-level pieces
(BPE) that are learnt from the training sentences, so that nothing is unknown and nothing is lower-cased.

Lesson: notebooks/19_writing_models.ipynb.
"""

import argparse
import copy
import functools
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.__main__ import exit_with
from kdref.lab.data.files import FILES, data_file, data_folder, write_whole
from kdref.lab.data.sentences import Part, snippets
from kdref.lab.models.causal_transformer import CausalTransformer, up_to_end
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "END",
    "LENGTH",
    "NAME",
    "STUDENT",
    "TEACHER",
    "VOCABULARY",
    "build",
    "load",
    "main",
    "mask",
    "network",
    "nll",
    "rows",
    "teacher",
    "texts",
    "tokeniser",
    "train",
]

NAME = "snippets-writer.safetensors"
INSTALL = 'pip install "kdref[language]"'
VOCABULARY = 512  # the end, 256 bytes, 255 pieces of several bytes
END = 0  # begins a row, ends it and pads it
LENGTH = 32  # tokens of a row, the first of which is given
TEACHER = {"width": 96, "layers": 3, "heads": 4}
STUDENT = {"width": 48, "layers": 2, "heads": 2}  # a quarter of the parameters; heads of the teacher's size
BATCH_SIZE, WEIGHT_DECAY = 32, 0.1
EPOCHS, RATE = 8, 8e-3  # the rate rises during the first epoch and falls to zero along a cosine


@functools.cache
def tokeniser(vocabulary: int = VOCABULARY) -> "Tokenizer":
    """Byte-level BPE learnt from the training sentences: every text can be written, and read again as it was.

    Number 0 is kept for the end, which is no piece of any text.

    Args:
        vocabulary: Number of tokens, at least 257: the end, the bytes, and pieces of several bytes.

    Returns:
        The tokeniser, one for all who ask for this number.

    Raises:
        ImportError: If the package tokenizers is missing.
        ValueError: If there are fewer tokens than that.

    Example:
        >>> pieces = tokeniser().encode("The film is good.")
        >>> tokeniser().decode(pieces.ids)
        'The film is good.'
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ModuleNotFoundError as error:
        raise ImportError(f"lesson 19 needs the package tokenizers. Install it with: {INSTALL}") from error

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary <= len(alphabet):
        raise ValueError(f"vocabulary must be more than the {len(alphabet)} bytes, got {vocabulary}")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    learner.train_from_iterator(
        snippets().train.texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    learnt = json.loads(learner.to_str()) | {"added_tokens": []}  # a text that says "<end>" is text
    return Tokenizer.from_str(json.dumps(learnt))


@functools.cache
def rows(part: str, *, vocabulary: int = VOCABULARY) -> Tensor:
    """Sentences as numbers: the end token, the pieces, the end token again, which also pads; longer ones are cut.

    Args:
        part: "train", "validation" or "test".
        vocabulary: Of the tokeniser.

    Returns:
        Shape ``(N, LENGTH)``, int64. The same tensor for all who ask: don't write into it.

    Raises:
        ValueError: If there is no such part.

    Example:
        >>> rows("validation").shape, rows("validation")[:2, 0].tolist()
        (torch.Size([1000, 32]), [0, 0])
    """
    if part not in ("train", "validation", "test"):
        raise ValueError(f"part must be 'train', 'validation' or 'test', got {part!r}")
    sentences: Part = getattr(snippets(), part)
    found = torch.full((len(sentences.texts), LENGTH), END)
    for row, said in zip(found, tokeniser(vocabulary).encode_batch(list(sentences.texts)), strict=True):
        pieces = torch.tensor(said.ids[: LENGTH - 1])
        row[1 : 1 + len(pieces)] = pieces
    return found


def mask(rows: Tensor) -> Tensor:
    """True at every token to be learned: all after the first, up to and with the end.

    Args:
        rows: Shape ``(N, L)``, each begun with the end token.

    Returns:
        Shape ``(N, L)``, bool, False in the first column.

    Example:
        >>> mask(torch.tensor([[0, 5, 6, 0, 0], [0, 5, 6, 7, 8]])).long()
        tensor([[0, 1, 1, 1, 0],
                [0, 1, 1, 1, 1]])
    """
    return F.pad(up_to_end(rows[:, 1:], end=END), (1, 0))


def texts(rows: Tensor, *, vocabulary: int = VOCABULARY) -> list[str]:
    """Rows as text; bytes that are no whole letter, as a cut may leave them, become a question mark in a diamond."""
    counts = (mask(rows) & (rows != END)).sum(dim=1).tolist()
    pieces = [row[1 : 1 + count] for row, count in zip(rows.tolist(), counts, strict=True)]
    return list(tokeniser(vocabulary).decode_batch(pieces))


def network(size: dict[str, int], *, seed: int, vocabulary: int = VOCABULARY) -> CausalTransformer:
    """A model with new weights, ``TEACHER`` or ``STUDENT`` or another size."""
    return CausalTransformer(vocabulary, length=LENGTH, seed=seed, **size)


@torch.no_grad()
def nll(model: CausalTransformer, rows: Tensor, *, batch_size: int = 256) -> float:
    """Nats per token: minus the mean log-probability of the tokens to be learned. Its exponential is the perplexity."""
    total = 0.0
    for batch in rows.split(batch_size):
        total += _cross_entropy(model, batch, reduction="sum").item()
    return total / int(mask(rows).sum())


def train(*, seed: int = 0, epochs: int = EPOCHS) -> tuple[CausalTransformer, list[dict[str, float]]]:
    """Train the teacher on the training sentences and keep the epoch that is best on validation sentences.

    Args:
        seed: Draws weights and order; 0 gave the shipped one.
        epochs: Of the schedule.

    Returns:
        The model in eval mode, and a row an epoch: its training loss and its ``validation`` nats per token.
    """
    model, learned = network(TEACHER, seed=seed), rows("train")
    batches = Batches(learned, batch_size=BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY, fused=True)
    first, last = len(batches), epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / first, 0.5 + 0.5 * math.cos(math.pi * done / last))
    )
    best: dict[str, Tensor] = {}
    lowest = math.inf

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": _cross_entropy(model, batch[0])}

    def keep_the_best(epoch: int) -> dict[str, float]:
        nonlocal best, lowest
        found = nll(model, rows("validation"))
        if found < lowest:
            best, lowest = copy.deepcopy(model.state_dict()), found
        return {"validation": found}

    history = fit(
        step,
        model,
        batches,
        optimizer,
        epochs=epochs,
        after_step=schedule.step,
        after_epoch=keep_the_best,
        clip_norm=1.0,
    )
    model.load_state_dict(best)
    return model.eval(), history


@functools.cache
def teacher() -> CausalTransformer:
    """The shipped teacher, in eval mode: one for all who ask, so don't change it."""
    return load(data_file(NAME))


def load(path: Path) -> CausalTransformer:
    """A teacher from a file, in eval mode.

    Raises:
        ValueError: If the file holds no weights of a teacher, or one that is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = network(TEACHER, seed=0)
    try:
        model.load_state_dict({name: weights.float() for name, weights in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no weights of the teacher: {' '.join(str(error).split())}") from error
    bad = [name for name, weights in model.state_dict().items() if not weights.isfinite().all()]
    if bad:
        raise ValueError(f"{path} holds weights that are not finite, in {', '.join(bad)}: train it anew")
    return model.eval()


def build(folder: Path) -> Path:
    """Train the teacher and write it in half precision, atomically.

    Returns:
        The path of the file: ``snippets-writer.safetensors`` if it is the shipped one bit by bit, else
        ``snippets-writer.anew.safetensors``, for processors round differently.
    """
    from safetensors.torch import save

    model, _ = train()
    content = save({name: weights.half() for name, weights in model.state_dict().items()})
    shipped = hashlib.sha256(content).hexdigest() == FILES[NAME].sha256
    return write_whole(folder / (NAME if shipped else NAME.replace(".", ".anew.")), content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the teacher anew and say how good it is beside the shipped one."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.models.writer", description=main.__doc__)
    parser.add_argument("--to", type=Path, default=None, metavar="FOLDER", help="instead of the folder kdref reads")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.process_time()
    path = build(options.to or data_folder())
    sys.stdout.write(f"{path}  {hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    sys.stdout.write(f"{time.process_time() - began:.0f} seconds of processor time\n")
    if path.name != NAME:
        sys.stdout.write("Not bit by bit the shipped one. To use it: writer.load(path)\n")
    made = load(path)
    for part in ("validation", "test"):
        sys.stdout.write(f"{part}: {nll(made, rows(part)):.4f} nats per token\n")


def _cross_entropy(model: CausalTransformer, batch: Tensor, reduction: str = "mean") -> Tensor:
    counts = mask(batch)[:, 1:]
    return F.cross_entropy(model(batch[:, :-1])[counts], batch[:, 1:][counts], reduction=reduction)


if __name__ == "__main__":
    exit_with(main)
