"""Whose student is it? Ten teachers, one student, and the mistakes that they have in common. On MNIST-1D.

The score of a teacher is the share of its mistakes that the student makes with the same wrong answer. Students of its
logits, of its answers, of its right answers only, of answers among labels, and of no teacher. The ten learnt from the
same signals, or each from its own. Lesson: notebooks/16_provenance.ipynb.
"""

import functools

import torch
from torch import Tensor, nn

from kdref.fidelity import wrong_answer_agreement
from kdref.lab.data import mnist1d_fresh
from kdref.lab.experiments._fidelity import learn
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs

NET, STEPS = "mlp-100x100", 300
TEACHERS, SIZE = 10, 4000  # signals that a teacher learns from
QUERIES = 8000  # signals that a student learns from
PROBES = (100, 300, 1000, 10_000)  # signals that the mistakes are looked for on
SHOWN = ("logits", "answers", "right answers only", "half labels, half answers", "logits, right only", "labels")
ARMS = (*SHOWN, "own data | logits", "own data | answers")


@functools.lru_cache(maxsize=1)
def teachers(group: int, data: str) -> list[nn.Module]:
    """Ten teachers: of the same signals ("same"), or each of its own ("own"). One set for each group of seeds."""
    found = []
    for number in range(TEACHERS):
        x, y = mnist1d_fresh(SIZE, seed=10_000 + 100 * group + (number if data == "own" else 99))
        seed = 1000 * group + number
        found.append(learn(make(NET, seed=seed), x, y, seed=seed, steps=STEPS).requires_grad_(False))
    return found


def shown(model: nn.Module, x: Tensor, y: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """The signals that a student sees, and what is said of them."""
    logits = teacher_outputs(model, x)
    answers = logits.argmax(-1)
    if how == "labels":
        return x, y
    if how == "half labels, half answers":
        return x, torch.where(torch.arange(len(y)) < len(y) // 2, y, answers)
    keep = answers == y if "right" in how else torch.ones_like(y, dtype=torch.bool)
    return x[keep], (logits if how.startswith("logits") else answers)[keep]


def run(seed: int, arm: str) -> dict[str, float]:
    data, how = ("own", arm.partition(" | ")[2]) if arm.startswith("own") else ("same", arm)
    models, owner = teachers(seed // 1000, data), seed % TEACHERS
    x, said = shown(models[owner], *mnist1d_fresh(QUERIES, seed=20_000 + seed), how)
    student = learn(make(NET, seed=100_000 + seed), x, said, seed=seed, steps=STEPS)
    probes, y = mnist1d_fresh(max(PROBES), seed=30_000 + seed)
    own, theirs = teacher_outputs(student, probes), [teacher_outputs(model, probes) for model in models]
    found = {"accuracy": (own.argmax(-1) == y).double().mean().item()}
    for number in PROBES:
        scores = torch.stack([wrong_answer_agreement(own[:number], t[:number], y[:number]) for t in theirs])
        others = scores[torch.arange(TEACHERS) != owner]
        above = (scores[owner] > others).double() + (scores[owner] == others).double() / 2
        found |= {f"auc_{number}": above.mean().item(), f"first_{number}": float(above.min() == 1)}
        if number in (PROBES[1], PROBES[-1]):  # for the curves
            found[f"score_{number}"] = scores[owner].item()
            found |= {f"other_{number}_{i}": score for i, score in enumerate(others.tolist())}
    return found
