"""Teachers kept in a few numbers per token: how each is packed, read again and learned from.

Lesson: notebooks/19_writing_models.ipynb.
"""

import functools
import time

import torch
from torch import Tensor

from kdref.lab.experiments._writing import STEPS, TOGETHER, Loss, said, train
from kdref.lab.models import writer
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.language import (
    pack_sparse,
    sampled_teacher,
    sampled_teacher_loss,
    sparse_teacher,
    sparse_teacher_loss,
    unpack_sparse,
)

KEPT = 8  # words of the teacher's 512 per token, or words drawn
WHOLE, ADDED_UP, TAIL, SAMPLED = "whole", "top k, made to add up", "top k with its tail", "sampled"
SPARSE = (ADDED_UP, TAIL, SAMPLED)

Packed = tuple[Tensor, ...]


@functools.lru_cache(maxsize=1)
def packed(keeping: str, seed: int) -> Packed:
    """What is stored of the teacher for every training token, in the bytes that it takes on disk."""
    if keeping == WHOLE:
        return (said(),)
    generator = torch.Generator().manual_seed(seed)
    parts: list[Packed] = []
    for logits in said().split(TOGETHER):
        if keeping == SAMPLED:
            parts.append(pack_sparse(*sampled_teacher(logits, k=KEPT, generator=generator)))
        else:
            indices, log_probs, tail = sparse_teacher(logits, k=KEPT)
            entries = pack_sparse(indices, log_probs)
            parts.append(entries if keeping == ADDED_UP else (*entries, tail.half()))
    return tuple(map(torch.cat, zip(*parts, strict=True)))


def bytes_per_token(keeping: str, seed: int) -> float:
    """What is stored of the teacher for one token."""
    things = packed(keeping, seed)
    return sum(thing.nbytes for thing in things) / things[0][..., 0].numel()


def loss_from(keeping: str, seed: int) -> Loss:
    """The loss of a student that has what is stored, and no teacher."""
    stored = packed(keeping, seed)

    def loss(logits: Tensor, numbers: Tensor, read: Tensor) -> Tensor:
        counts = writer.mask(read)[:, 1:]
        indices, values = unpack_sparse(stored[0][numbers], stored[1][numbers])
        if keeping == SAMPLED:
            return sampled_teacher_loss(logits, indices, values, mask=counts)
        if keeping == TAIL:
            tail = stored[2][numbers].float()
            return sparse_teacher_loss(logits, indices, values, tail, tail="bucket", mask=counts)
        nothing = torch.full(values.shape[:-1], -torch.inf)
        return sparse_teacher_loss(logits, indices, values, nothing, tail="renormalize", mask=counts)

    return loss


def student(seed: int, keeping: str, *, rate: float, steps: int = STEPS) -> tuple[CausalTransformer, float]:
    """A student of a stored teacher, and the seconds of its training."""
    model, loss = writer.network(writer.STUDENT, seed=seed), loss_from(keeping, seed)
    began = time.process_time()
    train(model, writer.rows("train"), loss, seed=seed, rate=rate, steps=steps)
    return model, time.process_time() - began
