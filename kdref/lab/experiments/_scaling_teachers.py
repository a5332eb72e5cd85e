"""The teachers of the experiments on scaling laws, from weak to strong; two are about equally good, of unlike sizes.

Each learns from labels, of signals that its students don't see. Lesson: notebooks/13_scaling_laws.ipynb.
"""

import functools

from torch import Tensor, nn

from kdref.lab.data import mnist1d_fresh
from kdref.lab.experiments._scaling import SIGNALS, learn, measures, signals, tuned
from kdref.lab.training.batches import teacher_outputs

TEACHERS = (  # width and signals
    "17 of 30000",
    "60 of 30000",
    "32 of 300000",  # as good as the next one, with 0.4 of its parameters and three times its data
    "60 of 100000",
    "105 of 300000",
    "290 of 300000",
    "290 of 1000000",
)


@functools.lru_cache(maxsize=len(TEACHERS))
def teacher(name: str, seed: int) -> nn.Module:
    width, count = map(int, name.split(" of "))
    x, y = mnist1d_fresh(count, seed=13_500_000 + seed)
    rate = tuned("scaling_alone_tuning", width, min(count, SIGNALS[-1]))
    return learn(width, x, y, rate=rate, seed=500 + seed)


@functools.lru_cache(maxsize=len(TEACHERS))
def said(name: str, seed: int) -> Tensor:
    """The teacher's logits on all signals of a seed's students."""
    return teacher_outputs(teacher(name, seed), signals(seed)[0])


@functools.lru_cache(maxsize=len(TEACHERS))
def teacher_loss(name: str, seed: int) -> float:
    return measures(teacher(name, seed))["loss"]
