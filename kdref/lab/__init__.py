"""The lab: what a distillation experiment needs besides the method.

The loop, batches, paired seeds, measurements and exercise checks are imported here; ``kdref.lab.data``, ``models``,
``report`` and ``widgets`` are modules of their own, imported when they are used.
"""

from kdref.lab.batches import Batches, teacher_outputs
from kdref.lab.fit import fit
from kdref.lab.measure import latency, measure
from kdref.lab.seeds import compare, replicate

__all__ = [
    "Batches",
    "compare",
    "fit",
    "latency",
    "measure",
    "replicate",
    "teacher_outputs",
]
