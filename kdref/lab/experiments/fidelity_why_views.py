"""Why does distillation help? Second answer: an ensemble has found all views of a class, and a student learns of them.

A made data set after Allen-Zhu and Li 2023. Each class has two features ("views"). Nearly every training example shows
both, so one is enough, and a network stops looking when it has found it: which one is luck. The test examples show one
view only. Control: a set whose classes have one feature each, made as hard by noise: there an ensemble has nothing to
tell. Lesson: notebooks/15_fidelity.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.soft_targets import soft_target_loss

CLASSES, DIMENSIONS, PATCHES = 5, 40, 6
TRAINING, TEST = 200, 1000
ONE_VIEW_ONLY = 20  # every so many training examples, of each class, show one view
NOISE = {"two views": 0.5, "one view": 1.8}  # length of a patch's noise
FAINT = 0.6  # two patches show, more faintly than this, a feature of another class
NEURONS, DEVIATION = 4, 0.1  # for each class; of the first weights
MEMBERS, STEPS, LEARNING_RATE = 5, 300, 0.3
WEIGHTS = 10  # seeds from 100 · seed + this on draw first weights, none of them data
TEMPERATURE = 4.0
ARMS = tuple(
    f"{kind} | {arm}"
    for kind in NOISE
    for arm in ("one network", "smoothed labels", "ensemble", "taught by one", "taught by the ensemble")
)


def first_weights(*seeds: int) -> Tensor:
    """Of one network for each seed: (K, D, C · neurons)."""
    drawn = (
        torch.randn(DIMENSIONS, CLASSES * NEURONS, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    )
    return DEVIATION * torch.stack(list(drawn))


def logits(weights: Tensor, x: Tensor) -> Tensor:  # (K, D, C · neurons), (B, P, D) -> (K, B, C)
    """Allen-Zhu and Li's network: for each class the sum, over patches and its neurons, of a smoothed ReLU."""
    h = (x @ weights[:, None]).relu()
    active = torch.where(h < 1, h * h * h / 3, h - 2 / 3)
    by_class: Tensor = active.sum(2).unflatten(-1, (CLASSES, NEURONS))
    return by_class.sum(-1)


def made(kind: str, count: int, *, seed: int, single: int = ONE_VIEW_ONLY) -> tuple[Tensor, Tensor]:
    """Examples (count, P, D) and their classes. Class c has the directions 2c and 2c + 1, or 2c alone.

    Of each class every ``single``-th example shows one view, the two in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, y = torch.arange(count), torch.arange(count) % CLASSES
    number = rows // CLASSES  # of the example within its class
    x = NOISE[kind] / DIMENSIONS**0.5 * torch.randn(count, PATCHES, DIMENSIONS, generator=generator)
    views = 2 if kind == "two views" else 1
    for view in range(views):
        hidden = (number % single == 0) & (number // single % 2 != view) & (views > 1)
        x[rows, view, 2 * y + view] += (1 + 0.4 * torch.rand(count, generator=generator)) * ~hidden
    for patch in (2, 3):
        other = (y + torch.randint(1, CLASSES, (count,), generator=generator)) % CLASSES
        feature = 2 * other + torch.randint(views, (count,), generator=generator)
        x[rows, patch, feature] += FAINT * torch.rand(count, generator=generator)
    return x, y


def taught(weights: Tensor, x: Tensor, said: Tensor) -> Tensor:
    """Train some networks on all examples in every step, each on its own though all at once.

    Gradient descent with momentum: Adam would pull all features up alike.
    """
    weights, count = weights.clone().requires_grad_(), len(weights)
    optimizer = torch.optim.SGD([weights], lr=LEARNING_RATE, momentum=0.9)
    for _ in range(STEPS):
        out = logits(weights, x).flatten(0, 1)
        if said.is_floating_point():
            loss = soft_target_loss(out, said.repeat(count, 1), temperature=TEMPERATURE)
        else:
            loss = F.cross_entropy(out, said.repeat(count))
        optimizer.zero_grad()
        (count * loss).backward()  # the sum over the networks
        optimizer.step()
    return weights.detach()


@functools.lru_cache(maxsize=2)
def members(seed: int, kind: str) -> Tensor:
    """Networks that differ in their first weights alone."""
    seeds = range(100 * seed + WEIGHTS, 100 * seed + WEIGHTS + MEMBERS)
    return taught(first_weights(*seeds), *made(kind, TRAINING, seed=seed))


def student(who: str, seed: int, kind: str) -> Tensor:
    """One network, always from the same first weights, which are none of the members'."""
    (x, y), teachers = made(kind, TRAINING, seed=seed), members(seed, kind)
    if who == "one network":
        said = y
    elif who == "smoothed labels":  # as sure at this temperature as the ensemble is, on average
        sure = (logits(teachers, x).mean(0) / TEMPERATURE).softmax(-1).amax(-1).mean()
        rest = (1 - sure) / (CLASSES - 1)
        said = TEMPERATURE * (F.one_hot(y, CLASSES) * (1 - CLASSES * rest) + rest).log()
    else:
        said = logits(teachers[:1] if who == "taught by one" else teachers, x).mean(0)
    return taught(first_weights(100 * seed + WEIGHTS + MEMBERS), x, said)


def run(seed: int, arm: str) -> dict[str, float]:
    kind, who = arm.split(" | ")
    x, y = made(kind, TEST, seed=seed + 500, single=1)
    nets = members(seed, kind) if who == "ensemble" else student(who, seed, kind)
    right = logits(nets, x).mean(0).argmax(-1) == y
    pair = 2 * y + torch.arange(TEST) // CLASSES % 2  # a class and the view that is shown of it
    found = torch.stack([right[pair == one].double().mean() for one in range(2 * CLASSES)])
    seen, labels = made(kind, TRAINING, seed=seed)
    return {
        "accuracy": right.double().mean().item(),
        "views": (found > 0.9).double().mean().item(),  # share of all views by which the class is found
        "training_accuracy": (logits(nets, seen).mean(0).argmax(-1) == labels).double().mean().item(),
    }
