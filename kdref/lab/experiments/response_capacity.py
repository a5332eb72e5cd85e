"""Students and teachers of growing size: is there a capacity gap? On MNIST-1D.

Lesson: notebooks/02_response_based.ipynb.
"""

import functools

import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._mnist1d import logits, parts, taught
from kdref.soft_targets import distillation_loss

STUDENTS = ("mlp-16", "mlp-50x50", "mlp-200x200")
TEACHERS = ("cnn1d-8", "cnn1d-24", "cnn1d-64")
ARMS = tuple(f"{student} | {teacher}" for student in STUDENTS for teacher in ("no teacher", *TEACHERS))


def labels_only(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(s, y)


def run(seed: int, arm: str) -> dict[str, float]:
    student, name = arm.split(" | ")
    targets = logits(seed, TEACHERS[0] if name == "no teacher" else name)
    soft = functools.partial(distillation_loss, soft_weight=0.9, temperature=4.0)
    result = taught(student, labels_only if name == "no teacher" else soft, seed=seed, targets=targets)
    return {**result, "teacher_accuracy": (targets[1].argmax(-1) == parts().test_y).double().mean().item()}
