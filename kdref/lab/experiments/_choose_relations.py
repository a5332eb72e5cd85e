"""Every loss on relations of lesson 05, made ready for the students of ``_choose``. All look at the pooled features.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import torch
from torch import Tensor, nn

from kdref.lab.experiments._choose import Activations, Build, Built, Meeting
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


def relational(meeting: Meeting) -> Built:
    def term(student: Tensor, teacher: Tensor) -> Tensor:
        return rkd_distance_loss(student, teacher) + 2 * rkd_angle_loss(student, teacher)  # the paper's ratio

    return Built(lambda s, t: term(s["pooled"], t["pooled"]))


def similarity(meeting: Meeting) -> Built:
    return Built(lambda s, t: similarity_preserving_loss(s["pooled"], t["pooled"]))


def correlation(meeting: Meeting) -> Built:
    return Built(lambda s, t: correlation_congruence_loss(s["pooled"], t["pooled"]))


def probabilistic(meeting: Meeting) -> Built:
    return Built(lambda s, t: probabilistic_transfer_loss(s["pooled"], t["pooled"]))


def contrastive(meeting: Meeting) -> Built:
    head = nn.Linear(meeting.student["pooled"], meeting.teacher["pooled"])
    return Built(lambda s, t: info_nce_loss(head(s["pooled"]), t["pooled"]), (head,))


def remembered(meeting: Meeting) -> Built:
    labels, generator = meeting.known.split.train_y, torch.Generator().manual_seed(meeting.seed)
    student, teacher = meeting.student["pooled"], meeting.teacher["pooled"]
    memory = ContrastiveMemory(student, teacher, num_examples=len(labels), width=WIDTH, labels=labels)

    def term(s: Activations, t: Activations) -> Tensor:
        own, theirs = memory(s["pooled"], t["pooled"])
        loss = crd_loss(own, theirs, t["number"], memory.draw(NEGATIVES, generator=generator), memory)
        memory.update(own, theirs, t["number"])
        return loss

    return Built(term, (memory,))


METHODS: dict[str, Build] = {
    "distances and angles (RKD)": relational,
    "similarity (SP)": similarity,
    "correlation (CC)": correlation,
    "probabilistic (PKT)": probabilistic,
    "contrastive (InfoNCE)": contrastive,
    "contrastive memory (CRD)": remembered,
}
