"""What the experiments of lesson 19 share: one teacher that writes film reviews, its students, and their measures.

The teacher is shipped. A student has a quarter of its parameters and reads as many rows of text as every other
student. Within a seed all have the same first weights and the same order of rows. A divergence stands alone: its
student never looks which piece of text came next, except as the next piece's past.
Lesson: notebooks/19_writing_models.ipynb.
"""

import functools
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.models import writer
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.lab.models.decoding import write
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.diversity import distinct_n_grams, self_bleu
from kdref.lab.training.fit import fit
from kdref.language import token_loss

BATCH_SIZE = 16
STEPS = 500
WARM_UP, WEIGHT_DECAY, CLIP = 50, 0.01, 1.0
MIX = {"jensen_shannon": 0.5, "skew_forward": 0.1, "skew_reverse": 0.1}
DIVERGENCES = ("forward", "reverse", "jensen_shannon", "skew_forward", "skew_reverse", "total_variation")
THEIR_TEXT = "the teacher's text"
WAYS = ("labels", *DIVERGENCES, THEIR_TEXT)
DRAWN = 512  # texts that a student writes to be measured
JUDGED = 512  # texts of the teacher's to be measured on, and training sentences
TEXT_SEED = 77  # draws these texts of the teacher's, the same for all
TOGETHER = 64  # rows that are judged at once, quicker than more

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of the student's logits, the rows' numbers and the rows


def train(
    model: CausalTransformer, rows: Tensor, loss: Loss, *, seed: int, rate: float, steps: int = STEPS
) -> CausalTransformer:
    """Train on rows of text in an order of the seed's, with a rate that rises for some steps and falls along a cosine.

    The loss gets the student's logits of the tokens after the first, which of the rows these are, and the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = steps * BATCH_SIZE
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(-(-wanted // len(rows)))])[:wanted]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY, fused=True)

    def share(done: int) -> float:
        return min((done + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * max(done - WARM_UP, 0) / (steps - WARM_UP)))

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (numbers,) = batch
        read = rows[numbers]
        return {"loss": loss(model(read[:, :-1]), numbers, read)}

    after = torch.optim.lr_scheduler.LambdaLR(optimizer, share).step
    batches = Batches(order, batch_size=BATCH_SIZE)
    fit(step, model, batches, optimizer, epochs=1, after_step=after, clip_norm=CLIP, progress=False)
    return model.eval()


def labels(logits: Tensor, _: Tensor, read: Tensor) -> Tensor:
    """Cross-entropy with the tokens that came."""
    counts = writer.mask(read)[:, 1:]
    return F.cross_entropy(logits[counts], read[:, 1:][counts])


def divergence(kind: str) -> Loss:
    """A divergence from what the teacher says at each place of the training sentences."""

    def loss(logits: Tensor, numbers: Tensor, read: Tensor) -> Tensor:
        judged = said()[numbers].float()
        return token_loss(logits, judged, kind=kind, mask=writer.mask(read)[:, 1:], mix=MIX.get(kind))

    return loss


@functools.cache
def said() -> Tensor:
    """The teacher's logits of every training sentence, in half precision, computed once in a process."""
    return torch.cat([says(writer.teacher(), part).half() for part in writer.rows("train").split(TOGETHER)])


def says(model: CausalTransformer, rows: Tensor) -> Tensor:
    """Logits of the tokens after the first, without gradient."""
    return teacher_outputs(model, rows[:, :-1], batch_size=TOGETHER)


def student(seed: int, way: str, *, rate: float, steps: int = STEPS) -> tuple[CausalTransformer, float]:
    """A student that has learned in one of ``WAYS``, and the seconds of its training without the teacher's part."""
    rows, loss = writer.rows("train"), divergence(way) if way in DIVERGENCES else labels
    if way == THEIR_TEXT:
        rows = write(writer.teacher(), len(rows), seed=seed)
    elif way in DIVERGENCES:
        said()
    model = writer.network(writer.STUDENT, seed=seed)
    began = time.process_time()
    train(model, rows, loss, seed=seed, rate=rate, steps=steps)
    return model, time.process_time() - began


@functools.cache
def _teachers_text() -> tuple[Tensor, Tensor]:
    """Texts that the teacher has drawn, and its logits of them."""
    drawn = write(writer.teacher(), JUDGED, seed=TEXT_SEED)
    return drawn, says(writer.teacher(), drawn)


def validated(model: CausalTransformer) -> dict[str, float]:
    """Nats per token of validation sentences, and how often the likeliest token is the one that comes."""
    return _guessed(model, writer.rows("validation"))


def measured(model: CausalTransformer, seed: int) -> dict[str, float]:
    """How well a model foresees test sentences, how like the teacher it is, and what it writes.

    ``nll``, ``train_nll`` and ``quality`` are nats per token: of test sentences, of training sentences, and what the
    teacher needs for the model's own text. ``forward`` is KL(P||Q) on the teacher's text, ``reverse`` KL(Q||P) on the
    model's own, both per token. ``distinct`` is the share of different pairs of tokens in 512 texts.
    """
    theirs, judged = _teachers_text()
    own = write(model, DRAWN, seed=seed)
    counts, pieces = writer.mask(own)[:, 1:], own != writer.END
    q, p = says(model, own), says(writer.teacher(), own)
    return {
        **_guessed(model, writer.rows("test")),
        "train_nll": writer.nll(model, writer.rows("train")[:JUDGED]),
        "forward": token_loss(says(model, theirs), judged, kind="forward", mask=writer.mask(theirs)[:, 1:]).item(),
        "reverse": token_loss(q, p, kind="reverse", mask=counts).item(),
        "quality": F.cross_entropy(p[counts], own[:, 1:][counts]).item(),
        "distinct": distinct_n_grams(own, pieces, 2),
        "self_bleu": self_bleu(own, pieces),
        "written": counts.sum().item() / DRAWN,
    }


def _guessed(model: CausalTransformer, rows: Tensor) -> dict[str, float]:
    right = lost = 0.0
    for batch in rows.split(TOGETHER):
        logits, counts = says(model, batch), writer.mask(batch)[:, 1:]
        logits, came = logits[counts], batch[:, 1:][counts]
        lost += F.cross_entropy(logits, came, reduction="sum").item()
        right += (logits.argmax(dim=-1) == came).sum().item()
    number = writer.mask(rows).sum().item()
    return {"nll": lost / number, "accuracy": right / number}
