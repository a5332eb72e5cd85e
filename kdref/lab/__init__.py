"""The lab: what a distillation experiment needs besides the method.

The loop, batches, paired seeds, measurements, an attack and exercise checks are imported here; ``kdref.lab.data``,
``models``, ``checkpoints``, ``report`` and ``widgets`` are modules of their own, imported when they are used.
"""

from kdref.lab.course.check import check, quiz
from kdref.lab.course.source import show
from kdref.lab.training.attack import pgd
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import latency, measure
from kdref.lab.training.seeds import compare, replicate
from kdref.lab.training.session import base_seed, setup
from kdref.lab.training.taps import taps

__all__ = [
    "Batches",
    "base_seed",
    "check",
    "compare",
    "fit",
    "latency",
    "measure",
    "pgd",
    "quiz",
    "replicate",
    "setup",
    "show",
    "taps",
    "teacher_outputs",
]
