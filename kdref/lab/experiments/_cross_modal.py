"""What the experiments of lesson 07 share: two sensors, one small network, and one way to train it.

A student is trained on the windows of eight people: three are labelled, five are not. Labelled windows meet
cross-entropy; on the others the teacher, another sensor's network, says something. Within a seed and fold all students
of a sensor have the same first weights, data order, optimiser and epochs. Lesson: notebooks/07_cross_modal.ipynb.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.cross_modal import paired_feature_loss, select_agreeing, selected_soft_target_loss
from kdref.lab.data.smartwatch import EXERCISES, Fold, Watch, folds, spectrum, watch
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.relation import info_nce_loss
from kdref.soft_targets import soft_target_loss

MODEL = "mlp-64"
BATCH_SIZE = 200
EPOCHS = 60
UNLABELLED = -100  # the label that cross_entropy ignores
CONTRASTIVE_TEMPERATURE = 0.1


class Outputs(NamedTuple):
    """What a network says of a batch."""

    hidden: Tensor  # (B, 64), after the ReLU
    logits: Tensor  # (B, 7)


class Method(NamedTuple):
    """What the teacher says, and the hyper-parameter of it that is tuned."""

    tuned: str
    settings: tuple[float, ...]
    term: Callable[[Outputs, Outputs, float], Tensor]  # of student, teacher and setting, on unlabelled windows


def _soft(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    return soft_target_loss(student.logits, teacher.logits, temperature=temperature)


def _argmax(student: Outputs, teacher: Outputs, weight: float) -> Tensor:
    return weight * F.cross_entropy(student.logits, teacher.logits.argmax(dim=-1))


def _features(student: Outputs, teacher: Outputs, weight: float) -> Tensor:
    return weight * paired_feature_loss(student.hidden, teacher.hidden)


def _contrastive(student: Outputs, teacher: Outputs, weight: float) -> Tensor:
    return weight * info_nce_loss(student.hidden, teacher.hidden, temperature=CONTRASTIVE_TEMPERATURE)


def _selected(student: Outputs, teacher: Outputs, threshold: float, *, temperature: float = 2.0) -> Tensor:
    chosen = select_agreeing(student.logits, teacher.logits, threshold=threshold)
    return selected_soft_target_loss(student.logits, teacher.logits, chosen, temperature=temperature)


THRESHOLDS = (-0.5, 0.0, 0.5)
METHODS = {
    "soft targets": Method("temperature", (0.25, 0.5, 1.0, 2.0), _soft),
    "argmax": Method("weight", (0.1, 0.3, 1.0, 3.0), _argmax),
    "features": Method("weight", (0.01, 0.1, 1.0), _features),
    "contrastive": Method("weight", (0.3, 1.0, 3.0), _contrastive),
    "selected": Method("threshold", THRESHOLDS, _selected),
    "selected, τ = 1": Method("threshold", THRESHOLDS, functools.partial(_selected, temperature=1.0)),
}
DECAYS = (0.1, 1.0, 5.0)  # weight decays, tuned for everyone


@functools.lru_cache(maxsize=1)
def windows() -> tuple[Watch, dict[str, Tensor]]:
    """All windows, and by sensor what the networks see of them."""
    known = watch()
    return known, {"accelerometer": spectrum(known.accelerometer), "gyroscope": spectrum(known.gyroscope)}


def people(seed: int, number: int, *, tuning: bool = False) -> Fold:
    """Who is used for what. For tuning, one of the three labelled people takes the place of those to test on."""
    fold = folds(seed)[number]
    return Fold(fold.labelled[:-1], fold.unlabelled, fold.labelled[-1:]) if tuning else fold


@functools.lru_cache(maxsize=32)
def taught_by_labels(
    sensor: str,
    seed: int,
    number: int,
    *,
    decay: float,
    all_labels: bool = False,
    tuning: bool = False,
) -> nn.Module:
    """A network that has seen labels only, the same object for every arm: baseline and teacher."""
    return train(sensor, seed, people(seed, number, tuning=tuning), decay=decay, all_labels=all_labels)


def outputs(model: nn.Module, x: Tensor) -> Outputs:
    """Hidden layer and logits."""
    hidden = model.get_submodule("features")(x.flatten(1))
    return Outputs(hidden, model.get_submodule("classifier")(hidden))


def by_person(model: nn.Module, sensor: str, subjects: tuple[int, ...]) -> dict[int, float]:
    """Accuracy on each person's windows."""
    known, x = windows()
    result = {}
    for subject in subjects:
        rows = known.of((subject,))
        result[subject] = (teacher_outputs(model, x[sensor][rows]).argmax(-1) == known.y[rows]).double().mean().item()
    return result


def train(
    sensor: str,
    seed: int,
    fold: Fold,
    *,
    decay: float,
    guide: tuple[nn.Module, str, Method, float] | None = None,
    all_labels: bool = False,
) -> nn.Module:
    """A network that meets the labels of three people and, with a guide, a teacher's word on five others.

    Args:
        sensor: The student's.
        seed: Of first weights and data order.
        fold: Who is labelled, who is not.
        decay: Weight decay.
        guide: Teacher, its sensor, the method and its setting.
        all_labels: Whether the five others are labelled too.
    """
    known, x = windows()
    rows, labels = known.of(fold.labelled + fold.unlabelled), known.y.clone()
    if not all_labels:
        labels[known.of(fold.unlabelled)] = UNLABELLED
    student = make(MODEL, num_classes=len(EXERCISES), shape=x[sensor].shape[1:], seed=seed)
    said = Outputs(torch.zeros(len(rows), 1), torch.zeros(len(rows), 1))
    if guide is not None:
        with torch.no_grad():
            said = outputs(guide[0], x[guide[1]][rows])

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        inputs, y, *theirs = batch
        own, unlabelled = outputs(student, inputs), y == UNLABELLED
        loss = F.cross_entropy(own.logits, y, ignore_index=UNLABELLED, reduction="sum")
        loss = loss / (~unlabelled).sum().clamp(min=1)  # the last batch may be few windows, and none of them labelled
        if guide is not None and unlabelled.any():
            mine, told = (Outputs(*(part[unlabelled] for part in side)) for side in (own, theirs))
            loss = loss + guide[2].term(mine, told, guide[3])
        return {"loss": loss}

    batches = Batches(x[sensor][rows], labels[rows], *said, batch_size=BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    fit(step, student, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
    return student.eval()
