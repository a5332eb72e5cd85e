"""The lab: what a distillation experiment needs besides the method.

The loop, batches, paired seeds, measurements and exercise checks are imported here; ``kdref.lab.data``, ``models``,
``checkpoints``, ``report`` and ``widgets`` are modules of their own, imported when they are used.
"""

from kdref.lab.batches import Batches, teacher_outputs
from kdref.lab.check import check, quiz
from kdref.lab.fit import fit
from kdref.lab.measure import latency, measure
from kdref.lab.seeds import compare, replicate
from kdref.lab.session import base_seed, setup
from kdref.lab.show import show
from kdref.lab.taps import taps

__all__ = [
    "Batches",
    "base_seed",
    "check",
    "compare",
    "fit",
    "latency",
    "measure",
    "quiz",
    "replicate",
    "setup",
    "show",
    "taps",
    "teacher_outputs",
]
