"""Teachers trained with smoothed labels, or stopped early: what they are worth to a student, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb.
"""

import functools

import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._mnist1d import TEACHER_EPOCHS, logits, parts, taught
from kdref.soft_targets import distillation_loss

TEACHERS = {  # epochs, label smoothing
    "plain teacher": (TEACHER_EPOCHS, 0.0),
    "smoothed teacher": (TEACHER_EPOCHS, 0.1),
    "early-stopped teacher": (5, 0.0),
}
ARMS = ("no teacher", *TEACHERS)


def labels_only(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(s, y)


def run(seed: int, arm: str) -> dict[str, float]:
    epochs, smoothing = TEACHERS.get(arm, TEACHERS["plain teacher"])
    targets = logits(seed, epochs=epochs, smoothing=smoothing)
    soft = functools.partial(distillation_loss, soft_weight=0.9, temperature=4.0)
    result = taught("mlp-100x100", labels_only if arm == "no teacher" else soft, seed=seed, targets=targets)
    accuracy = (targets[1].argmax(-1) == parts().test_y).double().mean().item()
    return {**result, "teacher_accuracy": accuracy}
