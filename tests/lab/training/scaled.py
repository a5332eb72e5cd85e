"""What the tests of scale.py run on several processes: ``torchrun --nproc-per-node 2 -m tests.lab.training.scaled``.

Each case gives tensors and numbers that the first process writes to a file, beside what the others say differently.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.process import OneProcess
from kdref.soft_targets import distillation_loss
from tests import checks

X, Y = checks.randn(24, 5, seed=1), checks.labels_for(24, 3)
SGD = partial(torch.optim.SGD, lr=0.3, momentum=0.9)
ADAM = partial(torch.optim.AdamW, lr=0.05)


class Interrupted(Exception):
    """Somebody stopped it."""


def network(seed: int, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(dropout))
        return nn.ModuleDict({"body": body, "head": nn.Linear(7, 3)}).double()


class Network(nn.Module):
    """A body of blocks and a head, as most are."""

    def __init__(self, seed: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.parts = network(seed, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.parts["head"](self.parts["body"](x))


def train(
    process: Any = None,
    *,
    batches: Any = None,
    batch_size: int = 12,
    optimizer: Callable[..., Any] = SGD,
    dropout: float = 0.0,
    stop_after: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Distil on one process, or on several: everything else is the same."""
    one = process is None
    torch.manual_seed(process.rank if process else 0)
    student, teacher = Network(1 if one else 1 + process.rank, dropout), Network(9)  # others start with the first's
    batches = Batches(X, Y, batch_size=batch_size, seed=3) if batches is None else batches
    if one:
        model, made = student, optimizer(student.parameters())
        targets = teacher.eval().requires_grad_(False)
    else:
        model, made = process.student(student, optimizer)
        targets, batches = process.teacher(teacher), process.share(batches)
    done = 0

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        loss = distillation_loss(model(x), targets(x), y, soft_weight=0.5, temperature=2.0)
        return {"loss": loss, "mean": x.mean()}

    def count() -> None:
        nonlocal done
        done += 1
        if done == stop_after:
            raise Interrupted

    process = process or OneProcess()
    schedule = torch.optim.lr_scheduler.StepLR(made, 1, gamma=0.7)
    settings = {"epochs": 3, "scheduler": schedule, "after_step": count, "progress": False, **settings}
    rows = fit(step, model, batches, made, process=process, **settings)
    weights, of_optimizer = process.states([model], made)
    return {"weights": weights[0], "optimizer": of_optimizer.get("state"), "rows": rows}


def resumed(process: Any, folder: Path, name: str, **settings: Any) -> dict[str, Any]:
    """The same training twice: at once, and interrupted at each update from its checkpoint on."""
    at_once = train(process, optimizer=ADAM, dropout=0.5, accumulate=2, clip_norm=1.0, **settings)
    for _ in range(2):
        try:
            again = train(
                process,
                optimizer=ADAM,
                dropout=0.5,
                accumulate=2,
                clip_norm=1.0,
                checkpoint=folder / f"{name}.pt",
                checkpoint_every=1,
                stop_after=4,
                **settings,
            )
        except Interrupted:
            continue
    return {"at once": at_once, "again": again}


def loader(process: Any) -> Any:
    """A DataLoader, each process loading its rows only."""
    sampler = RandomSampler(X, generator=torch.Generator().manual_seed(4))
    share = process.share(BatchSampler(sampler, 12, drop_last=True)) if process else BatchSampler(sampler, 12, True)
    return DataLoader(TensorDataset(X, Y), batch_sampler=share)


class AsItIs:
    """Processes whose batches are shared already."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def share(self, batches: Any) -> Any:
        return batches


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "nothing is wrong"


def main(folder: Path) -> None:
    from kdref.lab.training.scale import Processes

    found: dict[str, Any] = {}
    with Processes(accelerator="cpu") as whole:
        found["plain"] = train(whole)
        found["accumulated"] = train(whole, batch_size=6, accumulate=2, clip_norm=0.3)
        found["loaded"] = train(AsItIs(whole), batches=loader(whole))
        found["resumed"] = resumed(whole, folder, "whole", batch_size=6)
        parts = Processes(accelerator="cpu", sharded=True)
        found["sharded"] = train(parts)
        found["sharded accumulated"] = train(parts, batch_size=6, accumulate=2, clip_norm=0.3)
        found["sharded resumed"] = resumed(parts, folder, "parts", batch_size=6)
        teacher = parts.teacher(Network(9))
        found["teacher"] = {"logits": teacher(X), "training": teacher.train().training}
        seven = Batches(X[:7], batch_size=7)
        found["unequal"] = {"said": refused(lambda: list(whole.share(seven)))}
        other = Batches(X, batch_size=12, seed=whole.rank)
        found["other order"] = {"said": refused(lambda: list(whole.share(other)))}
        other = BatchSampler(RandomSampler(X, generator=torch.Generator().manual_seed(whole.rank)), 12, False)
        found["other indices"] = {"said": refused(lambda: list(whole.share(other)))}
        for name, sharded in (("half", False), ("half sharded", True)):
            half = Processes(accelerator="cpu", precision="bf16-mixed", sharded=sharded)
            single = Batches(X.float(), Y, batch_size=12, seed=3)
            found[name] = train(Single(half), batches=single)
        everybody = whole.gathered(found["plain"]["weights"])
        found["equal everywhere"] = {"weights": everybody}
        if whole.rank == 0:
            torch.save(found, folder / "found.pt")


class Single(AsItIs):
    """Networks in float32 for processes that take no float64."""

    def student(self, module: nn.Module, make_optimizer: Any) -> Any:
        return self._process.student(module.float(), make_optimizer)

    def teacher(self, module: nn.Module) -> Any:
        return self._process.teacher(module.float())

    def share(self, batches: Any) -> Any:
        return self._process.share(batches)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
