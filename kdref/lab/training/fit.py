"""The training loop. It knows nothing of distillation: a method is the ``step`` that you pass in.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kdref.lab.training.forward import examples_in
from kdref.lab.training.session import progress_on

__all__ = ["fit"]


def fit(
    step: Callable[[Any], Mapping[str, Tensor]],
    trainable: nn.Module | Sequence[nn.Module],
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    epochs: int,
    scheduler: LRScheduler | None = None,
    after_step: Callable[[], object] | None = None,
    after_epoch: Callable[[int], Mapping[str, float] | None] | None = None,
    rows: list[dict[str, float]] | None = None,
    progress: bool | None = None,
) -> list[dict[str, float]]:
    """Train for some epochs and return one row of means per epoch.

    Only what is in ``trainable`` is put in train mode, at the start of every epoch; a teacher that ``step`` uses
    stays as you left it, so put it in eval mode first.

    Args:
        step: Takes a batch, returns named scalar terms, among them ``"loss"``, which is minimised.
        trainable: The module, or modules, being trained.
        batches: Iterated anew each epoch. A batch is a tensor, examples first, or a tuple, list, mapping or dataclass
            that holds some. The first axis of its first tensor (or NumPy array) counts its examples.
        optimizer: Holds the parameters to update.
        epochs: How many times ``batches`` is gone through, at least 1.
        scheduler: Stepped once after each epoch; ``ReduceLROnPlateau`` with the epoch's ``"loss"``. For a schedule by
            steps pass ``after_step=scheduler.step``.
        after_step: Called without arguments after each update (an EMA teacher's ``update``, say).
        after_epoch: Called with the epoch's number; the mapping it returns joins the row.
        rows: A list to append the rows to, so that they survive an interrupted cell. A new one by default.
        progress: True or False shows or hides the bar; None follows the environment variable ``KDREF_PROGRESS``.

    Returns:
        The rows: ``"epoch"`` (from 1), the example-weighted mean of each term over the batches that gave it, and what
        ``after_epoch`` returned.

    Raises:
        ValueError: If there is no epoch, no batch, no tensor in a batch, or no ``"loss"`` among the terms.
        FloatingPointError: If the loss is not finite, before the update; names the epoch and the terms at fault.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1)
        >>> batches = [(torch.ones(4, 1), torch.ones(4, 1))]
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> def step(batch):
        ...     x, y = batch
        ...     return {"loss": nn.functional.mse_loss(model(x), y)}
        >>> rows = fit(step, model, batches, optimizer, epochs=20, progress=False)
        >>> rows[-1]["loss"] < rows[0]["loss"]
        True
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    modules = [trainable] if isinstance(trainable, nn.Module) else list(trainable)
    rows = [] if rows is None else rows
    with _bar(epochs, progress) as bar:
        for epoch in range(1, epochs + 1):
            for module in modules:
                module.train()
            row = {"epoch": float(epoch), **_train_epoch(step, batches, optimizer, after_step, epoch)}
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(row["loss"])
            elif scheduler is not None:
                scheduler.step()
            if after_epoch is not None:
                row.update(after_epoch(epoch) or {})
            rows.append(row)
            bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            bar.update()
    return rows


def _train_epoch(
    step: Callable[[Any], Mapping[str, Tensor]],
    batches: Iterable[Any],
    optimizer: Optimizer,
    after_step: Callable[[], object] | None,
    epoch: int,
) -> dict[str, float]:
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}  # a term may be missing in some batches: its mean is over the others
    for batch in batches:
        size = examples_in(batch)
        terms = step(batch)
        if "loss" not in terms:
            raise ValueError(f"step must return a term named 'loss', got {sorted(terms)}")
        values = {name: value.item() for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(_blame(values, epoch))
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        optimizer.step()
        if after_step is not None:
            after_step()
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value * size
            counts[name] = counts.get(name, 0) + size
    if not counts.get("loss"):
        raise ValueError(
            "batches gave no batch in this epoch: pass something that can be iterated anew, not a generator"
        )
    return {name: total / counts[name] for name, total in sums.items()}


def _blame(values: Mapping[str, float], epoch: int) -> str:
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    named = ", ".join(f"'{name}' is {value}" for name, value in bad.items() if name != "loss" or len(bad) == 1)
    remedy = "The weights are as before this step: look at the inputs, or lower the learning rate"
    return f"epoch {epoch}: term {named}. {remedy}"


def _bar(epochs: int, progress: bool | None) -> Any:
    from tqdm.auto import tqdm  # an ipywidgets bar in a notebook, a text bar on a terminal

    shown = progress_on() if progress is None else progress
    return tqdm(total=epochs, unit="epoch", leave=False, disable=not shown)
