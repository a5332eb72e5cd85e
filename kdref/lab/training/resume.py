"""What a training depends on besides its code, in one file, so that an interrupted one goes on to the same result.

Lesson: notebooks/17_scale_out.ipynb.
"""

import os
import pickle
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdref.lab.data.files import temporary_beside
from kdref.lab.training.means import Means
from kdref.lab.training.process import OneProcess

__all__ = ["Checkpoint", "generators_in", "random_states", "set_random_states"]


def random_states(generators: Sequence[torch.Generator] = ()) -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators, on the accelerator too, and of those given.

    Returns:
        Tensors, numbers and strings, so that a file of them can be read without running code.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  others draw from it
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "device": [] if accelerator is None else torch.get_device_module(accelerator).get_rng_state_all(),
        "given": [generator.get_state() for generator in generators],
    }


def set_random_states(states: Mapping[str, Any], generators: Sequence[torch.Generator] = ()) -> None:
    """Put back what ``random_states`` gave.

    Raises:
        ValueError: If there are not as many generators as there were.
    """
    if len(states["given"]) != len(generators):
        raise ValueError(f"the batches draw from {len(generators)} generators, and drew from {len(states['given'])}")
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["device"]:
        torch.get_device_module().set_rng_state_all(states["device"])
    for generator, state in zip(generators, states["given"], strict=True):
        generator.set_state(state)


def generators_in(batches: Any) -> list[torch.Generator]:
    """Generators that batches are drawn with: their own, and those of a DataLoader's samplers, each once."""
    found: list[torch.Generator] = []
    layers = [batches]
    for layer in layers:  # grows while it is walked
        held = getattr(layer, "__dict__", {})
        own = [held[name] for name in ("generator", "_generator") if isinstance(held.get(name), torch.Generator)]
        found += [generator for generator in own if not any(generator is other for other in found)]
        inner = [held[name] for name in ("batches", "batch_sampler", "sampler") if held.get(name) is not None]
        layers += [value for value in inner if not any(value is other for other in layers)]
    return found


class Checkpoint:
    """The checkpoint of one training: where it stands, and how it goes on.

    Args:
        path: The file. None: nothing is kept.
        every: Updates from one to the next; None: one an epoch.
        modules: Whose weights are kept.
        optimizer: Kept too.
        batches: Whose random generators are kept, and whose position.
        things: What else is kept, by name.
        process: Which process of how many this is.
        accumulate: Batches per update.
    """

    def __init__(
        self,
        path: str | Path | None,
        every: int | None,
        modules: Sequence[nn.Module],
        optimizer: Optimizer,
        batches: Iterable[Any],
        things: Mapping[str, Any],
        process: OneProcess,
        accumulate: int,
    ) -> None:
        """See the class."""
        self._path, self._every = None if path is None else Path(path), every
        self._modules, self._optimizer, self._things, self._process = modules, optimizer, things, process
        self._batches, self._generators = batches, generators_in(batches)
        self._own = [thing for thing in things.values() if isinstance(thing, torch.Generator)]  # each process has its
        self._settings = {"processes": process.count, "accumulate": accumulate}
        self._epoch, self._position, self._updates = 1, 0, 0
        self._start: dict[str, Any] = {}  # random states when the epoch began
        self._resumed: dict[str, Any] | None = None  # what is put back as soon as the epoch has begun

    def resume(self, rows: list[dict[str, float]]) -> int:
        """Put everything back, if there is a checkpoint.

        Returns:
            The number of the epoch to go on with.
        """
        if self._path is None:
            return 1
        _taken_from(self._things)  # what can't be kept is named now, not after an hour
        state = _read(self._path)
        stands = self._process.gathered(state and state["updates"])
        if any(other != stands[0] for other in stands):
            raise ValueError(f"the processes read different checkpoints: {self._path} must be on a disk of all of them")
        if state is None:
            return 1
        try:
            if state["settings"] != self._settings:
                raise ValueError(f"it was made with {state['settings']}, and this is {self._settings}")
            self._process.set_states(self._modules, self._optimizer, state["modules"], state["optimizer"])
            _put_back(self._things, state["things"])
            rank = self._process.rank
            self._resumed = {**state["random"][rank], "means": state["means"][rank], "position": state["position"]}
            set_random_states(self._resumed["now"], self._own)
            set_random_states(self._resumed["start"], self._generators)
        except (RuntimeError, LookupError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{self._path} is of another training ({reason}): delete it to start anew") from error
        rows.extend(row for row in state["rows"] if row not in rows)
        self._updates = state["updates"]
        return int(state["epoch"])

    def start_epoch(self, epoch: int, means: Means) -> int:
        """Note where the epoch starts.

        Returns:
            How many of its batches have been trained on already.
        """
        self._epoch, self._position = epoch, 0
        if self._path is not None:
            self._start = random_states(self._generators)
        if self._resumed is not None:
            self._position = self._resumed["position"]
            means.go_on_from(self._resumed["means"])
        return self._position

    def iterate(self) -> Iterator[Any]:
        """The epoch's batches, from where it stands."""
        batches = iter(self._batches)
        for number in range(self._position):
            if next(batches, self) is self:
                raise ValueError(f"batches gave {number}, and {self._position} were trained on: these are others")
        if self._resumed is not None and self._position:
            set_random_states(self._resumed["now"], self._own)  # skipping has drawn numbers too
        self._resumed = None
        yield from batches

    def after_update(self, position: int, means: Means, rows: Sequence[Mapping[str, float]]) -> None:
        """Write a checkpoint, if it is time."""
        self._position, self._updates = position, self._updates + 1
        if self._path is not None and self._every is not None and self._updates % self._every == 0:
            self._write(self._epoch, means.totals(), rows)

    def after_epoch(self, epoch: int, rows: Sequence[Mapping[str, float]], *, last: bool) -> None:
        """Write a checkpoint, if it is time: the next epoch's start."""
        if self._path is not None and (last or self._every is None):
            self._position = 0
            self._start = random_states(self._generators)
            self._write(epoch + 1, {"sums": {}, "counts": {}}, rows)

    def _write(self, epoch: int, totals: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> None:
        assert self._path is not None
        modules, optimizer = self._process.states(self._modules, self._optimizer)
        random = self._process.gathered({"start": self._start, "now": random_states(self._own)})
        counted = self._process.gathered(totals)
        if self._process.rank == 0:
            self._write_gathered(modules, {"optimizer": optimizer, "random": random, "means": counted}, epoch, rows)
        self._process.gathered(None)  # nobody goes on, and may fail, before the file is whole

    def _write_gathered(
        self, modules: list[Any], content: dict[str, Any], epoch: int, rows: Sequence[Mapping[str, float]]
    ) -> None:
        assert self._path is not None
        bad = [n for state in modules for n, value in state.items() if torch.is_tensor(value) and not _finite(value)]
        if bad:
            raise FloatingPointError(
                f"epoch {self._epoch}: {', '.join(bad[:3])} not finite: {self._path} stays as it was"
            )
        content |= {"settings": self._settings, "epoch": epoch, "position": self._position, "updates": self._updates}
        things, kept = _taken_from(self._things), [dict(row) for row in rows]
        _write(self._path, content | {"modules": modules, "things": things, "rows": kept})


def _taken_from(things: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each thing, by name.

    Raises:
        TypeError: If a thing has none.
    """
    wrong = [name for name, thing in things.items() if not isinstance(thing, torch.Generator) and not _has_state(thing)]
    if wrong:
        raise TypeError(f"a checkpoint can't hold {', '.join(wrong)}: state_dict and load_state_dict are missing there")
    # generators are kept with the random states
    return {n: None if isinstance(t, torch.Generator) else t.state_dict() for n, t in things.items()}


def _put_back(things: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    """Put back what ``_taken_from`` gave.

    Raises:
        ValueError: If the names are others.
    """
    if things.keys() != states.keys():
        raise ValueError(f"it holds the state of {sorted(states)}, and {sorted(things)} are to be restored")
    for name, thing in things.items():
        if not isinstance(thing, torch.Generator):
            thing.load_state_dict(states[name])
        if isinstance(thing, LRScheduler):  # else it warns that the optimizer, new in this process, took no step yet
            thing.optimizer._opt_called = True  # type: ignore[attr-defined]


def _write(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a crash leaves the one before, or this one, and never a part."""
    with temporary_beside(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it has the name: a power cut is an interruption too
        temporary.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    """The checkpoint's content, on the CPU; None where there is none.

    Raises:
        ValueError: If the file is no checkpoint, or damaged.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["epoch"], state["random"]
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no checkpoint of fit, or damaged ({reason}): delete it to start anew") from error
    return state


def _has_state(thing: object) -> bool:
    return hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")


def _finite(value: torch.Tensor) -> bool:
    return bool(value.isfinite().all())
