"""What the experiments on two tokenisers share: the shipped teacher, and students with pieces of text of their own.

A student has 800 sentences and a byte-level BPE learnt from these; the teacher's is learnt from all 6000. Every text is
cut after the last word that both sides can read, so that each side sees the same bytes, and every student reads as
many texts. Measured are bits per byte, which do not depend on the pieces.
Lesson: notebooks/19_writing_models.ipynb.
"""

import functools
import json
import math
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data.sentences import snippets
from kdref.lab.experiments._writing import BATCH_SIZE, Loss, says, train
from kdref.lab.models import writer
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.lab.models.decoding import write
from kdref.language import align_spans, likelihood_matching_loss, span_log_probs, token_loss, universal_logit_loss

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY, LENGTH = 640, 32  # of the students: more and longer pieces than the teacher's
STEPS = 300
SENTENCES, JUDGED = 800, 1024
TEXT_SEED = 78  # draws the teacher's text, the same for all students
LABELS, THEIR_TEXT = "labels", "the teacher's text"
SORTED, MATCHING = "sorted probabilities", "likelihood matching"  # beside labels, with a weight
SAME_LABELS, SAME_FORWARD = "labels, the teacher's pieces", "forward, the teacher's pieces"
WAYS = (LABELS, SORTED, MATCHING, THEIR_TEXT, SAME_LABELS, SAME_FORWARD)
WEIGHTED = (SORTED, MATCHING)


class Texts(NamedTuple):
    """Rows of one tokeniser's numbers, and at which byte each token after the first ends: -1 for what is not there."""

    rows: Tensor  # (N, L)
    ends: Tensor  # (N, L - 1)


@functools.cache
def tokeniser() -> "Tokenizer":
    """The students' own byte-level BPE, learnt from their sentences."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer.from_str(writer.tokeniser().to_str())
    learner.model = models.BPE()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(snippets().train.texts[:SENTENCES], trainer)
    return Tokenizer.from_str(json.dumps(json.loads(learner.to_str()) | {"added_tokens": []}))


def both_sides(texts: Sequence[str], whole: Sequence[bool]) -> tuple[Texts, Texts]:
    """Texts as the student's and the teacher's rows, of the same bytes; the end is a token where a text is whole.

    A token is counted in the texts' bytes, and the end as one byte after the last.
    """
    sides = []
    for cutter, length in ((tokeniser(), LENGTH), (writer.tokeniser(), writer.LENGTH)):
        encoded = cutter.encode_batch(list(texts))
        ends = [list(accumulate(len(piece) for piece in said.tokens)) for said in encoded]  # a sign stands for a byte
        sides.append((length, [said.ids for said in encoded], ends))
    limits = []
    for i, (text, is_whole) in enumerate(zip(texts, whole, strict=True)):
        content = text.encode()
        fits = is_whole and all(len(ids[i]) + 2 <= length for length, ids, _ in sides)
        readable = min([len(content), *(ends[i][length - 2] for length, _, ends in sides if len(ends[i]) >= length)])
        limits.append(len(content) + 1 if fits else max(content.rfind(b" ", 0, readable), 0))
    student, teacher = (_rows(length, ids, ends, limits) for length, ids, ends in sides)
    return student, teacher


def _rows(length: int, ids: list[list[int]], ends: list[list[int]], limits: list[int]) -> Texts:
    rows, places = torch.full((len(ids), length), writer.END), torch.full((len(ids), length - 1), -1)
    for i, limit in enumerate(limits):
        last = ends[i][-1] if ends[i] else 0
        kept = [*ends[i], last + 1] if limit > last else [end for end in ends[i] if end <= limit]
        places[i, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
        numbers = [*ids[i], writer.END][: len(kept)]
        rows[i, 1 : 1 + len(kept)] = torch.tensor(numbers, dtype=torch.int64)
    return Texts(rows, places)


@functools.cache
def part(name: str) -> tuple[Texts, Texts]:
    """Sentences of "train", the students' own, "validation" or "test"."""
    found = getattr(snippets(), name).texts[: SENTENCES if name == "train" else JUDGED]
    return both_sides(found, [True] * len(found))


@functools.cache
def teachers_text() -> tuple[Texts, Texts]:
    """As many texts as a student reads, drawn from the teacher; what is no text, half a letter, is left out."""
    drawn = write(writer.teacher(), STEPS * BATCH_SIZE * 9 // 8, seed=TEXT_SEED)
    whole = (drawn[:, 1:] == writer.END).any(dim=1).tolist()
    found = [(text, end) for text, end in zip(writer.texts(drawn), whole, strict=True) if "\ufffd" not in text]
    return both_sides(*zip(*found[: STEPS * BATCH_SIZE], strict=True))


def token_log_probs(logits: Tensor, rows: Tensor) -> Tensor:
    """Of the tokens after the first."""
    return logits.log_softmax(dim=-1).gather(-1, rows[:, 1:, None]).squeeze(-1)


class Spans(NamedTuple):
    """The training sentences cut where both sides end a token, and what the teacher says there."""

    of_student: Tensor  # (N, L - 1)
    mask: Tensor  # (N, S)
    log_probs: Tensor  # (N, S), of a whole span
    first: Tensor  # (N, S), the student's token that begins a span
    logits: Tensor  # (N, S, V), of the teacher's token that begins it


@functools.cache
def spans() -> Spans:
    """Made once in a process."""
    student, teacher = part("train")
    of_student, of_teacher, mask = align_spans(student.ends, teacher.ends)
    logits = says(writer.teacher(), teacher.rows)
    log_probs = span_log_probs(token_log_probs(logits, teacher.rows), of_teacher, mask.shape[-1])
    first, begun = (_first(spans, mask.shape[-1]) for spans in (of_student, of_teacher))
    there = logits.gather(1, begun[..., None].expand(-1, -1, logits.shape[-1]))
    return Spans(of_student, mask, log_probs, first, there)


def _first(span_of_token: Tensor, num_spans: int) -> Tensor:
    """The first token of each span; 0 for one that is not there."""
    return torch.searchsorted(
        torch.where(span_of_token < 0, num_spans, span_of_token),
        torch.arange(num_spans).expand(len(span_of_token), -1).contiguous(),
    ).clamp(max=span_of_token.shape[-1] - 1)


def cross_entropy(texts: Texts) -> Loss:
    """With the tokens that came."""

    def loss(logits: Tensor, numbers: Tensor, read: Tensor) -> Tensor:
        counts = texts.ends[numbers] >= 0
        return F.cross_entropy(logits[counts], read[:, 1:][counts])

    return loss


def sorted_probabilities(logits: Tensor, numbers: Tensor, _: Tensor) -> Tensor:
    """ULD at the places where both sides have read the same bytes: before the first token of each span."""
    kept, counts = spans(), spans().mask[numbers]
    there = logits.gather(1, kept.first[numbers][..., None].expand(-1, -1, logits.shape[-1]))
    return universal_logit_loss(there[counts], kept.logits[numbers][counts])


def matching(logits: Tensor, numbers: Tensor, read: Tensor) -> Tensor:
    """ALM, at the authors' temperature."""
    kept = spans()
    said = span_log_probs(token_log_probs(logits, read), kept.of_student[numbers], kept.mask.shape[-1])
    return likelihood_matching_loss(said, kept.log_probs[numbers], mask=kept.mask[numbers])


@functools.cache
def said() -> Tensor:
    """The teacher's logits of the students' sentences in its own pieces."""
    return says(writer.teacher(), part("train")[1].rows)


def forward(logits: Tensor, numbers: Tensor, _: Tensor) -> Tensor:
    """Forward KL from the teacher's words, which needs the same words."""
    return token_loss(logits, said()[numbers], kind="forward", mask=part("train")[1].ends[numbers] >= 0)


def student(seed: int, way: str, *, rate: float, weight: float = 0.0) -> tuple[CausalTransformer, dict[str, float]]:
    """A student that has learned in one of ``WAYS``, the bits per byte of what it learned from, and its seconds."""
    theirs = way in (SAME_LABELS, SAME_FORWARD)
    texts = (teachers_text() if way == THEIR_TEXT else part("train"))[int(theirs)]
    labels, second = cross_entropy(texts), {SORTED: sorted_probabilities, MATCHING: matching}.get(way)
    vocabulary, length = (writer.VOCABULARY, writer.LENGTH) if theirs else (VOCABULARY, LENGTH)
    model = CausalTransformer(vocabulary, length=length, seed=seed, **writer.STUDENT)
    _ = (spans() if second else None, said() if way == SAME_FORWARD else None)  # before the clock

    def loss(logits: Tensor, numbers: Tensor, read: Tensor) -> Tensor:
        if way == SAME_FORWARD:
            return forward(logits, numbers, read)
        known = labels(logits, numbers, read)
        return known if second is None else known + weight * second(logits, numbers, read)

    began = time.process_time()
    train(model, texts.rows, loss, seed=seed, rate=rate, steps=STEPS)
    seconds = time.process_time() - began
    bytes_read = texts.ends.amax(dim=1).float().mean().item() * BATCH_SIZE
    return model, {"seconds": seconds, "bytes": bytes_read, "learned": bits_per_byte(model, texts)}


@torch.no_grad()
def bits_per_byte(model: CausalTransformer, texts: Texts) -> float:
    """What a model needs for texts, by the pieces that its tokeniser makes of them: at most what the bytes cost it."""
    lost = 0.0
    for rows, ends in zip(texts.rows.split(256), texts.ends.split(256), strict=True):
        lost -= token_log_probs(says(model, rows), rows)[ends >= 0].sum().item()
    return lost / math.log(2) / texts.ends.amax(dim=1).clamp(min=0).sum().item()


def validated(model: CausalTransformer, *, name: str = "validation") -> float:
    """Bits per byte of validation or test sentences."""
    student, teacher = part(name)
    return bits_per_byte(model, teacher if model.scores.out_features == writer.VOCABULARY else student)
