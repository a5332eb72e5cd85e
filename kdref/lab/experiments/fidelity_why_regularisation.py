"""Why does distillation help? Third answer: it regularises. On MNIST-1D, taken apart.

At one temperature a student sees the teacher's whole answers; the same with the wrong classes shuffled anew in every
step, as in lesson 08; or labels smoothed until they are as sure as the teacher is on average. "Better teacher":
one that has learnt from many more signals. "Wrong labels": three in ten are drawn at random, and the teacher is no more
than another network that has learnt from the same. Lesson: notebooks/15_fidelity.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.experiments._fidelity import NET, STEPS, first_weights, fresh, learn, measures, parts
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.self_distillation import permuted_dark_knowledge

TEMPERATURE = 4.0
WRONG = 0.3  # share of labels drawn anew from all ten classes
EARLY = STEPS // 2
TEACHER_STEPS, TEACHER_SIGNALS = 2 * STEPS, 16  # of the better teacher; signals in sizes of the training set
ARMS = tuple(
    f"{kind} | {said}"
    for kind in ("better teacher", "wrong labels")
    for said in ("labels", "labels, stopped early", "smoothed labels", "shuffled", "whole")
)


def labels(seed: int, kind: str) -> Tensor:
    """Of the training set: right ones, or some drawn at random."""
    y, generator = parts().train_y, torch.Generator().manual_seed(seed)
    drawn = torch.randint(10, y.shape, generator=generator)
    wrong = torch.rand(y.shape, generator=generator) < WRONG
    return torch.where(wrong, drawn, y) if kind == "wrong labels" else y


@functools.lru_cache(maxsize=2)
def teacher(seed: int, kind: str) -> nn.Module:
    model = make(NET, seed=seed)
    if kind == "better teacher":
        learn(model, *fresh(TEACHER_SIGNALS), seed=seed, steps=TEACHER_STEPS)
    else:
        learn(model, parts().train_x, labels(seed, kind), seed=seed)
    return model.requires_grad_(False)


def smoothed(y: Tensor, logits: Tensor) -> Tensor:
    """Logits of labels that are, at the temperature, as sure as these logits are on average."""
    sure = (logits / TEMPERATURE).softmax(-1).amax(-1).mean().item()
    p = torch.full_like(logits, (1 - sure) / (logits.shape[-1] - 1)).scatter(-1, y[:, None], sure)
    return TEMPERATURE * p.log()


def run(seed: int, arm: str) -> dict[str, float]:
    kind, said = arm.split(" | ")
    model, y, x = teacher(seed, kind), labels(seed, kind), parts().train_x
    student, logits = first_weights(seed), teacher_outputs(model, x)
    fit = functools.partial(learn, student, x, seed=100 + seed, temperature=TEMPERATURE)
    match said:
        case "labels":
            fit(y)
        case "labels, stopped early":
            fit(y, steps=EARLY)
        case "smoothed labels":
            fit(smoothed(y, logits))
        case "shuffled":
            generator = torch.Generator().manual_seed(seed + 1)
            fit(logits, anew=functools.partial(permuted_dark_knowledge, generator=generator))
        case "whole":
            fit(logits)
    known = parts()
    nll = F.cross_entropy(teacher_outputs(student, known.test_x), known.test_y)
    return {"nll": nll.item(), **measures(student, model)}
