"""What else could explain the capacity gap of scaling_gap: softness, or too little training?

Softness: the strong teacher made as unsure as the early-stopped one, and labels smoothed until they are as unsure as
the small teacher. Training: 3,000 signals seen ten times, as many steps as 30,000 take.
Lesson: notebooks/13_scaling_laws.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments._scaling import learn, measures, signals, tuned
from kdref.lab.experiments.scaling_gap import STUDENTS, entropy, shown, softened

PASSES = 10
SOFT = ("strong, softened more", "labels, smoothed")
LONGER = ("labels", "strong", "small", "stopped early", "strong, softened", *SOFT)
ARMS = (
    *(f"{width} | {count} | {kind}" for width in STUDENTS for count in ("3000", "30000") for kind in SOFT),
    *(f"{width} | {PASSES} x 3000 | {kind}" for width in STUDENTS for kind in LONGER),
)


def smoothed(labels: Tensor, wanted: float, *, classes: int = 10) -> Tensor:
    """Log-probabilities that give the label what leaves the wanted entropy, and the rest to the others alike."""
    low, high = 1 / classes, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        p = torch.tensor([middle, *[(1 - middle) / (classes - 1)] * (classes - 1)])
        low, high = (low, middle) if entropy(p.log()[None]) < wanted else (middle, high)
    others = (1 - low) / (classes - 1)
    return (F.one_hot(labels, classes) * (low - others) + others).log()


@functools.lru_cache(maxsize=len(LONGER))
def said(kind: str, seed: int) -> Tensor:
    match kind:
        case "strong, softened more":
            return softened(shown("strong", seed), entropy(shown("stopped early", seed)))
        case "labels, smoothed":
            return smoothed(shown("labels", seed), entropy(shown("small", seed)))
    return shown(kind, seed)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count, kind = arm.split(" | ")
    passes = PASSES if "x" in count else 1
    amount = int(count.rpartition(" ")[2])
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(amount, generator=generator) for _ in range(passes)])
    name = "scaling_alone_tuning" if kind.startswith("labels") else "scaling_taught_tuning"
    rate = tuned(name, int(width), passes * amount)
    return measures(learn(int(width), signals(seed)[0][order], said(kind, seed)[order], rate=rate, seed=seed))
