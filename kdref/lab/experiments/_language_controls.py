"""What the controls of lesson 11 share: few and short sentences, a teacher for every seed, and three epochs.

A seed draws which of the short sentences are learned from and which ones choose; test sentences are the same for all.
Teacher and students are those of ``language_distilbert``, but that the encoder holds the word pieces of short sentences
only, which changes no number that it says. Lesson: notebooks/11_language_models.ipynb.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data.sentences import snippets
from kdref.lab.experiments import _language
from kdref.lab.experiments._language import STUDENTS, TEACHER, TEACHER_LEARNING_RATE, TEMPERATURE, numbered
from kdref.lab.models.sentence_encoder import PADDING, SentenceClassifier, outputs, prune_vocabulary
from kdref.lab.training.measure import measure
from kdref.language import alternate_layers, distilbert_loss

SENTENCES, STOPPING = 320, 160  # to learn from; and of the others, those that say when to stop
EPOCHS = 3
LABELS, SMOOTHED, TRIPLE = "labels only", "label smoothing", "triple loss"
TERMS = {  # None: labels, without a teacher
    LABELS: None,
    SMOOTHED: None,
    **{name: STUDENTS[name].terms for name in (TRIPLE, "without soft targets", "without hidden states")},
}
Numbers = dict[str, float]


class Part(NamedTuple):
    """Sentences as numbers of word pieces, and their labels."""

    ids: Tensor
    y: Tensor


class Sentences(NamedTuple):
    """The parts of a seed."""

    train: Part
    validation: Part
    test: Part


@functools.lru_cache(maxsize=1)
def sentences(seed: int) -> Sentences:
    """Short sentences: some of the training and validation ones to learn from, the others to choose by."""
    known, all_of_them = snippets(), numbered()
    short = {}
    for part, (ids, y) in all_of_them.items():
        rows = getattr(known, part).of("short")
        short[part] = Part(ids[rows], y[rows])
    length = max(int((ids != PADDING).sum(dim=1).max()) for ids, _ in short.values())
    pool = Part(*(torch.cat(pair) for pair in zip(short["train"], short["validation"], strict=True)))
    order = torch.randperm(len(pool.y), generator=torch.Generator().manual_seed(seed))
    learned, others = order[:SENTENCES], order[SENTENCES:]
    train, validation = (Part(pool.ids[rows, :length], pool.y[rows]) for rows in (learned, others))
    return Sentences(train, validation, Part(short["test"].ids[:, :length], short["test"].y))


@functools.lru_cache(maxsize=1)
def teacher(seed: int) -> SentenceClassifier:
    """All layers, fine-tuned on the labels of the sentences that its students will have."""
    train = tuple(sentences(seed).train)
    return _language.taught(seed, TEACHER, learning_rate=TEACHER_LEARNING_RATE, tensors=train)[0]


@functools.lru_cache(maxsize=1)
def said(seed: int) -> tuple[Tensor, Tensor]:
    """The teacher's logits and hidden states."""
    logits, hidden = outputs(teacher(seed), sentences(seed).train.ids, hidden=True)
    return logits, hidden


def found(model: SentenceClassifier, part: Part) -> Numbers:
    """Accuracy, negative log-likelihood and calibration error."""
    result = measure(nn.Identity(), outputs(model, part.ids).logits, part.y)
    return {name: result[name] for name in ("accuracy", "nll", "calibration_error")}


def trained(
    seed: int,
    name: str,
    learning_rate: float,
    smoothing: float,
    after_epoch: Callable[[SentenceClassifier], None] | None = None,
) -> SentenceClassifier:
    """A student; ``after_epoch`` is called with it three times."""
    data, terms = sentences(seed), TERMS[name]
    model = _language.network(seed, layers=tuple(alternate_layers(_language.TEACHER_LAYERS, STUDENTS[LABELS].layers)))
    prune_vocabulary(model, torch.cat([part.ids.flatten() for part in data]))
    per_epoch, steps = -(-len(data.train.y) // _language.BATCH_SIZE), 0

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        nonlocal steps
        if after_epoch is not None and steps and steps % per_epoch == 0:
            after_epoch(model)
        steps += 1
        ids, y, *heard = batch
        hidden = model.hidden(ids)
        logits = model.classify(hidden, ids)
        if terms is None:
            return {"loss": F.cross_entropy(logits, y, label_smoothing=smoothing)}
        teacher_logits, states = heard
        loss = distilbert_loss(
            logits,
            teacher_logits,
            hidden,
            states[:, : ids.shape[1]],
            y,
            mask=ids != PADDING,
            temperature=TEMPERATURE,
            **terms,
        )
        return {"loss": loss}

    heard = () if terms is None else said(seed)
    _language.train(model, step, *data.train, *heard, seed=seed, epochs=EPOCHS, learning_rate=learning_rate)
    if after_epoch is not None:
        after_epoch(model)
    return model
