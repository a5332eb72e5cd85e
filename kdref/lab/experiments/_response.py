"""Every loss on logits of lessons 01 and 02, each with one hyper-parameter in three settings to choose from.

All meet the labels too, as their papers do. Lesson: notebooks/02_response_based.ipynb.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.experiments._mnist1d import Loss
from kdref.response import (
    LearnableTemperature,
    dist_loss,
    dkd_loss,
    hard_label_loss,
    label_smoothing_loss,
    logit_matching_loss,
    nkd_loss,
    standardized_kd_loss,
    virtual_teacher_logits,
)
from kdref.soft_targets import distillation_loss

CLASSES = 10


class Method(NamedTuple):
    """A loss with a hyper-parameter, and the values it is tuned over."""

    tuned: str  # what the hyper-parameter is
    settings: tuple[float, ...]
    build: Callable[[float], tuple[Loss, list[nn.Parameter]]]  # the loss, and parameters of its own


def method(tuned: str, settings: tuple[float, ...], loss: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Method:
    """Make a method of a loss that takes the setting as its last argument."""
    return Method(tuned, settings, lambda setting: (lambda s, t, y: loss(s, t, y, setting), []))


def learnable(maximum: float) -> tuple[Loss, list[nn.Parameter]]:
    """Soft targets whose temperature is trained against the student (gradient reversal)."""
    temperature = LearnableTemperature(initial=4.0, maximum=maximum)

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return distillation_loss(s, t, y, soft_weight=0.9, temperature=temperature())

    return loss, list(temperature.parameters())


def virtual(s: Tensor, t: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Distil from a hand-made teacher that knows the labels only."""
    teacher = virtual_teacher_logits(y, num_classes=CLASSES, confidence=0.9)
    return distillation_loss(s, teacher, y, soft_weight=0.9, temperature=temperature)


METHODS = {
    "cross-entropy": method("weight decay", (0.0, 0.1, 1.0), lambda s, t, y, a: F.cross_entropy(s, y)),
    "label smoothing": method(
        "smoothing", (0.05, 0.1, 0.3), lambda s, t, y, a: label_smoothing_loss(s, y, smoothing=a)
    ),
    "virtual teacher": method("temperature", (1.0, 4.0, 20.0), virtual),
    "hard labels of the teacher": method(
        "share", (0.3, 0.6, 1.0), lambda s, t, y, a: (1 - a) * F.cross_entropy(s, y) + a * hard_label_loss(s, t)
    ),
    "soft targets": method(
        "temperature",
        (2.0, 4.0, 10.0),
        lambda s, t, y, a: distillation_loss(s, t, y, soft_weight=0.9, temperature=a),
    ),
    "learnable temperature": Method("maximum", (10.0, 20.0, 40.0), learnable),
    "logit matching": method(
        "weight", (0.3, 1.0, 3.0), lambda s, t, y, a: F.cross_entropy(s, y) + a * logit_matching_loss(s, t)
    ),
    "decoupled (DKD)": method(
        "non-target weight",
        (1.0, 4.0, 8.0),
        lambda s, t, y, a: F.cross_entropy(s, y) + dkd_loss(s, t, y, nontarget_weight=a),
    ),
    "normalised (NKD)": method(
        "temperature", (1.0, 2.0, 4.0), lambda s, t, y, a: F.cross_entropy(s, y) + nkd_loss(s, t, y, temperature=a)
    ),
    "correlation (DIST)": method(
        "both weights",
        (0.5, 1.0, 2.0),
        lambda s, t, y, a: F.cross_entropy(s, y) + dist_loss(s, t, inter_weight=a, intra_weight=a, temperature=4.0),
    ),
    "standardised logits": method(
        "weight", (1.0, 3.0, 9.0), lambda s, t, y, a: F.cross_entropy(s, y) + a * standardized_kd_loss(s, t)
    ),
}
STUDENTS = {"cnn1d-8": "same family", "mlp-100x100": "cross family"}  # of the teacher, cnn1d-32


def weight_decay_of(name: str, setting: float) -> float:
    """Weight decay is what plain cross-entropy tunes; the others train without."""
    return setting if name == "cross-entropy" else 0.0
