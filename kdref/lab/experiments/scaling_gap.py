"""A capacity gap in small, and the answers given to it: smaller, early-stopped and softer teachers, assistants.

Two students, little and more data, one strong teacher. Arms differ in the logits that the student is shown. Two are
controls: the strong teacher made as unsure as the small one, which keeps what it knows and takes its sureness, and
labels. Lesson: notebooks/13_scaling_laws.ipynb.
"""

import functools

import torch
from torch import Tensor

from kdref.lab.data import mnist1d_fresh
from kdref.lab.experiments._scaling import learn, measures, signals, tuned
from kdref.lab.experiments._scaling_teachers import teacher
from kdref.lab.training.batches import teacher_outputs

STRONG, SMALL, EARLY = "290 of 300000", "60 of 100000", "290 of 30000"
ASSISTANT = (60, 100_000)  # as large as the small teacher and taught for as long, by the strong one
SHOWN = ("labels", "strong", "small", "stopped early", "assistant", "strong, softened")
STUDENTS, SIGNALS = (17, 60), (3_000, 30_000)
ARMS = tuple(f"{width} | {count} | {kind}" for width in STUDENTS for count in SIGNALS for kind in SHOWN)


@functools.lru_cache(maxsize=1)
def assistant(seed: int) -> torch.nn.Module:
    """Taught by the strong teacher, on its signals."""
    width, count = ASSISTANT
    x, _ = mnist1d_fresh(count, seed=13_500_000 + seed)
    rate = tuned("scaling_taught_tuning", width, count)
    return learn(width, x, teacher_outputs(teacher(STRONG, seed), x), rate=rate, seed=600 + seed)


def entropy(logits: Tensor) -> float:
    return float(torch.distributions.Categorical(logits=logits).entropy().mean())


def softened(logits: Tensor, wanted: float) -> Tensor:
    """The logits over the temperature at which their mean entropy is the wanted one."""
    low, high = 1.0, 64.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if entropy(logits / middle) < wanted else (low, middle)
    return logits / low


@functools.lru_cache(maxsize=len(SHOWN))
def shown(kind: str, seed: int) -> Tensor:
    """What students of a seed see beside their signals."""
    x, y = (part[: SIGNALS[-1]] for part in signals(seed))
    match kind:
        case "labels":
            return y
        case "assistant":
            return teacher_outputs(assistant(seed), x)
        case "strong, softened":
            return softened(shown("strong", seed), entropy(shown("small", seed)))
    return teacher_outputs(teacher({"strong": STRONG, "small": SMALL, "stopped early": EARLY}[kind], seed), x)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | ")[:2])
    kind = arm.split(" | ")[2]
    x, said = signals(seed)[0][:count], shown(kind, seed)[:count]
    name = "scaling_alone_tuning" if kind == "labels" else "scaling_taught_tuning"
    found = measures(learn(width, x, said, rate=tuned(name, width, count), seed=seed))
    if kind == "labels":
        return found
    return {**found, "shown_entropy": entropy(said)}
