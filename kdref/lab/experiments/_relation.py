"""Every loss on relations of lesson 05, made ready for MNIST-1D's students. All look at the pooled features.

Lesson: notebooks/05_relation_based.ipynb.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdref.lab.experiments._inside import BATCH_SIZE, Activations, Build, Built, Shapes, Term, few
from kdref.lab.training.batches import Batches
from kdref.relation import (
    ContrastiveMemory,
    correlation_congruence_loss,
    crd_loss,
    info_nce_loss,
    probabilistic_transfer_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)

NEGATIVES = 256
WIDTH = 32  # of CRD's embeddings, as many as the teacher has features


def relational(shapes: Shapes) -> Built:
    def term(student: Tensor, teacher: Tensor) -> Tensor:
        return rkd_distance_loss(student, teacher) + 2 * rkd_angle_loss(student, teacher)  # the paper's ratio

    return Built(lambda s, t: term(s["pooled"], t["pooled"]))


def similarity(shapes: Shapes) -> Built:
    return Built(lambda s, t: similarity_preserving_loss(s["pooled"], t["pooled"]))


def correlation(shapes: Shapes) -> Built:
    return Built(lambda s, t: correlation_congruence_loss(s["pooled"], t["pooled"]))


def probabilistic(shapes: Shapes) -> Built:
    return Built(lambda s, t: probabilistic_transfer_loss(s["pooled"], t["pooled"]))


def contrastive(shapes: Shapes) -> Built:
    head = nn.Linear(shapes.student["pooled"], shapes.teacher["pooled"])
    return Built(lambda s, t: info_nce_loss(head(s["pooled"]), t["pooled"]), (head,))


def remembered(shapes: Shapes) -> Built:
    labels = few(shapes.seed, shapes.validation).train_y
    student, teacher = shapes.student["pooled"], shapes.teacher["pooled"]
    memory = ContrastiveMemory(student, teacher, num_examples=len(labels), width=WIDTH, labels=labels)
    return Built(remembering(memory, rows(len(labels), shapes.seed), shapes.seed), (memory,))


def remembering(memory: ContrastiveMemory, indices: Iterator[Tensor], seed: int) -> Term:
    """CRD over a walk through the training set."""
    generator = torch.Generator().manual_seed(seed)

    def term(s: Activations, t: Activations) -> Tensor:
        index = next(indices)
        own, theirs = memory(s["pooled"], t["pooled"])
        loss = crd_loss(own, theirs, index, memory.draw(NEGATIVES, generator=generator), memory)
        memory.update(own, theirs, index)
        return loss

    return term


def rows(count: int, seed: int) -> Iterator[Tensor]:
    """Which examples meet, step by step: the first ones for the weight's unit, then the epochs' batches.

    An order depends on nothing but the number of examples, the batch size and the seed, so this walk and that of
    ``taught_inside`` keep in step.
    """
    order = Batches(torch.arange(count), batch_size=BATCH_SIZE, seed=seed)
    epochs = (index for _ in itertools.count() for (index,) in order)
    return itertools.chain([torch.arange(BATCH_SIZE)], epochs)


METHODS: dict[str, Build] = {
    "distances and angles (RKD)": relational,
    "similarity (SP)": similarity,
    "correlation (CC)": correlation,
    "probabilistic (PKT)": probabilistic,
    "contrastive (InfoNCE)": contrastive,
    "contrastive memory (CRD)": remembered,
}
