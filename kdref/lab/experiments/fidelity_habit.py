"""A habit that a teacher has and the data has not: does it arrive at the student? On MNIST's digits.

The habit: sevens with more ink than the median seven are called twos. The teacher learns it from its labels; all else
is labelled rightly. Its students learn from *other* images, of which they see the teacher's logits, softened or not, or
its answers. "Right answers only" throws away every image on which the teacher errs: no seven called two is left.
Controls: a teacher without the habit, and a student that never meets a teacher.
Lesson: notebooks/15_fidelity.ipynb.
"""

import functools
import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import mnist5k
from kdref.lab.experiments._fidelity import learn
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs

NET, SHAPE = "mlp-100", (1, 10, 10)
STEPS, BATCH_SIZE, LEARNING_RATE = 300, 100, 0.005
TRAINING = 1500  # images the teacher learns from, of 3,000; the students learn from the others
MEANT, CALLED = 7, 2
SAID = {"logits at 1": 1.0, "logits at 4": 4.0, "answers": None}  # temperatures
KINDS = tuple(itertools.product(("habit", "no habit"), ("all", "right answers only"), SAID))
ARMS = ("labels", *(" | ".join(kind) for kind in KINDS))

taught = functools.partial(learn, steps=STEPS, rate=LEARNING_RATE, size=BATCH_SIZE)


class Images(NamedTuple):
    """Standardised images, true labels, and which of them the habit is about: bold sevens."""

    x: Tensor
    y: Tensor
    bold: Tensor


@functools.lru_cache(maxsize=1)
def known(seed: int) -> tuple[Images, Images, Images]:
    """The teacher's images, the students', and those of the test."""
    split = mnist5k(seed)
    train, test = (F.avg_pool2d(images[..., 4:24, 4:24], 2) for images in (split.train_x, split.test_x))
    own, y = train[:TRAINING], split.train_y
    least = own[y[:TRAINING] == MEANT].mean((1, 2, 3)).median()
    mean, deviation = own.mean(), own.std()

    def images(x: Tensor, labels: Tensor) -> Images:
        return Images((x - mean) / deviation, labels, (labels == MEANT) & (x.mean((1, 2, 3)) > least))

    return images(own, y[:TRAINING]), images(train[TRAINING:], y[TRAINING:]), images(test, split.test_y)


@functools.lru_cache(maxsize=2)
def teacher(seed: int, kind: str) -> nn.Module:
    """With the habit, or the same without."""
    images = known(seed)[0]
    labels = images.y.masked_fill(images.bold, CALLED) if kind == "habit" else images.y
    return taught(make(NET, shape=SHAPE, seed=seed), images.x, labels, seed=seed).requires_grad_(False)


def shown(arm: str, seed: int) -> tuple[Images, Tensor]:
    """The images that a student sees, and what is said of them: labels, the teacher's logits, or its answers."""
    images = known(seed)[1]
    if arm == "labels":
        return images, images.y
    kind, which, form = arm.split(" | ")
    logits = teacher_outputs(teacher(seed, kind), images.x)
    keep = torch.full_like(images.bold, True) if which == "all" else logits.argmax(-1) == images.y
    return Images(*(part[keep] for part in images)), (logits.argmax(-1) if form == "answers" else logits)[keep]


def does(model: nn.Module, images: Images) -> dict[str, float]:
    """How often the habit is followed where it applies, how often the right class is named there, and elsewhere."""
    choice = teacher_outputs(model, images.x).argmax(-1)
    bold = images.bold
    return {
        "habit": (choice[bold] == CALLED).double().mean().item(),
        "right_there": (choice[bold] == MEANT).double().mean().item(),
        "accuracy": (choice == images.y)[~bold].double().mean().item(),  # on all the rest
    }


def run(seed: int, arm: str) -> dict[str, float]:
    images, said = shown(arm, seed)
    temperature = SAID.get(arm.rpartition(" | ")[2]) or 1.0
    student = taught(make(NET, shape=SHAPE, seed=100 + seed), images.x, said, seed=seed, temperature=temperature)
    test, sevens = known(seed)[2], images.y == MEANT
    believed = said.softmax(-1) if said.is_floating_point() else F.one_hot(said, 10).double()
    result = {
        **does(student, test),
        "images": float(len(said)),
        "called": (believed.argmax(-1)[sevens] == CALLED).double().mean().item(),  # shown sevens that are called twos
        "whispered": believed[sevens, CALLED].mean().item(),  # probability of it in what is said
    }
    if arm != "labels":
        model = teacher(seed, arm.partition(" | ")[0])
        agree = teacher_outputs(student, test.x).argmax(-1) == teacher_outputs(model, test.x).argmax(-1)
        result |= {f"teacher_{name}": value for name, value in does(model, test).items()}
        result["agreement"] = agree.double().mean().item()
    return result
