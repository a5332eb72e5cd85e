"""A teacher without logits: an embedding of MNIST-1D's signals, learned on six classes and judged on the four others.

Each seed draws which six classes are known. Teacher and students see signals of these alone; new classes are what is
searched afterwards. All embeddings have length 1, so "near" means the same by distance and by cosine. Within a seed
every student has the same first weights, data order, optimiser and number of steps; only its loss differs.

Lesson: notebooks/05_relation_based.ipynb.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.feature import hint_loss
from kdref.lab.data import mnist1d
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.relation import (
    info_nce_loss,
    probabilistic_transfer_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)

KNOWN, HELD_OUT = 6, 1000  # classes that are trained on; signals for tuning, out of the training set
BATCH_SIZE, EPOCHS = 64, 10
TEACHER, TEACHER_WIDTH = "cnn1d-32", 64
STUDENT, WIDTH = "cnn1d-16", 16

Term = Callable[[Tensor, Tensor, Tensor, nn.Linear, float], Tensor]  # student, teacher, labels, head, temperature

LOSSES: dict[str, Term] = {
    "labels": lambda s, t, y, head, tau: supervised_contrastive_loss(s, y, temperature=tau),
    "RKD distance": lambda s, t, *_: rkd_distance_loss(s, t),
    "RKD angle": lambda s, t, *_: rkd_angle_loss(s, t),
    "RKD both": lambda s, t, *_: rkd_distance_loss(s, t) + 2 * rkd_angle_loss(s, t),  # the paper's ratio
    "SP": lambda s, t, *_: similarity_preserving_loss(s, t),
    "PKT": lambda s, t, *_: probabilistic_transfer_loss(s, t),
    "features": lambda s, t, y, head, tau: hint_loss(head(s), t),
    "InfoNCE": lambda s, t, y, head, tau: info_nce_loss(head(s), t, temperature=tau),
}


class Settings(NamedTuple):
    """What is tuned; the teacher takes the defaults."""

    rate: float = 0.01
    temperature: float = 0.1


class Search(NamedTuple):
    """What is learned from, and the signals of new classes that are searched."""

    x: Tensor
    y: Tensor
    new_x: Tensor
    new_y: Tensor


def search(seed: int, *, tuning: bool) -> Search:
    """Signals of the seed's six classes, and those of the four others: of the test set, or set aside for tuning."""
    split = mnist1d(validation=HELD_OUT)
    classes = torch.randperm(split.classes, generator=torch.Generator().manual_seed(seed))[:KNOWN]
    known = torch.isin(split.train_y, classes)
    whole = int(known.sum()) // BATCH_SIZE * BATCH_SIZE  # full batches only: a relation needs company
    new_x, new_y = (split.validation_x, split.validation_y) if tuning else (split.test_x, split.test_y)
    new = ~torch.isin(new_y, classes)
    return Search(split.train_x[known][:whole], split.train_y[known][:whole], new_x[new], new_y[new])


def supervised_contrastive_loss(embeddings: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """InfoNCE within one net, partners by label: the mean over all pairs of one class (after Khosla et al. 2020)."""
    itself = torch.eye(len(labels), dtype=torch.bool)
    logits = (embeddings @ embeddings.mT / temperature).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels) & ~itself
    return -F.log_softmax(logits, dim=1)[same].mean()


def recall(embeddings: Tensor, labels: Tensor, *, k: int = 1) -> float:
    """Share of examples with one of their class among the k nearest others."""
    cosines = (embeddings @ embeddings.mT).fill_diagonal_(-torch.inf)
    return float((labels[cosines.topk(k).indices] == labels[:, None]).any(dim=1).double().mean())


def embedded(network: nn.Module, x: Tensor) -> Tensor:
    """The network's outputs at length 1, in eval mode."""
    return F.normalize(teacher_outputs(network, x), dim=1)


@functools.lru_cache(maxsize=2)
def teacher(seed: int) -> nn.Module:
    """A network that embeds, trained with labels of the known classes; the same object for every arm of a seed."""
    found, network = search(seed, tuning=True), make(TEACHER, num_classes=TEACHER_WIDTH, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {
            "loss": supervised_contrastive_loss(F.normalize(network(x), dim=1), y, temperature=Settings().temperature)
        }

    _train(step, network, Batches(found.x, found.y, batch_size=BATCH_SIZE, seed=seed), Settings())
    return network.eval()


def taught(name: str, settings: Settings, *, seed: int, epochs: int = EPOCHS, tuning: bool = False) -> dict[str, float]:
    """Train a student by one of the losses, and measure it on new classes after the last epoch."""
    found, student = search(seed, tuning=tuning), make(STUDENT, num_classes=WIDTH, seed=100 + seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        head = nn.Linear(WIDTH, TEACHER_WIDTH)  # for features and InfoNCE, thrown away afterwards

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, t = batch
        return {"loss": LOSSES[name](F.normalize(student(x), dim=1), t, y, head, settings.temperature)}

    batches = Batches(found.x, found.y, embedded(teacher(seed), found.x), batch_size=BATCH_SIZE, seed=seed)
    _train(step, nn.ModuleList([student, head]), batches, settings)
    return measured(embedded(student, found.new_x), embedded(student, found.x), found)


def measured(new: Tensor, learned: Tensor, found: Search) -> dict[str, float]:
    """Recall on new classes, at 1 (``accuracy``) and at 5, and on what was trained on."""
    return {
        "accuracy": recall(new, found.new_y),
        "recall_at_5": recall(new, found.new_y, k=5),
        "training_accuracy": recall(learned, found.y),
    }


def _train(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    trained: nn.Module,
    batches: Batches,
    settings: Settings,
) -> None:
    optimizer = torch.optim.Adam(trained.parameters(), lr=settings.rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    fit(step, trained, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
