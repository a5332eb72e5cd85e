"""The training loop. It knows nothing of distillation: a method is the ``step`` that you pass in.

Lesson: notebooks/01_soft_targets.ipynb.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kdref.lab.training.forward import examples_in
from kdref.lab.training.means import Means
from kdref.lab.training.process import OneProcess
from kdref.lab.training.resume import Checkpoint
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
    accumulate: int = 1,
    clip_norm: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    also: Mapping[str, Any] | None = None,
    look_every: int | None = None,
    process: OneProcess | None = None,
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
        accumulate: Batches per update, at least 1. The gradient is that of the mean over all their examples, also where
            one batch is smaller; of a loss over pairs it is not that of one large batch: pairs between batches lack.
        clip_norm: The whole gradient is shortened to this length before an update. None leaves it.
        checkpoint: A file from which an interrupted training goes on, when it is started by the same call again, to the
            same result bit for bit: weights, optimizer, scheduler, random states, position in the data, rows. Delete
            it to train anew.
        checkpoint_every: Updates from one checkpoint to the next, besides one at the end; None: one an epoch.
        also: What else changes as the training goes on, by name: things with ``state_dict`` and ``load_state_dict``
            (an EMA teacher, a memory, a scheduler that ``after_step`` calls), or generators. Those of ``batches`` are
            found, and so is what ``after_step`` is a method of.
        look_every: Steps from one reading of the terms, and check of the loss, to the next. None: each step on the
            CPU, where it costs nothing, every 50 on an accelerator, which each reading makes idle.
        process: On several processes ``scale.Processes``; ``batches`` are then what this one has of each.

    Returns:
        The rows: ``"epoch"`` (from 1), the example-weighted mean of each term over the batches that gave it, and what
        ``after_epoch`` returned.

    Raises:
        ValueError: If there is no epoch, no batch, no tensor in a batch, or no ``"loss"`` among the terms, a setting is
            out of range, or the checkpoint is damaged or of another training.
        TypeError: If something in ``also`` has no state to keep.
        FloatingPointError: If the loss is not finite, before the update where each step is read; names the epoch and
            the terms at fault. If weights to be kept are not finite: the checkpoint before stays.

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
    numbers = {
        "epochs": epochs,
        "accumulate": accumulate,
        "checkpoint_every": checkpoint_every,
        "look_every": look_every,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}")
    modules = [trainable] if isinstance(trainable, nn.Module) else list(trainable)
    process = OneProcess() if process is None else process
    rows = [] if rows is None else rows
    owner = getattr(after_step, "__self__", None)  # of scheduler.step, the scheduler
    things: dict[str, Any] = {} if scheduler is None else {"scheduler": scheduler}
    things |= {"after_step": owner} if hasattr(owner, "load_state_dict") else {}
    things |= dict(also or {})
    saved = Checkpoint(checkpoint, checkpoint_every, modules, optimizer, batches, things, process, accumulate)
    first = saved.resume(rows)
    with _bar(epochs, progress if process.rank == 0 else False) as bar:
        bar.update(min(first - 1, epochs))
        for epoch in range(first, epochs + 1):
            for module in modules:
                module.train()
            means = Means(epoch, every=look_every)
            position = saved.start_epoch(epoch, means)
            for group in _groups(saved.iterate(), accumulate):
                _update(step, group, modules, optimizer, means, process, clip_norm)
                if after_step is not None:
                    after_step()
                position += len(group)
                saved.after_update(position, means, rows)
            row = {"epoch": float(epoch), **means.of(process.gathered(means.totals()))}
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(row["loss"])
            elif scheduler is not None:
                scheduler.step()
            if after_epoch is not None:
                row.update(after_epoch(epoch) or {})
            rows.append(row)
            saved.after_epoch(epoch, rows, last=epoch == epochs)
            bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            bar.update()
    return rows


def _update(
    step: Callable[[Any], Mapping[str, Tensor]],
    group: Sequence[Any],
    modules: Sequence[nn.Module],
    optimizer: Optimizer,
    means: Means,
    process: OneProcess,
    clip_norm: float | None,
) -> None:
    """One step of the optimizer, with the gradient of the mean over all examples of a group of batches."""
    sizes = [examples_in(batch) for batch in group]
    for number, (batch, size) in enumerate(zip(group, sizes, strict=True)):
        with process.waiting(modules) if number < len(group) - 1 else nullcontext():
            terms = step(batch)
            means.add(terms, size)
            if number == 0:
                optimizer.zero_grad(set_to_none=True)
            process.backward(terms["loss"] if len(group) == 1 else terms["loss"] * (size / sum(sizes)))
    if clip_norm is not None:
        process.clip(optimizer, clip_norm)
    optimizer.step()


def _groups(batches: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(islice(batches, size)):
        yield group


def _bar(epochs: int, progress: bool | None) -> Any:
    from tqdm.auto import tqdm  # an ipywidgets bar in a notebook, a text bar on a terminal

    shown = progress_on() if progress is None else progress
    return tqdm(total=epochs, unit="epoch", leave=False, disable=not shown)
