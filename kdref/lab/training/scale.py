"""The same ``step`` and ``fit`` on several processes and machines, through Lightning Fabric over torch.distributed.

``torchrun --nproc-per-node 4 train.py`` on one machine; on each of two, ``torchrun --nnodes 2 --nproc-per-node 4
--rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29500 train.py``. Without torchrun the same script is one process.

Tried here: gloo on the CPU, two and three processes, whole models (DDP) and sharded ones (FSDP2), float32, float64 and
bfloat16. Not tried: GPUs, NCCL, several machines. Lesson: notebooks/17_scale_out.ipynb.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from kdref.lab.training.process import OneProcess
from kdref.lab.training.share import Share

__all__ = ["Frozen", "Processes"]

PRECISIONS = ("32-true", "bf16-mixed")


class Processes(OneProcess):
    """All processes that torchrun started, training one student: pass it to ``fit(..., process=...)``.

    Each process holds the whole student (DDP), or a part of each layer (``sharded``, FSDP2), and trains on its rows of
    each batch. The gradient is the mean of the processes': that of the whole batch, if the loss is a mean over examples
    and the shares are equal. A loss over pairs needs ``gather_with_gradient``: docs/data-parallel.md says which are.

    Args:
        precision: "32-true": as the weights are; or "bf16-mixed": weights in float32, products in bfloat16. float16 is
            left out: it needs a scaler of the loss, which no checkpoint here keeps.
        accelerator: "auto", "cpu", or "cuda": what Fabric knows.
        sharded: Whether student and teacher are sharded: for what does not fit one device.

    Raises:
        ValueError: If there is no such precision.

    Example:
        >>> from functools import partial
        >>> from kdref.lab import Batches, fit
        >>> with Processes(accelerator="cpu") as processes:  # one process here, W under torchrun
        ...     student = nn.Linear(2, 3)
        ...     teacher = processes.teacher(nn.Linear(2, 3))
        ...     student, optimizer = processes.student(student, partial(torch.optim.SGD, lr=0.1))
        ...     batches = processes.share(Batches(torch.ones(8, 2), batch_size=4, seed=0))
        ...     def step(batch):
        ...         (x,) = batch
        ...         return {"loss": nn.functional.mse_loss(student(x), teacher(x))}
        ...     rows = fit(step, student, batches, optimizer, epochs=2, progress=False, process=processes)
        >>> rows[1]["loss"] < rows[0]["loss"]
        True
    """

    def __init__(self, *, precision: str = "32-true", accelerator: str = "auto", sharded: bool = False) -> None:
        """See the class."""
        from lightning_fabric import Fabric  # seconds to import

        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            precision=cast(Any, precision),
        )
        self.fabric.launch()
        self.rank, self.count = self.fabric.global_rank, self.fabric.world_size
        self.device: torch.device = self.fabric.device
        self._precision, self._sharded = precision, sharded and self.count > 1

    def __enter__(self) -> "Processes":
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group; after an error torchrun ends the others."""
        if error is None and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()

    def student(
        self, module: nn.Module, make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    ) -> tuple[nn.Module, Optimizer]:
        """The module, to be called in ``step`` instead of the one given, and its optimizer.

        All processes start with the first one's weights. What has BatchNorm normalises each share by itself.

        Args:
            module: What is trained. Everything that has parameters is called through it: heads belong inside.
            make_optimizer: Such as ``functools.partial(torch.optim.AdamW, lr=1e-3)``; sharding makes new parameters.
        """
        if self._sharded:
            module = self._shard(self._equal(module))
            return module, make_optimizer(module.parameters())
        return cast(tuple[nn.Module, Optimizer], self.fabric.setup(module, make_optimizer(module.parameters())))

    def teacher(self, module: nn.Module) -> "Frozen":
        """The teacher: frozen, in eval mode for good, on this process's device, sharded if the student is.

        DDP takes no module without a gradient, and a frozen one needs none: each process calls its own copy.
        """
        module = module.requires_grad_(False).to(self.device)
        return Frozen(self._shard(self._equal(module)) if self._sharded else module, self.fabric.autocast)

    def share(self, batches: Iterable[Any]) -> Share:
        """This process's rows of each batch; they are put together again in the order of the batch by gathering.

        Args:
            batches: Equal on all processes, so seed their order: ``Batches`` with a seed; or a DataLoader's
                ``batch_sampler``, so that each process loads its rows only: ``DataLoader(data, batch_sampler=
                processes.share(BatchSampler(RandomSampler(data, generator=...), 64, drop_last=True)))``.
        """
        return Share(batches, self)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the parameters', averaged over processes."""
        self.fabric.backward(loss)

    def waiting(self, modules: Sequence[nn.Module]) -> AbstractContextManager[object]:
        """While it lasts, forward and backward passes leave exchanging the gradients to a later one."""
        stack = ExitStack()
        for module in modules:
            if self._sharded:
                stack.enter_context(_not_synchronised(module))
            else:
                stack.enter_context(self.fabric.no_backward_sync(cast(Any, module)))
        return stack

    def gathered(self, value: Any) -> list[Any]:
        """The value of each process, in their order, on every process."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def states(self, modules: Sequence[nn.Module], optimizer: Optimizer) -> tuple[list[Any], Any]:
        """What modules and optimizer hold, whole, for a checkpoint. Every process must call it."""
        if not self._sharded:
            return super().states(modules, optimizer)
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        (module,) = modules
        held, of_optimizer = get_state_dict(module, optimizer, options=whole)
        return [held], of_optimizer

    def set_states(
        self, modules: Sequence[nn.Module], optimizer: Optimizer, module_states: list[Any], optimizer_state: Any
    ) -> None:
        """Put back what ``states`` gave."""
        if not self._sharded:
            super().set_states(modules, optimizer, module_states, optimizer_state)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        whole = StateDictOptions(full_state_dict=True)
        (module,), (state,) = modules, module_states
        set_state_dict(module, optimizer, model_state_dict=state, optim_state_dict=optimizer_state, options=whole)

    def _equal(self, module: nn.Module) -> nn.Module:
        """With the first process's weights, on this one's device."""
        module = module.to(self.device)
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)
        return module

    def _shard(self, module: nn.Module) -> nn.Module:
        """Each block of a list of them, and what is left, is held in parts, and put together when it is called."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        half = torch.bfloat16 if self._precision == "bf16-mixed" else None
        inside = MixedPrecisionPolicy(param_dtype=half)
        outside = MixedPrecisionPolicy(param_dtype=half, output_dtype=None if half is None else torch.float32)
        mesh = init_device_mesh(self.device.type, (self.count,))
        for holder in reversed(list(module.modules())):  # what is inside comes first
            if isinstance(holder, nn.ModuleList | nn.Sequential) and holder is not module:
                for block in holder:
                    if any(True for _ in block.parameters()):
                        fully_shard(block, mesh=mesh, mp_policy=inside)
        return cast(nn.Module, fully_shard(module, mesh=mesh, mp_policy=outside))


class Frozen(nn.Module):
    """A teacher that stays in eval mode and gives no gradient, in the precision of the training."""

    def __init__(self, module: nn.Module, context: Callable[[], AbstractContextManager[Any]]) -> None:
        """See ``Processes.teacher``."""
        super().__init__()
        self.module, self._context = module, context
        super().train(False)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in eval mode."""
        return self

    @torch.no_grad()
    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Call the module."""
        with self._context():
            return self.module(*inputs, **keywords)


@contextmanager
def _not_synchronised(module: Any) -> Iterator[None]:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)
