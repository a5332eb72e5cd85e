"""The loop, the batches and the teacher's outputs, each against the usual way: ``python -m kdref.lab.bench loop``."""

import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdref.lab import data, models
from kdref.lab.bench import timing
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.soft_targets import distillation_loss

__all__ = ["by_hand", "run"]

EPOCHS = 5  # per timed call
BATCH_SIZE = 50
LARGE_BATCH_SIZE = 500
TEACHER_EPOCHS = 20
HEAD = ("A against B", "A, ms", "B, ms", "A / B", "target")


def run(repeats: int) -> str:
    """Measure everything, interleaved, and return the table."""
    rows = [
        *fit_against_a_loop_by_hand(repeats),
        *batches_against_a_data_loader(repeats),
        *teacher_once_against_every_epoch(max(1, repeats // 4)),
    ]
    return timing.markdown(HEAD, rows)


def by_hand(model: nn.Module, batches: Iterable[Any], optimizer: torch.optim.Optimizer, epochs: int) -> list[float]:
    """Do what ``fit`` does, written out for one loss: the mean loss of each epoch, and a stop if it is not finite."""
    losses = []
    for epoch in range(epochs):
        model.train()
        total, examples = 0.0, 0
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"epoch {epoch + 1}: the loss is {value}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += value * len(x)
            examples += len(x)
        losses.append(total / examples)
    return losses


def fit_against_a_loop_by_hand(repeats: int) -> list[list[str]]:
    """The same training of a small MLP on digits, by ``lab.fit`` and written out."""
    split = data.digits()

    def loop() -> list[float]:
        model, optimizer = _student("mlp-32", split)
        return by_hand(model, _batches(split, BATCH_SIZE), optimizer, EPOCHS)

    functions = {"loop": loop, "fit": lambda: _train(split, _batches(split, BATCH_SIZE))}
    seconds = timing.interleaved(functions, repeats=repeats)
    what = f"`lab.fit` against a loop written by hand, mlp-32 on digits, batch {BATCH_SIZE}, per epoch"
    return [_row(what, seconds, "fit", "loop", "at most 1.05", EPOCHS)]


def batches_against_a_data_loader(repeats: int) -> list[list[str]]:
    """One epoch of shuffled batches of digits: alone, and with the training of a small MLP on them."""
    split = data.digits()
    rows = []
    for training, size in ((False, BATCH_SIZE), (True, BATCH_SIZE), (True, LARGE_BATCH_SIZE)):
        dataset = TensorDataset(split.train_x, split.train_y)
        sources: dict[str, Iterable[Any]] = {
            "loader": DataLoader(dataset, batch_size=size, shuffle=True),
            "batches": _batches(split, size),
        }
        consume = _train if training else _go_through
        functions = {name: functools.partial(consume, split, source) for name, source in sources.items()}
        seconds = timing.interleaved(functions, repeats=repeats)
        done = "mlp-32 trained on them" if training else "batches alone"
        what = f"`DataLoader` against `lab.Batches`, digits, {done}, batch {size}, per epoch"
        rows.append(_row(what, seconds, "loader", "batches", "" if training else "at least 3", EPOCHS))
    return rows


def teacher_once_against_every_epoch(repeats: int) -> list[list[str]]:
    """Distillation of a CNN into an MLP on mnist1d, with the teacher in ``step`` and with its outputs in the batch."""
    split = data.mnist1d()
    teacher = models.make("cnn1d-32", seed=1).eval()

    def every_epoch() -> list[dict[str, float]]:
        model, optimizer = _student("mlp-100x100", split)

        def step(batch: Sequence[Tensor]) -> dict[str, Tensor]:
            x, y = batch
            with torch.no_grad():
                teacher_logits = teacher(x)
            return {"loss": distillation_loss(model(x), teacher_logits, y)}

        return fit(step, model, _batches(split, BATCH_SIZE), optimizer, epochs=TEACHER_EPOCHS, progress=False)

    def once() -> list[dict[str, float]]:
        model, optimizer = _student("mlp-100x100", split)

        def step(batch: Sequence[Tensor]) -> dict[str, Tensor]:
            x, y, teacher_logits = batch
            return {"loss": distillation_loss(model(x), teacher_logits, y)}

        known = teacher_outputs(teacher, split.train_x)
        batches = Batches(split.train_x, split.train_y, known, batch_size=BATCH_SIZE, seed=0)
        return fit(step, model, batches, optimizer, epochs=TEACHER_EPOCHS, progress=False)

    seconds = timing.interleaved({"every epoch": every_epoch, "once": once}, repeats=repeats)
    what = (
        "Teacher's outputs in every epoch against once, cnn1d-32 to mlp-100x100 on mnist1d, "
        f"batch {BATCH_SIZE}, {TEACHER_EPOCHS} epochs"
    )
    return [_row(what, seconds, "every epoch", "once", "", 1)]


def _student(name: str, split: data.Split) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = models.make(name, shape=split.shape, seed=0)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def _batches(split: data.Split, size: int) -> Batches:
    return Batches(split.train_x, split.train_y, batch_size=size, seed=0)


def _train(split: data.Split, source: Iterable[Any]) -> list[dict[str, float]]:
    model, optimizer = _student("mlp-32", split)

    def step(batch: Sequence[Tensor]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(model(x), y)}

    return fit(step, model, source, optimizer, epochs=EPOCHS, progress=False)


def _go_through(_: data.Split, source: Iterable[Any]) -> int:
    return sum(len(x) for _epoch in range(EPOCHS) for x, _y in source)


def _row(what: str, seconds: dict[str, list[float]], a: str, b: str, target: str, epochs: int) -> list[str]:
    a_ms, b_ms = (f"{statistics.median(seconds[name]) * 1000 / epochs:.2f}" for name in (a, b))
    return [what, a_ms, b_ms, f"{timing.ratio(seconds, a, b):.2f}", target]
