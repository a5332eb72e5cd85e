"""What the experiments of lesson 11 share: sentences as numbers, one teacher, and one way to train.

The teacher is the whole encoder, fine-tuned on the labels once, with settings fixed beforehand; its outputs are kept
in ``~/.cache/kdref``, so that a run that was killed doesn't cost it again. Students have three layers. Within a seed
they share the first weights that are random, the order of sentences, dropout's generator, optimiser and epochs.
Lesson: notebooks/11_language_models.ipynb.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdref.lab.data import sentences, snippets
from kdref.lab.models import sentence_encoder
from kdref.lab.models.sentence_encoder import (
    LengthBatches,
    Outputs,
    SentenceClassifier,
    encoder,
    outputs,
    prune_vocabulary,
    tokens,
)
from kdref.lab.training.fit import fit
from kdref.language import alternate_layers, distilbert_loss

BATCH_SIZE = 16
EPOCHS = 1
WARM_UP = 0.1  # share of the steps in which the learning rate rises; then it falls to zero, along straight lines
WEIGHT_DECAY = 0.01
TEMPERATURE = 2.0
TEACHER_SEED, TEACHER_LAYERS, TEACHER_LEARNING_RATE = 0, 6, 1e-4
# The authors' README has these weights in one command, and a third each in another
TERMS = {"soft_weight": 5.0, "hard_weight": 2.0, "hidden_weight": 1.0}


class Student(NamedTuple):
    """How a student begins and what it learns from."""

    pretrained: bool = True
    terms: dict[str, float] | None = None  # None: labels only, without a teacher
    layers: int = 3
    epochs: int = EPOCHS


TEACHER = Student(layers=TEACHER_LAYERS, epochs=2)
STUDENTS = {
    "labels only": Student(),
    "triple loss": Student(terms=TERMS),
    "without soft targets": Student(terms=TERMS | {"soft_weight": 0.0}),
    "without labels": Student(terms=TERMS | {"hard_weight": 0.0}),
    "without hidden states": Student(terms=TERMS | {"hidden_weight": 0.0}),
    "random, labels only": Student(pretrained=False),
    "random, triple loss": Student(pretrained=False, terms=TERMS),
}


@functools.lru_cache(maxsize=1)
def numbered() -> dict[str, tuple[Tensor, Tensor]]:
    """Numbers of the word pieces and labels, by part; all parts are padded to one length."""
    known = snippets()
    parts = {"train": known.train, "validation": known.validation, "test": known.test}
    ids = tokens([text for part in parts.values() for text in part.texts]).split([len(p.y) for p in parts.values()])
    return {name: (rows, part.y) for (name, part), rows in zip(parts.items(), ids, strict=True)}


def network(seed: int, *, layers: tuple[int, ...], pretrained: bool = True) -> SentenceClassifier:
    """An untrained classifier. It holds the word pieces in use only: the others have no part in any number here."""
    model = SentenceClassifier(encoder(layers=layers, seed=None if pretrained else seed), num_classes=2, seed=seed)
    prune_vocabulary(model, torch.cat([ids.flatten() for ids, _ in numbered().values()]))
    return model


def train(
    model: SentenceClassifier,
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    *tensors: Tensor,
    seed: int,
    epochs: int,
    learning_rate: float,
) -> float:
    """Train on sentences and what belongs to them; returns the seconds of processor time."""
    batches = LengthBatches(*tensors, batch_size=BATCH_SIZE, seed=seed)
    steps = epochs * len(batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / (WARM_UP * steps), (steps - done) / ((1 - WARM_UP) * steps))
    )
    torch.manual_seed(seed)  # dropout's generator
    start = time.process_time()
    fit(step, model, batches, optimizer, epochs=epochs, after_step=schedule.step, progress=False)
    return time.process_time() - start


def taught(
    seed: int, student: Student, *, learning_rate: float, tensors: tuple[Tensor, ...] | None = None
) -> tuple[SentenceClassifier, float]:
    """A trained student, and the seconds of its training: on sentences, labels and the teacher's outputs, or on all."""
    layers = tuple(alternate_layers(TEACHER_LAYERS, student.layers))
    model = network(seed, layers=layers, pretrained=student.pretrained)
    if tensors is None:
        tensors = numbered()["train"] if student.terms is None else (*numbered()["train"], *teacher()["train"])

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        ids, y, *said = batch
        hidden = model.hidden(ids)
        logits = model.classify(hidden, ids)
        if student.terms is None:
            return {"loss": F.cross_entropy(logits, y)}
        teacher_logits, teacher_hidden = said
        loss = distilbert_loss(
            logits,
            teacher_logits,
            hidden,
            teacher_hidden[:, : ids.shape[1]],
            y,
            mask=ids != 0,
            temperature=TEMPERATURE,
            **student.terms,
        )
        return {"loss": loss}

    seconds = train(model, step, *tensors, seed=seed, epochs=student.epochs, learning_rate=learning_rate)
    return model, seconds


@functools.lru_cache(maxsize=1)
def teacher() -> dict[str, Outputs]:
    """The teacher's outputs by part, with hidden states for training; computed once, then read from the cache."""
    path = _cache_file()
    known = numbered()
    used = known["train"][0] != 0
    if not path.is_file():
        made = _make_teacher()
        tensors = {f"{part}_logits": said.logits for part, said in made.items()}
        tensors["hidden"] = made["train"].hidden[used]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        save_file(tensors, temporary)
        temporary.replace(path)
    read = load_file(path)
    hidden = torch.zeros(*used.shape, read["hidden"].shape[-1], dtype=torch.float16)
    hidden[used] = read["hidden"]
    return {part: Outputs(read[f"{part}_logits"], hidden if part == "train" else hidden[:0]) for part in known}


def _make_teacher() -> dict[str, Outputs]:
    model, _ = taught(TEACHER_SEED, TEACHER, learning_rate=TEACHER_LEARNING_RATE)
    return {part: outputs(model, ids, hidden=part == "train") for part, (ids, _) in numbered().items()}


def _cache_file() -> Path:
    """Named by torch's version and the texts of the files that make the teacher: another recipe, another teacher."""
    texts = [path.read_bytes() for path in (Path(__file__), Path(sentence_encoder.__file__), Path(sentences.__file__))]
    recipe = hashlib.sha256(b"".join([torch.__version__.encode(), *texts])).hexdigest()
    return Path.home() / ".cache" / "kdref" / f"snippets-teacher-{recipe[:16]}.safetensors"
