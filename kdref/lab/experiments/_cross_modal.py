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
EPOCHS = 20
WEIGHT_DECAY = 0.01
UNLABELLED = -100  # the label that cross_entropy ignores
SELECTION_TEMPERATURE = 2.0
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


METHODS = {
    "soft targets": Method(
        "temperature", (1.0, 2.0, 4.0), lambda s, t, a: soft_target_loss(s.logits, t.logits, temperature=a)
    ),
    "features": Method("weight", (0.01, 0.1, 1.0), lambda s, t, a: a * paired_feature_loss(s.hidden, t.hidden)),
    "contrastive": Method(
        "weight",
        (0.1, 0.3, 1.0),
        lambda s, t, a: a * info_nce_loss(s.hidden, t.hidden, temperature=CONTRASTIVE_TEMPERATURE),
    ),
    "selected": Method(
        "threshold",
        (0.0, 0.3, 0.6),
        lambda s, t, a: selected_soft_target_loss(
            s.logits,
            t.logits,
            select_agreeing(s.logits, t.logits, threshold=a),
            temperature=SELECTION_TEMPERATURE,
        ),
    ),
}
DECAYS = (0.01, 0.3, 3.0)  # weight decays: the labels' own hyper-parameter


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
    sensor: str, seed: int, number: int, *, decay: float, all_labels: bool = False, tuning: bool = False
) -> nn.Module:
    """A network that has seen labels only, the same object for every arm: baseline and teacher."""
    return _train(sensor, seed, people(seed, number, tuning=tuning), decay=decay, all_labels=all_labels)


def taught_by_teacher(
    sensor: str, teacher: nn.Module, teacher_sensor: str, method: str, setting: float, *, seed: int, fold: Fold
) -> nn.Module:
    """A network that meets the labels of three people and a teacher's word on five others."""
    return _train(sensor, seed, fold, guide=(teacher, teacher_sensor, METHODS[method], setting))


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


def _train(
    sensor: str,
    seed: int,
    fold: Fold,
    *,
    guide: tuple[nn.Module, str, Method, float] | None = None,
    decay: float = WEIGHT_DECAY,
    all_labels: bool = False,
) -> nn.Module:
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
        loss = F.cross_entropy(own.logits, y, ignore_index=UNLABELLED)
        if guide is not None:
            mine, told = (Outputs(*(part[unlabelled] for part in side)) for side in (own, theirs))
            loss = loss + guide[2].term(mine, told, guide[3])
        return {"loss": loss}

    batches = Batches(x[sensor][rows], labels[rows], *said, batch_size=BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    fit(step, student, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
    return student.eval()
