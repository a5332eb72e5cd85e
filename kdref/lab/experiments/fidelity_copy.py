"""A student as large as its teacher: does it become its copy? On MNIST-1D, after Stanton et al. 2021.

Longer, on more data, or from a start nearer to the teacher. Two arms never meet the teacher: what a student agrees with
it by being right is theirs too. Lesson: notebooks/15_fidelity.ipynb.
"""

import copy
import time

from torch import Tensor, nn

from kdref.lab.experiments._fidelity import NET, STEPS, between, first_weights, fresh, learn, measures, parts, teacher
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs

LONGER = 4  # times as many steps: "longer", and all arms that see fresh signals
ARMS = (
    "labels",  # with its teacher, two independent networks
    "another teacher",  # distilled, but from a network that is not the one it is compared with
    "training data",
    "longer",
    "fresh 4x",
    "fresh 16x",
    "fresh 64x",
    "labels of fresh 64x",
    "between 0.25",
    "between 0.375",
    "between 0.5",
    "teacher's first weights",
)


def shown(arm: str, seed: int) -> tuple[Tensor, Tensor]:
    """What a student learns from: inputs, and the teacher's logits on them; labels in two arms, and there alone."""
    known, times = parts(), int(arm.rpartition(" ")[2][:-1]) if "fresh" in arm else 0
    x, y = fresh(times) if times else (known.train_x, known.train_y)
    if arm.startswith("labels"):
        return x, y
    return x, teacher_outputs(teacher(seed + 500 if arm == "another teacher" else seed), x)


def start(arm: str, seed: int) -> nn.Module:
    """A student's first weights."""
    if arm == "teacher's first weights":
        return make(NET, seed=seed)
    if arm.startswith("between"):
        return between(teacher(seed), first_weights(seed), float(arm.partition(" ")[2]))
    return first_weights(seed)


def steps(arm: str) -> int:
    return LONGER * STEPS if arm == "longer" or "fresh" in arm else STEPS


def run(seed: int, arm: str) -> dict[str, float]:
    model, student = teacher(seed), start(arm, seed)
    before = measures(copy.deepcopy(student), model)["agreement"]
    x, said = shown(arm, seed)
    began = time.process_time()
    learn(student, x, said, seed=100 + seed, steps=steps(arm))
    return {"seconds": time.process_time() - began, "agreement_before": before, **measures(student, model)}
