"""Lesson 06's teachers, the councils they form, and the student that a council teaches.

Three teachers see half of an image each, a fourth sees its pixels; some count from 1, some know five digits only. The
student sees the pixels. Within a seed all students have the same first weights, images and order.
Lesson: notebooks/06_multi_teacher.ipynb.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split, digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.multi_teacher import average_logits, confidence_weights, entropy_weights, multi_teacher_loss

EPOCHS, LEARNING_RATE, TEMPERATURE = 10, 0.01, 4.0  # lesson 01's, and τ = 1 beside it: nothing is tuned
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {  # of images (N, 1, 8, 8)
    "Fourier": lambda x: torch.fft.rfft2(x[:, 0]).abs().flatten(1) / 8,
    "rows": lambda x: x[:, 0].sum(2) / 4,
    "columns": lambda x: x[:, 0].sum(1) / 4,
    "pixels": lambda x: x.flatten(1),
}
THREE = ("Fourier", "rows", "columns")
COUNCILS = {
    "three views": THREE,
    "Fourier alone": ("Fourier",),
    "pixels alone": ("pixels",),
    "pixels, 3 seeds": ("pixels", "pixels 1", "pixels 2"),  # with other first weights
    "one off": (*THREE, "pixels, off by one"),
    "two off": ("rows", "columns", "Fourier, off by one", "pixels, off by one"),
    "two halves": ("0 to 4", "5 to 9"),
}
HOWS = ("probabilities", "logits", "entropy", "confidence", "trust from 50 labels")
PLANS = {f"{who} | {how}": (who, how, TEMPERATURE, EPOCHS) for who in COUNCILS for how in HOWS}
PLANS |= {f"three views | {how}, τ = 1": ("three views", how, 1.0, EPOCHS) for how in HOWS[:2]}
PLANS |= {f"{arm}, longer": (*plan[:3], 4 * EPOCHS) for arm, plan in PLANS.items()}
LABELLED = {"50 labels": (50, 50, 10 * EPOCHS), "1,000 labels": (1000, 100, EPOCHS)}  # images, batch, epochs


def fitted(net: nn.Module, x: Tensor, y: Tensor, *, batch_size: int, epochs: int, seed: int) -> nn.Module:
    """Train a network on labels, by cross-entropy; the seed gives the order. Returns the network."""

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(net(batch[0]), batch[1])}

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    fit(step, net, Batches(x, y, batch_size=batch_size, seed=seed), optimizer, epochs=epochs, progress=False)
    return net


def weights_of(how: str, said: Sequence[Mapping[str, Tensor]], split: Split) -> Tensor:
    """Weights (K, N) for the training images, of K teachers' logits on the parts of the split."""
    z = torch.stack([logits["train"] for logits in said])
    if how == "entropy":
        return entropy_weights(z)
    if how == "confidence":
        return confidence_weights(z, split.train_y)
    if how == "trust from 50 labels":  # on images that no teacher was trained on
        new = torch.stack([logits["validation"][:50] for logits in said]).argmax(-1)
        above_chance = ((new == split.validation_y[:50]).float().mean(1) - 0.1).clamp(min=0)
        return (above_chance / above_chance.sum())[:, None].expand(z.shape[:2])
    return torch.full(z.shape[:2], 1 / len(z))  # equal


@functools.lru_cache(maxsize=64)
def teacher(seed: int, name: str) -> Mapping[str, Tensor]:
    """What a teacher says of the train, validation and test images: logits (N, 10). Its name tells what it sees."""
    if name.endswith(", off by one"):
        return {part: z.roll(1, dims=-1) for part, z in teacher(seed, name.removesuffix(", off by one")).items()}
    split, parts = digits(seed), ("train", "validation", "test")
    if " to " in name:  # it knows five digits
        first, last = int(name[0]), int(name[-1])
        x, mine = VIEWS["pixels"], (split.train_y >= first) & (split.train_y <= last)
        net, batch_size = make("mlp-100", shape=split.shape, seed=seed + first), 50
    else:
        view, _, again = name.partition(" ")
        x, mine = VIEWS[view], torch.ones_like(split.train_y, dtype=torch.bool)
        net, batch_size = make("mlp-100", shape=x(split.train_x).shape[1:], seed=seed + 1000 * int(again or 0)), 100
    fitted(net, x(split.train_x[mine]), split.train_y[mine], batch_size=batch_size, epochs=EPOCHS, seed=seed)
    return {part: teacher_outputs(net, x(getattr(split, f"{part}_x"))) for part in parts}


def taught(seed: int, arm: str) -> dict[str, float]:
    """A student without labels, taught by a council: who, how their words are weighed or averaged, at which τ."""
    who, how, temperature, epochs = PLANS[arm]
    split = digits(seed)
    student = make("mlp-32", shape=split.shape, seed=seed)
    council = [teacher(seed, name) for name in COUNCILS[who]]
    z, weights = torch.stack([said["train"] for said in council]), weights_of(how, council, split)
    if how == "logits":  # one teacher, made of all
        z, weights = average_logits(z, weights=weights)[None], torch.ones(1, len(split.train_x))

    def step(batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        x, z, w = batch  # examples come first: z is (B, K, C), w is (B, K)
        return {"loss": multi_teacher_loss(student(x), z.transpose(0, 1), weights=w.T, temperature=temperature)}

    batches = Batches(split.train_x, z.transpose(0, 1), weights.T, batch_size=100, seed=seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=LEARNING_RATE)
    fit(step, student, batches, optimizer, epochs=epochs, progress=False)
    return seen_by(student, split)


def by_labels(seed: int, arm: str) -> dict[str, float]:
    """The same student without a teacher, in as many steps, on the labels of some images."""
    split, (count, size, epochs) = digits(seed), LABELLED[arm]
    student = make("mlp-32", shape=split.shape, seed=seed)
    fitted(student, split.train_x[:count], split.train_y[:count], batch_size=size, epochs=epochs, seed=seed)
    return seen_by(student, split)


def seen_by(student: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy on test images, and on the training images, whose labels the taught have not seen."""
    return {
        "accuracy": measure(student, split.test_x, split.test_y)["accuracy"],
        "training_accuracy": measure(student, split.train_x, split.train_y)["accuracy"],
    }
