"""Losses on several processes against one; each process computes the training with whole batches too, and compares.

``python -m tests.lab.training.data_parallel`` writes the table in docs/data-parallel.md anew.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from kdref.lab.data.files import write_whole
from kdref.lab.training.gather import gather_with_gradient
from tests.lab.training.parallel_cases import ALL_ROWS, BATCH, CASES, LABELS, MASK, STEPS, Case, Student, X, targets

FILE = Path(__file__).resolve().parents[3] / "docs" / "data-parallel.md"
COLUMNS = ("lesson", "loss", "needs gathering", "weights, 2 local batches", "weights, 3 local batches")
KEYS = ("loss", "gradient", "weights")
EQUAL = 1e-6
Gather = Callable[[Tensor], Tensor]
Errors = dict[str, float]


def local(x: Tensor) -> Tensor:
    """No gathering: the loss of the local batch."""
    return x


def errors(count: int, gather: Gather, names: Sequence[str] = tuple(CASES)) -> dict[str, Errors]:
    """How far losses, gradients and weights after five steps are from those of one process, relative to these."""
    known = FOUND.get((count, gather), {})
    if not set(names) <= known.keys():
        both = [gather, local] if set(names) == CASES.keys() else [gather]  # starting processes takes longest
        FOUND.update(_start(count, both, names))
    return {name: FOUND[count, gather][name] for name in names}


FOUND: dict[tuple[int, Gather], dict[str, Errors]] = {}


def _start(count: int, gathers: Sequence[Gather], names: Sequence[str]) -> dict[tuple[int, Gather], dict[str, Errors]]:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, (count, Path(folder), gathers, names), nprocs=count)
        found = [json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8")) for rank in range(count)]
    worst = [
        {name: {key: max(rank[number][name][key] for rank in found) for key in KEYS} for name in names}
        for number in range(len(gathers))
    ]
    return {(count, gather): part for gather, part in zip(gathers, worst, strict=True)}


def _work(rank: int, count: int, folder: Path, gathers: Sequence[Gather], names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    found = [{name: _errors(name, CASES[name], gather) for name in names} for gather in gathers]
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _errors(name: str, case: Case, gather: Gather) -> Errors:
    alone = Student(case)
    before = _flat(alone)
    _, gradient = _step(case, alone, 0, local, local)
    rate = 0.1 / gradient.norm().item()  # so that every loss moves its student, and none too far
    alone, several = Student(case), Student(case)
    for_memory = gather_with_gradient if name in ALL_ROWS else gather
    one = _train(case, alone, rate, local, local)
    rows = slice(
        dist.get_rank() * BATCH // dist.get_world_size(), (dist.get_rank() + 1) * BATCH // dist.get_world_size()
    )
    other = _train(case, DistributedDataParallel(several), rate, gather, for_memory, rows)
    moved = (_flat(alone) - before).norm()
    return {
        "loss": max(abs(a - b) for a, b in zip(one[0], other[0], strict=True)) / max(map(abs, one[0])),
        "gradient": ((one[1] - other[1]).norm() / one[1].norm()).item(),
        "weights": ((_flat(alone) - _flat(several)).norm() / moved).item(),
    }


def _train(
    case: Case, model: Any, rate: float, gather: Gather, for_memory: Gather, rows: slice = slice(None)
) -> tuple[list[float], Tensor]:
    """Five steps of gradient descent; the losses, and the first gradient."""
    losses, gradients = [], []
    for number in range(STEPS):
        loss, gradient = _step(case, model, number, gather, for_memory, rows)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
        losses.append(loss)
        gradients.append(gradient)
    return losses, gradients[0]


def _step(
    case: Case, model: Any, number: int, gather: Gather, for_memory: Gather, rows: slice = slice(None)
) -> tuple[float, Tensor]:
    """Forward and backward on this process's rows of a batch; the mean loss of all, and the gradient."""
    several = isinstance(model, DistributedDataParallel)
    inner = model.module if several else model
    model.train()
    model.zero_grad()
    batch = range(number * BATCH, (number + 1) * BATCH)[rows]
    own = slice(batch.start, batch.stop)
    parts = [model(X[own]), targets(case)[own], LABELS[own], torch.arange(batch.start, batch.stop), MASK[own]]
    student, teacher, labels, indices, mask = map(gather, parts)
    loss = case.loss(inner.head, student, teacher, {"labels": labels, "rows": indices, "mask": mask, "number": number})
    loss.backward()
    if case.after is not None:
        with torch.no_grad():
            student, teacher, _, indices, _ = (for_memory(part.detach()) for part in parts)
            case.after(inner.head, student, teacher, {"rows": indices})
    mean = loss.detach()
    if several:
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean.item(), _flat(inner, gradient=True)


def _flat(model: torch.nn.Module, *, gradient: bool = False) -> Tensor:
    values = [p.grad if gradient else p for p in model.parameters() if p.requires_grad]
    return torch.cat([value.detach().flatten() for value in values if value is not None]).clone()


def table() -> list[list[str]]:
    """Which losses need gathering, and how far off, of the way they went, the weights are after five steps without."""
    errors(2, gather_with_gradient), errors(3, gather_with_gradient)  # measures both
    parts = errors(2, local), errors(3, local)
    found = []
    for name, case in CASES.items():
        need = max(max(part[name].values()) for part in parts) > EQUAL
        off = [_percent(part[name]["weights"]) if need else "equal" for part in parts]
        function, comma, words = name.partition(",")
        found.append([f"{case.lesson:02}", f"`{function}`{comma}{words}", "**yes**" if need else "no", *off])
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share > 0.1 else 1}f} % off"


def stored() -> list[list[str]]:
    """The table as it stands on the page."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| 0")]


def page() -> str:
    """The page with the table anew."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| lesson"))
    last = max(number for number, line in enumerate(lines) if line.startswith("| 0") or line.startswith("|:"))
    anew = ["| " + " | ".join(row) + " |" for row in (COLUMNS, *table())]
    anew.insert(1, "|" + ":---|" * len(COLUMNS))
    return "\n".join([*lines[:first], *anew, *lines[last + 1 :]]) + "\n"


if __name__ == "__main__":
    print(write_whole(FILE, page().encode("utf-8")), "written")
