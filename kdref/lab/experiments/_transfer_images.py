"""What the experiments on images share: a teacher with BatchNorm, a smaller student, and what the student is shown.

MNIST's digits without their margin, 10 × 10 pixels, standardised: the mean and deviation are all that anybody who uses
the teacher has to know of its data. Within a seed all students have the same first weights, number of steps, optimiser
and schedule. Lesson: notebooks/10_transfer_data.ipynb.
"""

import functools
import itertools
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import digits, mnist5k
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.soft_targets import soft_target_loss
from kdref.transfer_data import (
    activation_loss,
    batchnorm_statistics_loss,
    information_entropy_loss,
    one_hot_loss,
    total_variation_loss,
    zero_shot_generator_loss,
)

TEACHER, STUDENT = "cnn2d-16", "cnn2d-8"
SHAPE = (1, 10, 10)
STEPS, BATCH_SIZE, LEARNING_RATE = 300, 50, 0.01  # teacher and students
TEMPERATURE = 4.0
TRAINING = 1500  # images the teacher learns from, of 3,000
NOISE = 32  # numbers that a generator makes an image of
STUDENT_STEPS = 5  # of ZSKT, for each one of its generator; the authors take 10
INVERTED, INVERSION_STEPS, INVERSION_RATE = 200, 150, 0.1
VARIATION = 0.05  # weight of the total variation

Batch = tuple[Tensor, Tensor]  # images, and what is said of them


class Known(NamedTuple):
    """A seed's images. ``test`` is the validation part while settings are chosen."""

    train_x: Tensor
    train_y: Tensor
    other_x: Tensor  # of the same kind, without labels, and unknown to the teacher
    test_x: Tensor
    test_y: Tensor
    mean: Tensor
    deviation: Tensor


def small(images: Tensor) -> Tensor:
    """Cut MNIST's margin of four pixels off, and take means of 2 × 2: (N, 1, 28, 28) to (N, 1, 10, 10)."""
    return F.avg_pool2d(images[..., 4:24, 4:24], 2)


@functools.lru_cache(maxsize=2)
def known(seed: int, *, tuning: bool = False) -> Known:
    split = mnist5k(seed)
    train, test = small(split.train_x), small(split.validation_x if tuning else split.test_x)
    mean, deviation = train[:TRAINING].mean(), train[:TRAINING].std()
    train, test = (train - mean) / deviation, (test - mean) / deviation
    y = split.validation_y if tuning else split.test_y
    return Known(train[:TRAINING], split.train_y[:TRAINING], train[TRAINING:], test, y, mean, deviation)


@functools.lru_cache(maxsize=2)
def teacher(seed: int) -> nn.Sequential:
    """Trained on labels, frozen, in eval mode."""
    model, images = make(TEACHER, shape=SHAPE, seed=seed), known(seed)
    learn(model, loop(images.train_x, images.train_y, seed=seed), labels=True)
    return model.eval().requires_grad_(False)


def loop(images: Tensor, said: Tensor, *, seed: int) -> Iterator[Batch]:
    """Batches without end."""
    batches = Batches(images, said, batch_size=BATCH_SIZE, seed=seed, drop_last=True)
    return ((x, y) for epoch in itertools.repeat(batches) for x, y in epoch)


def optimizer_for(model: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)


def learn(model: nn.Module, batches: Iterator[Batch], *, labels: bool = False, temperature: float = 4.0) -> None:
    """Take ``STEPS`` steps on labels, or on a teacher's logits."""
    optimizer, scheduler = optimizer_for(model)
    model.train()
    for _, (x, said) in zip(range(STEPS), batches, strict=False):
        logits = model(x)
        loss = F.cross_entropy(logits, said) if labels else soft_target_loss(logits, said, temperature=temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()


def generator_for(seed: int) -> nn.Sequential:
    """Noise (N, 32) to standardised images (N, 1, 10, 10), as DAFL's, smaller: its last layer fixes mean and spread."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(NOISE, 16 * 25),
            nn.Unflatten(1, (16, 5, 5)),
            nn.BatchNorm2d(16),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(1, affine=False),
        )


class Watched:
    """What passes through the teacher: the input of each BatchNorm layer, and the features before the classifier."""

    def __init__(self, model: nn.Sequential) -> None:
        self.model, self.inputs, self.features = model, dict[nn.Module, Tensor](), torch.empty(0)
        layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        self.handles = [layer.register_forward_pre_hook(self._keep) for layer in layers]
        self.handles.append(model.get_submodule("flatten").register_forward_hook(self._keep_features))

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.inputs[layer] = inputs[0]

    def _keep_features(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.features = output

    def statistics_loss(self) -> Tensor:
        """Of the images that went through last, over all BatchNorm layers."""
        return torch.stack([batchnorm_statistics_loss(x, layer) for layer, x in self.inputs.items()]).sum()


def generator_step(generator: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, *others: nn.Module) -> None:
    """Change the generator alone: the gradient that the others got on its way is thrown away."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(generator.parameters(), 5.0)
    optimizer.step()
    for other in others:
        other.zero_grad()


def dafl_batches(model: nn.Sequential, seed: int, *, rate: float, statistics: float = 0.0) -> Iterator[Batch]:
    """Images of a generator that is trained meanwhile by DAFL's losses, with or without BatchNorm statistics."""
    generator, draws = generator_for(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(generator.parameters(), lr=rate)
    with Watched(model) as watched:
        while True:
            images = generator(torch.randn(BATCH_SIZE, NOISE, generator=draws))
            logits = model(images)
            loss = one_hot_loss(logits) + 5 * information_entropy_loss(logits)
            loss = loss + 0.1 * activation_loss(watched.features)
            if statistics:
                loss = loss + statistics * watched.statistics_loss()
            generator_step(generator, optimizer, loss)
            yield images.detach(), logits.detach()


def zero_shot_batches(model: nn.Sequential, student: nn.Module, seed: int, *, rate: float) -> Iterator[Batch]:
    """Images of a generator that looks for what the student has not learnt; each batch is shown several times."""
    generator, draws = generator_for(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(generator.parameters(), lr=rate)
    while True:
        images = generator(torch.randn(BATCH_SIZE, NOISE, generator=draws))
        logits = model(images)
        generator_step(generator, optimizer, zero_shot_generator_loss(student(images), logits), student)
        for _ in range(STUDENT_STEPS):
            yield images.detach(), logits.detach()


@torch.no_grad()
def fresh_batches(model: nn.Module, seed: int, *, generator: nn.Module | None = None) -> Iterator[Batch]:
    """Gaussian noise, standardised as the images are; or what a generator that nobody trains makes of noise."""
    draws = torch.Generator().manual_seed(seed)
    while True:
        if generator is None:
            images = torch.randn(BATCH_SIZE, *SHAPE, generator=draws)
        else:
            images = generator(torch.randn(BATCH_SIZE, NOISE, generator=draws))
        yield images, model(images)


def inverted(model: nn.Sequential, seed: int, *, statistics: float, count: int = INVERTED) -> Tensor:
    """Noise turned into images by the teacher's gradient (DeepInversion): the best it was, not the last."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randn(count, *SHAPE, generator=draws).requires_grad_()
    wanted = torch.arange(count) % 10
    optimizer = torch.optim.Adam([images], lr=INVERSION_RATE)
    least, best = float("inf"), images.detach().clone()
    with Watched(model) as watched:
        for _ in range(INVERSION_STEPS):
            shifts = torch.randint(-1, 2, (2,), generator=draws).tolist()
            moved = images.roll(shifts, dims=(2, 3))
            loss = F.cross_entropy(model(moved), wanted) + statistics * watched.statistics_loss()
            loss = loss + VARIATION * total_variation_loss(moved)
            if loss.item() < least:
                least, best = loss.item(), images.detach().clone()  # detach alone would follow the next step
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return best


def other_digits(seed: int) -> Tensor:
    """Scikit-learn's digits, enlarged to 10 × 10 and standardised by their own mean and deviation."""
    split = digits(seed)
    images = torch.cat([split.train_x, split.validation_x, split.test_x])[:TRAINING]
    images = F.interpolate(images, size=SHAPE[1:], mode="bilinear")
    return (images - images.mean()) / images.std()


def rung(arm: str, seed: int, student: nn.Module, setting: float) -> Iterator[Batch]:
    """What the student of an arm is shown, batch by batch; labels are added by ``run`` where there are any."""
    model, images = teacher(seed), known(seed)
    match arm:
        case "labels":
            return loop(images.train_x, images.train_y, seed=seed)
        case "training images" | "other images" | "another set" | "inverted (DeepInversion)":
            x = {
                "training images": lambda: images.train_x,
                "other images": lambda: images.other_x,
                "another set": lambda: other_digits(seed),
                "inverted (DeepInversion)": lambda: inverted(model, seed, statistics=setting),
            }[arm]()
            return loop(x, teacher_outputs(model, x), seed=seed)
        case "noise":
            return fresh_batches(model, seed)
        case "untrained generator":
            return fresh_batches(model, seed, generator=generator_for(seed))
        case "generated (DAFL)":
            return dafl_batches(model, seed, rate=setting)
        case "generated (DAFL, statistics)":
            return dafl_batches(model, seed, rate=setting, statistics=1.0)
        case "generated (ZSKT)":
            return zero_shot_batches(model, student, seed, rate=setting)
    raise ValueError(f"no rung is named {arm!r}")


def remembering(batches: Iterator[Batch], kept: list[Batch]) -> Iterator[Batch]:
    """The same batches, the last hundred of which are kept."""
    for batch in batches:
        kept.append(batch)
        del kept[:-100]
        yield batch


def climbed(arm: str, seed: int, *, setting: float = 0.0, tuning: bool = False) -> dict[str, float]:
    """Teach a student on one rung and measure it on images that nobody learnt from."""
    model, student = teacher(seed), make(STUDENT, shape=SHAPE, seed=seed + 1)
    images, kept, start = known(seed, tuning=tuning), list[Batch](), time.process_time()
    temperature = 1.0 if arm == "generated (ZSKT)" else TEMPERATURE
    batches = remembering(rung(arm, seed, student, setting), kept)
    learn(student, batches, labels=arm == "labels", temperature=temperature)
    seconds = time.process_time() - start
    own, theirs = teacher_outputs(student, images.test_x), teacher_outputs(model, images.test_x)
    said = teacher_outputs(model, torch.cat([x for x, _ in kept])).softmax(-1)
    named = said.argmax(-1).bincount(minlength=10).double() / len(said)
    return {
        "accuracy": (own.argmax(-1) == images.test_y).double().mean().item(),
        "agreement": (own.argmax(-1) == theirs.argmax(-1)).double().mean().item(),
        "teacher_accuracy": (theirs.argmax(-1) == images.test_y).double().mean().item(),
        "seconds": seconds,
        "confidence": said.amax(-1).double().mean().item(),
        "classes_named": (-(named * named.clamp(min=1e-30).log()).sum()).exp().item(),
    }
