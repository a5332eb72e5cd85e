"""What the experiments of lesson 02 share: data, teachers and one way to train a student, on MNIST-1D.

Within a seed every student has the same first weights, data order, optimiser and schedule; only its loss differs.
Lesson: notebooks/02_response_based.ipynb.
"""

import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from kdref.lab.data import Split, mnist1d
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.response import label_smoothing_loss

BATCH_SIZE = 250
TEACHER_EPOCHS = 30
EPOCHS = {"mlp-100x100": 100, "cnn1d-8": 50}  # chosen on validation data, with seeds that are used nowhere else
DEFAULT_EPOCHS = 100

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # student's logits, teacher's logits, labels


@functools.lru_cache(maxsize=2)
def parts(validation: int = 0) -> Split:
    """MNIST-1D; with validation examples set aside, these take the test set's place, so tuning can't see it."""
    split = mnist1d(validation=validation)
    if not validation:
        return split
    x, y = split.validation_x, split.validation_y
    return Split(split.name, split.classes, split.train_x, split.train_y, x, y, x, y)


@functools.lru_cache(maxsize=6)
def teacher(
    seed: int, name: str = "cnn1d-32", *, epochs: int = TEACHER_EPOCHS, smoothing: float = 0.0, validation: int = 0
) -> nn.Module:
    """A trained teacher, the same object for every arm of a seed."""
    split, model = parts(validation), make(name, seed=seed)

    def loss(logits: Tensor, _: Tensor, labels: Tensor) -> Tensor:
        return label_smoothing_loss(logits, labels, smoothing=smoothing)

    train(model, loss, split.train_x, split.train_y, split.train_y, seed=seed, epochs=epochs)
    return model.eval()


@functools.lru_cache(maxsize=6)
def logits(
    seed: int, name: str = "cnn1d-32", *, epochs: int = TEACHER_EPOCHS, smoothing: float = 0.0, validation: int = 0
) -> tuple[Tensor, Tensor]:
    """The teacher's logits on the training and on the test inputs."""
    model = teacher(seed, name, epochs=epochs, smoothing=smoothing, validation=validation)
    split = parts(validation)
    return teacher_outputs(model, split.train_x), teacher_outputs(model, split.test_x)


def train(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    teacher_logits: Tensor,
    *,
    seed: int,
    epochs: int,
    weight_decay: float = 0.0,
    also: Iterable[nn.Parameter] = (),
) -> None:
    """Train a model in place: AdamW from 0.01 along a cosine, batches of 250."""
    parameters = [*model.parameters(), *also]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        inputs, labels, targets = batch
        return {"loss": loss(model(inputs), targets, labels)}

    batches = Batches(x, y, teacher_logits, batch_size=BATCH_SIZE, seed=seed)
    fit(step, model, batches, optimizer, epochs=epochs, scheduler=scheduler, progress=False)


def taught(
    name: str,
    loss: Loss,
    *,
    seed: int,
    targets: tuple[Tensor, Tensor],
    epochs: int | None = None,
    validation: int = 0,
    weight_decay: float = 0.0,
    also: Iterable[nn.Parameter] = (),
) -> dict[str, float]:
    """Train a student by a loss and measure it on the test inputs, at the last epoch.

    ``targets`` are the teacher's logits on the training and on the test inputs.
    """
    split, student = parts(validation), make(name, seed=100 + seed)
    epochs = EPOCHS.get(name, DEFAULT_EPOCHS) if epochs is None else epochs
    train(
        student,
        loss,
        split.train_x,
        split.train_y,
        targets[0],
        seed=seed,
        epochs=epochs,
        weight_decay=weight_decay,
        also=also,
    )
    result = measure(student, split.test_x, split.test_y, teacher_logits=targets[1])
    return {**result, "training_accuracy": measure(student, split.train_x, split.train_y)["accuracy"]}
