"""The examples of all processes, with a gradient to each: what a loss over pairs needs under data parallelism.

Lesson: notebooks/17_scale_out.ipynb.
"""

import zlib
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_with_gradient"]


def gather_with_gradient(
    x: Tensor,  # (B, ...)
    *,
    group: dist.ProcessGroup | None = None,
) -> Tensor:  # (W * B, ...)
    r"""Rows of all W processes, in their order; each gets back the gradient that all of them have for its rows.

    .. math::
        X = (x_1, \dots, x_W), \qquad \frac{\partial}{\partial x_r} \leftarrow \sum_{w=1}^{W}
        \frac{\partial L_w}{\partial x_r}

    A loss over pairs, of local batches, lacks the pairs between processes: it is another loss. Gather what goes into it
    (embeddings of student and teacher, labels), and each process computes the whole batch's loss, W times the same.
    Through its own rows each process then has W times its part of the gradient; the mean that DDP takes over processes
    divides by W, and leaves the sum of the parts: the gradient of one process with the whole batch. So scale nothing.
    ``torch.distributed.all_gather`` gives no gradient; own rows put back into its result give 1/W of it.

    Every process must call it, equally often, with equally many rows: else all wait for ever, and on the CPU are told.

    Args:
        x: This process's rows. Labels and booleans are gathered too.
        group: The processes; None: all.

    Returns:
        All rows, equal on all processes; ``x`` itself where torch.distributed is not in use.

    Raises:
        ValueError: If there is no axis of examples, or (looked at on the CPU only) shapes differ between processes.

    Example:
        >>> gather_with_gradient(torch.tensor([1.0, 2.0]))  # one process
        tensor([1., 2.])

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
    https://arxiv.org/abs/2002.05709, Section 2.1, gathers for negatives; the sums are plain arithmetic.
    """
    if x.dim() == 0:
        raise ValueError("x must hold examples along its first axis, got a number")
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) == 1:
        return x
    if x.device.type == "cpu":  # elsewhere looking would make everybody wait
        _check_equal(x, group)
    return cast(Tensor, Gather.apply(x, group))


def _check_equal(x: Tensor, group: dist.ProcessGroup | None) -> None:
    kind = zlib.crc32(str(x.dtype).encode())
    own = torch.tensor([kind, *x.shape, *[-1] * 8][:9])
    found = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(found, own, group=group)
    if any(not torch.equal(other, found[0]) for other in found):
        shapes = [tuple(size for size in other[1:].tolist() if size >= 0) for other in found]
        raise ValueError(
            f"all processes must give rows of one shape and dtype, got {shapes}, here {x.dtype}: drop_last=True helps"
        )


class Gather(torch.autograd.Function):  # torch.distributed.nn's is deprecated since 2.14, and its successor private
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group, ctx.rows = group, len(x)
        sent = x.detach().contiguous()
        sent = sent.to(torch.uint8) if x.dtype == torch.bool else sent  # which not every backend sends
        parts = [torch.empty_like(sent) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, sent, group=group)
        return torch.cat(parts).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.new_empty((ctx.rows, *gradient.shape[1:]))
        sum_and_share = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor  # its name to 2.13
        sum_and_share(own, gradient.contiguous(), group=ctx.group)
        return own, None
