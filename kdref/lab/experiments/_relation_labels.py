"""What lesson 05's students of digits are made of: some labels, 1,000 images that a teacher has seen, and one loss.

A step takes the cross-entropy of all labels and, beside it, a loss against the teacher on 50 of the images. Within a
seed all arms have the same images, first weights, order of batches, optimiser and number of steps.

Lesson: notebooks/05_relation_based.ipynb.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split, digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.taps import taps
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
from kdref.soft_targets import soft_target_loss

TEACHER, STUDENT = "mlp-300", "mlp-32"
EPOCHS, BATCH_SIZE, NEGATIVES = 10, 50, 256
LABELS = "labels only"

RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "RKD distance": rkd_distance_loss,
    "RKD angle": rkd_angle_loss,
    "SP": similarity_preserving_loss,
    "CC": correlation_congruence_loss,
    "PKT": probabilistic_transfer_loss,
}
NAMES = (LABELS, "soft targets", *RELATIONS, "InfoNCE", "CRD")


class Known(NamedTuple):
    """The digits of a seed, and what its teacher says of the 1,000 training images."""

    split: Split
    features: Tensor
    logits: Tensor


class Side(NamedTuple):
    """What one network says of a batch."""

    features: Tensor
    logits: Tensor


class Helpers(NamedTuple):
    """Trained beside the student, thrown away afterwards: InfoNCE's head, CRD's memory and what draws its negatives."""

    head: nn.Linear
    memory: ContrastiveMemory
    generator: torch.Generator


@functools.lru_cache(maxsize=2)
def known(seed: int) -> Known:
    """A trained teacher's features and logits, the same for every arm of a seed."""
    split = digits(seed)
    network = make(TEACHER, shape=split.shape, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(network(x), y)}

    batches = Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    fit(step, network, batches, torch.optim.Adam(network.parameters(), lr=3e-3), epochs=20, progress=False)
    with torch.no_grad():
        found = taps(network, ["features.relu1", "classifier"])(split.train_x)
    return Known(split, found["features.relu1"], found["classifier"])


def teacher_term(name: str, own: Side, told: Side, numbers: Tensor, helpers: Helpers) -> Tensor:
    """One loss against the teacher, by name, on the images of these numbers."""
    if name == "soft targets":
        return soft_target_loss(own.logits, told.logits, temperature=4.0)
    if name == "InfoNCE":
        return info_nce_loss(helpers.head(own.features), told.features, temperature=0.1)
    if name == "CRD":
        s, t = helpers.memory(own.features, told.features)
        negatives = helpers.memory.draw(NEGATIVES, generator=helpers.generator)
        return crd_loss(s, t, numbers, negatives, helpers.memory)
    return RELATIONS[name](own.features, told.features)


def pull(loss: Tensor, weights: Tensor) -> float:
    """How hard a loss pulls at some weights: the length of its gradient."""
    return float(torch.autograd.grad(loss, weights, retain_graph=True)[0].norm())


def taught(name: str, setting: float, *, labels: int, seed: int, tuning: bool = False) -> dict[str, float]:
    """Train a student with so many labels and one loss; the setting is k, or weight decay for labels only."""
    split, *told = known(seed)
    few, y = split.train_x[:labels], split.train_y[:labels]
    images = (split.train_x, *told, torch.arange(len(split.train_x)))
    student: Any = make(STUDENT, shape=split.shape, seed=seed)  # to mypy a module's children may be tensors
    helpers = _helpers(len(split.train_x), seed)

    def terms(batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        x, features, logits, numbers = batch
        h = student.features(torch.cat([few, x]).flatten(1))  # labelled and taught images in one pass
        z = student.classifier(h)
        own = Side(h[labels:], z[labels:])
        from_teacher = teacher_term(name, own, Side(features, logits), numbers, helpers)
        return F.cross_entropy(z[:labels], y), from_teacher, own.features

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if name == LABELS:
            return {"loss": F.cross_entropy(student(few), y)}
        from_labels, from_teacher, h = terms(batch)
        if name == "CRD":
            s, t = helpers.memory(h.detach(), batch[1])
            helpers.memory.update(s, t, batch[3])
        return {"loss": from_labels + weight * from_teacher}

    weight, decay = 0.0, setting
    if name != LABELS:
        from_labels, from_teacher, _ = terms(tuple(part[:100] for part in images))
        first = student.features.fc1.weight
        weight, decay = setting * pull(from_labels, first) / pull(from_teacher, first), 0.0
    _train(step, student, helpers, images, seed, decay)
    x, truth = (split.validation_x, split.validation_y) if tuning else (split.test_x, split.test_y)
    shares = {"accuracy": _right(student, x, truth), "training_accuracy": _right(student, few, y)}
    return {**shares, "setting": setting, "weight": weight}


def _helpers(images: int, seed: int) -> Helpers:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head, memory = nn.Linear(32, 300), ContrastiveMemory(32, 300, num_examples=images)
    return Helpers(head, memory, torch.Generator().manual_seed(seed))


def _train(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    student: nn.Module,
    helpers: Helpers,
    images: tuple[Tensor, ...],
    seed: int,
    decay: float,
) -> None:
    trained = nn.ModuleList([student, helpers.head, helpers.memory])
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.01, weight_decay=decay)
    fit(step, student, Batches(*images, batch_size=BATCH_SIZE, seed=seed), optimizer, epochs=EPOCHS, progress=False)


def _right(student: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((teacher_outputs(student, x).argmax(-1) == y).double().mean())
