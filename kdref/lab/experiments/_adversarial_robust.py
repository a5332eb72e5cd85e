"""What the experiments on robustness share: plain and robust teachers, smaller students, and attacks on all of them.

Scikit-learn's digits, 8 × 8 pixels from 0 to 1; an attack may change each pixel by ``RADIUS``. Within a seed all
students have the same first weights, order of images, number of steps and optimiser. Lesson:
notebooks/09_adversarial.ipynb.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.training.attack import pgd
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.soft_targets import soft_target_loss

TEACHER, STUDENT = "mlp-100x100", "mlp-32"
SHAPE = (1, 8, 8)
EPOCHS, BATCH_SIZE, RATE = 40, 100, 0.02  # of teachers and students
RADIUS = 0.1  # of pixels from 0 to 1
TRAIN_STEPS, TRAIN_STEP = 5, RADIUS / 3
TEST_STEPS, TEST_STEP, STARTS = 20, RADIUS / 8, 3  # each of the two losses has that many starts
TEMPERATURE = 4.0  # of soft targets, where it is not what is chosen
DEFENSIVE = 100.0  # temperature of defensive distillation: the largest of its paper

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[tuple[Tensor, ...]], dict[str, Tensor]]


class Known(NamedTuple):
    """A seed's images. ``test`` is the validation part while settings are chosen."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@functools.lru_cache(maxsize=2)
def known(seed: int, *, tuning: bool = False) -> Known:
    split = digits(seed)
    if tuning:
        return Known(split.train_x, split.train_y, split.validation_x, split.validation_y)
    return Known(split.train_x, split.train_y, split.test_x, split.test_y)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best wrong class leads, ``(B,)``: a loss whose gradient no confidence makes vanish."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    wrong: Tensor = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return wrong - own


def attacked(model: nn.Module, x: Tensor, y: Tensor, draws: torch.Generator) -> Tensor:
    """The images of a batch as adversarial training shows them: a few steps from a start that is drawn."""
    return pgd(model, x, y, radius=RADIUS, step_size=TRAIN_STEP, steps=TRAIN_STEPS, generator=draws)


def trained(
    model: nn.Sequential,
    images: Known,
    said: Tensor,
    loss: Loss,
    *,
    seed: int,
    under_attack: bool = False,
    decay: float = 0.0,
    rate: float = RATE,
) -> nn.Sequential:
    """Train on what is said of the clean images: the model sees them, or the attacked ones instead."""
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    batches = Batches(images.train_x, images.train_y, said, batch_size=BATCH_SIZE, seed=seed)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(batches))

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, wanted = batch
        seen = attacked(model, x, y, draws) if under_attack else x
        return {"loss": loss(model(seen), wanted)}

    fit(step, model, batches, optimizer, epochs=EPOCHS, after_step=scheduler.step, progress=False)
    return model.eval()


@functools.lru_cache(maxsize=4)
def teacher(seed: int, *, robust: bool) -> nn.Sequential:
    """Trained on labels, of clean or of attacked images; frozen, in eval mode."""
    images, model = known(seed), make(TEACHER, shape=SHAPE, seed=seed)
    trained(model, images, images.train_y, F.cross_entropy, seed=seed, under_attack=robust)
    return model.requires_grad_(False)


def hot(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy at the temperature of defensive distillation; used at temperature 1 the logits are huge."""
    return F.cross_entropy(logits / DEFENSIVE, wanted)


def defensive(images: Known, seed: int, *, rate: float) -> nn.Sequential:
    """Defensive distillation: a student of its teacher's size learns the teacher's probabilities, both when hot."""
    first = trained(make(STUDENT, shape=SHAPE, seed=seed + 2), images, images.train_y, hot, seed=seed, rate=rate)
    said = (teacher_outputs(first, images.train_x) / DEFENSIVE).softmax(dim=-1)
    return trained(make(STUDENT, shape=SHAPE, seed=seed + 1), images, said, hot, seed=seed, rate=rate)


def taught(arm: str, seed: int, setting: float) -> nn.Sequential:
    """The student of an arm; the setting is a weight decay, a smoothing, a temperature or a learning rate."""
    images, student = known(seed), make(STUDENT, shape=SHAPE, seed=seed + 1)
    learn = functools.partial(trained, student, images, seed=seed)
    kind, _, way = arm.partition(", ")
    match kind, way:
        case "labels", "":
            return learn(images.train_y, F.cross_entropy)
        case "labels", "decay":
            return learn(images.train_y, F.cross_entropy, decay=setting)
        case "labels", "smoothed":
            return learn(images.train_y, functools.partial(F.cross_entropy, label_smoothing=setting))
        case "labels", "attacked":
            return learn(images.train_y, F.cross_entropy, under_attack=True, decay=setting)
        case "defensive distillation", "":
            return defensive(images, seed, rate=setting)
        case "plain teacher" | "robust teacher", "" | "decay" | "choices" | "ARD":
            said = teacher_outputs(teacher(seed, robust=kind == "robust teacher"), images.train_x)
            if way == "choices":
                return learn(said.argmax(dim=-1), F.cross_entropy)
            if way == "decay":
                return learn(said, functools.partial(soft_target_loss, temperature=TEMPERATURE), decay=setting)
            soft = functools.partial(soft_target_loss, temperature=setting)
            return learn(said, soft, under_attack=way == "ARD")
    raise ValueError(f"no arm is named {arm!r}")


def withstood(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, *, seed: int) -> Tensor:
    """Which images are classified rightly, clean and after the attack from each of several starts: bool, ``(B,)``."""
    draws = torch.Generator().manual_seed(seed)
    right: Tensor = model(x).argmax(dim=-1) == y
    for _ in range(STARTS):
        found = pgd(model, x, y, radius=RADIUS, step_size=TEST_STEP, steps=TEST_STEPS, loss=loss, generator=draws)
        right = right & (model(found).argmax(dim=-1) == y)
    return right


def vanished(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """At which images the gradient of the cross-entropy is exactly zero in every pixel: bool, ``(B,)``."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
    return (gradient == 0).flatten(1).all(dim=1)


def judged(model: nn.Module, seed: int, *, tuning: bool = False) -> dict[str, float]:
    """Accuracy on clean images and under attack: naive (cross-entropy), better (margin), and what withstands both."""
    images = known(seed, tuning=tuning)
    x, y = images.test_x, images.test_y
    naive, better = (withstood(model, x, y, loss, seed=seed) for loss in (F.cross_entropy, margin))
    shares = {
        "accuracy": teacher_outputs(model, x).argmax(dim=-1) == y,
        "robust_accuracy": naive & better,
        "naive_robust_accuracy": naive,
        "better_robust_accuracy": better,
        "vanished": vanished(model, x, y),
        "train_accuracy": teacher_outputs(model, images.train_x).argmax(dim=-1) == images.train_y,
    }
    return {name: right.double().mean().item() for name, right in shares.items()}


def tried(arm: str, seed: int, *, setting: float = 0.0, tuning: bool = False) -> dict[str, float]:
    """Train the student of an arm, or take a teacher, and attack it; seconds are the student's alone."""
    for robust in (False, True):
        teacher(seed, robust=robust)  # before the clock starts
    start = time.process_time()
    own = arm.removesuffix(" itself")
    model = teacher(seed, robust=own == "robust teacher") if own != arm else taught(arm, seed, setting)
    seconds = time.process_time() - start
    return judged(model, seed, tuning=tuning) | {"seconds": seconds}
