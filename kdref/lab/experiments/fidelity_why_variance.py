"""Why does distillation help? First answer: its targets vary less. On a mixture whose true probabilities are known.

Five Gaussian classes in ten dimensions, after Menon et al. 2021. "Drawn": a label is a draw from the class
probabilities at its input, and a target that is those probabilities leaves that draw out. "Settled", the control: each
input has the class that is likeliest there, so labels are the true probabilities, and there is no draw to leave out.
Students are linear, as the truth is, and every number is over many draws of few examples.
Lesson: notebooks/15_fidelity.ipynb.
"""

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES, DIMENSIONS = 5, 10
EXAMPLES, DRAWS = 50, 20  # of each student; students of an arm and seed
TAUGHT, TEST, RISKS = 2000, 5000, 2000  # the teacher's examples, those to measure on, draws of the risk
STEPS, LEARNING_RATE = 200, 0.05
SPREAD = 0.6  # deviation of the classes' means, along each axis
TOO_SURE = 4.0  # times the teacher's logits
DECAYS = (0.01, 0.03, 0.1, 0.3)  # of which the best is taken, by the accuracy that is reported
TARGETS = ("labels", "true probabilities", "teacher", "teacher, too sure", "smoothed labels", "labels, weight decay")
ARMS = (*(f"drawn | {said}" for said in TARGETS), *(f"settled | {said}" for said in TARGETS if "true" not in said))


class Draw(NamedTuple):
    """Examples, the last axis of ``x`` being 1, and the classes they were drawn from."""

    x: Tensor  # (..., n, D + 1)
    y: Tensor  # (..., n)


@functools.lru_cache(maxsize=1)
def truth(seed: int) -> Tensor:
    """Weights (D + 1, C) of the true log-probabilities, up to a constant: they are linear in the input."""
    means = SPREAD * torch.randn(CLASSES, DIMENSIONS, generator=torch.Generator().manual_seed(seed))
    return torch.cat([means, -means.square().sum(1, keepdim=True) / 2], dim=1).T


def drawn(seed: int, number: int, *shape: int, settled: bool = False) -> Draw:
    """Examples around the classes' means, which are the true weights without the last row."""
    true, generator = truth(seed), torch.Generator().manual_seed(10 * seed + number)
    y = torch.randint(CLASSES, shape, generator=generator)
    x = true[:-1].T[y] + torch.randn(*shape, DIMENSIONS, generator=generator)
    x = torch.cat([x, torch.ones(*shape, 1)], dim=-1)
    return Draw(x, (x @ true).argmax(-1) if settled else y)


def fitted(x: Tensor, targets: Tensor, *, decay: float = 0.0) -> Tensor:
    """Linear classifiers, one for each draw (R, n, D + 1) and its targets (R, n, C), all at once."""
    weights = torch.zeros(len(x), x.shape[-1], CLASSES, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        loss = risk(weights, x, targets).sum() + decay * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return weights.detach()


def risk(weights: Tensor, x: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy with the targets, of each draw."""
    return -(targets * (x @ weights).log_softmax(-1)).sum(-1).mean(-1)


@functools.lru_cache(maxsize=2)
def teacher(seed: int, *, settled: bool) -> Tensor:
    """The weights of one that has seen forty times as many labelled examples."""
    x, y = drawn(seed, 1, 1, TAUGHT, settled=settled)
    return fitted(x, F.one_hot(y, CLASSES).float())[0]


def targets(said: str, draw: Draw, seed: int, *, settled: bool) -> Tensor:
    """What is said of the examples: probabilities (..., n, C)."""
    labels, true = F.one_hot(draw.y, CLASSES).float(), (draw.x @ truth(seed)).softmax(-1)
    match said:
        case "true probabilities":
            return labels if settled else true
        case "teacher" | "teacher, too sure":
            factor = 1.0 if said == "teacher" else TOO_SURE
            return (factor * draw.x @ teacher(seed, settled=settled)).softmax(-1)
        case "smoothed labels":  # as sure as the teacher is, on average
            sure = targets("teacher", draw, seed, settled=settled).amax(-1).mean()
            rest = (1 - sure) / (CLASSES - 1)
            return labels * (1 - CLASSES * rest) + rest
    return labels


def scatter(said: str, seed: int, *, settled: bool) -> dict[str, float]:
    """How much the risk of one classifier, half as sure as the mixture, and its gradient vary from draw to draw."""
    draw = drawn(seed, 2, RISKS, EXAMPLES, settled=settled)
    weights, t, true = (
        truth(seed) / 2,
        *(targets(name, draw, seed, settled=settled) for name in (said, "true probabilities")),
    )
    risks = risk(weights, draw.x, t)
    gradients = draw.x.mT @ ((draw.x @ weights).softmax(-1) - t) / EXAMPLES
    return {
        "risk_deviation": risks.std().item(),
        "risk_bias": (risks - risk(weights, draw.x, true)).mean().abs().item(),
        "gradient_deviation": math.sqrt(gradients.var(0).sum().item()),
    }


def run(seed: int, arm: str) -> dict[str, float]:
    name, said = arm.split(" | ")
    settled = name == "settled"
    draw, test = drawn(seed, 3, DRAWS, EXAMPLES, settled=settled), drawn(seed, 4, TEST, settled=settled)
    t = targets(said, draw, seed, settled=settled)

    def accuracy(weights: Tensor) -> float:
        return ((test.x @ weights).argmax(-1) == test.y).double().mean().item()

    return {
        "accuracy": max(accuracy(fitted(draw.x, t, decay=decay)) for decay in (DECAYS if "decay" in said else (0.0,))),
        "best_possible": accuracy(truth(seed)),
        "teacher_accuracy": accuracy(teacher(seed, settled=settled)),
        **scatter(said, seed, settled=settled),
    }
