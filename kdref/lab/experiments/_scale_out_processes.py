"""One training, the same on one process and on several, and what exchanging gradients costs.

``torchrun --standalone --nproc-per-node 2 -m kdref.lab.experiments._scale_out_processes FILE`` writes both to a file.
Lesson: notebooks/17_scale_out.ipynb.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.gather import gather_with_gradient
from kdref.lab.training.scale import Processes
from kdref.relation import info_nce_loss, rkd_distance_loss, similarity_preserving_loss
from kdref.soft_targets import soft_target_loss

SIZE, STEPS = 32, 5
SHAPE = (1, 8, 8)
WIDE = "mlp-512x512"
LOCAL_SIZES = (4, 16, 64, 256, 1024)

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "soft targets": soft_target_loss,
    "RKD distance": rkd_distance_loss,
    "SP": similarity_preserving_loss,
    "InfoNCE": partial(info_nce_loss, temperature=0.5),
}


def as_it_is(x: Tensor) -> Tensor:
    """No gathering."""
    return x


def without_gradient(x: Tensor) -> Tensor:
    """What ``all_gather`` gives has no gradient; the own rows are put back."""
    if not dist.is_initialized():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    parts[dist.get_rank()] = x
    return torch.cat(parts)


GATHERINGS = {"gathered": gather_with_gradient, "local": as_it_is, "no gradient": without_gradient}


def train(
    processes: Processes, loss: Callable[[Tensor, Tensor], Tensor], gather: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """A student's first gradient, and its weights after five steps of gradient descent, on so many processes."""
    make_optimizer = partial(torch.optim.SGD, lr=0.1)
    student, optimizer = processes.student(make("mlp-32", shape=SHAPE, seed=1).double(), make_optimizer)
    teacher = processes.teacher(make("mlp-100", shape=SHAPE, seed=2).double())
    images = digits(0).train_x[: SIZE * STEPS].double()
    batches = processes.share(Batches(images, batch_size=SIZE, seed=0))
    gradients = []

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (x,) = batch
        return {"loss": loss(gather(student(x)), gather(teacher(x)))}

    def look() -> None:
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))

    fit(step, student, batches, optimizer, epochs=1, after_step=look, process=processes, progress=False)
    return {"gradient": gradients[0], "weights": torch.cat([p.detach().flatten() for p in student.parameters()])}


def seconds(processes: Processes, size: int) -> dict[str, float]:
    """The quickest of some steps of a wide network: with the gradients exchanged, and without."""
    student, _ = processes.student(make(WIDE, shape=SHAPE, seed=1), partial(torch.optim.SGD, lr=0.1))
    x, found = torch.ones(size, *SHAPE), {}
    for name, exchange in (("exchanged", True), ("alone", False)):
        taken = []
        for _ in range(8):
            processes.gathered(None)  # all begin together
            start = time.perf_counter()
            with nullcontext() if exchange else processes.waiting([student]):
                processes.backward(student(x).square().mean())
            taken.append(time.perf_counter() - start)
        found[name] = min(taken)
    return found


def main(path: Path) -> None:
    """Train with each loss and each way to gather, measure, and let the first process write it down."""
    with Processes(accelerator="cpu") as processes:
        found: dict[str, Any] = {
            name: {how: train(processes, loss, gather) for how, gather in GATHERINGS.items()}
            for name, loss in LOSSES.items()
        }
        found["seconds"] = {size: seconds(processes, size) for size in LOCAL_SIZES}
        if processes.rank == 0:
            torch.save(found, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
