"""Wrong ways to gather: processes that stand in for one import them by name, so each is a function of this module."""

import torch
import torch.distributed as dist
from torch import Tensor

from tests.museum import exhibit

WHOLE = "lab/training/test_gather.py::test_the_gradient_through_gathering_is_that_of_the_whole_batch"


def gathered(x: Tensor) -> list[Tensor]:
    """What torch.distributed gives: rows without a gradient."""
    sent = x.detach().contiguous()
    parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, sent)
    return parts


@exhibit(
    replaces="kdref.lab.training.gather:gather_with_gradient",
    seen_in="ShiqiYu/OpenGait #36, which multiplies by W to mend it; mlfoundations/open_clip #616",
    killed_by=(WHOLE,),
)
def own_rows_put_back(x: Tensor, *, group: object = None) -> Tensor:
    """Gathered without a gradient, own rows put back: after DDP's mean 1/W of the gradient."""
    parts = gathered(x)
    parts[dist.get_rank()] = x
    return torch.cat(parts)


@exhibit(
    replaces="kdref.lab.training.gather:gather_with_gradient",
    seen_in="PANXiao1994/mRASP2 #11; HobbitLong/SupContrast #26",
    killed_by=(WHOLE,),
)
def mean_of_local_losses(x: Tensor, *, group: object = None) -> Tensor:
    """Each process has the loss of its own pairs, and DDP their mean: pairs between processes are missing."""
    return x


class SummedAndScaled(torch.autograd.Function):
    """The sum over processes, times their number."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        """Gather."""
        return torch.cat(gathered(x))

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """Sum, and scale."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()] * dist.get_world_size()


@exhibit(
    replaces="kdref.lab.training.gather:gather_with_gradient",
    seen_in="texttron/tevatron #143: a loss times W where nothing asks for it",
    killed_by=(WHOLE,),
)
def scaled_by_world_size(x: Tensor, *, group: object = None) -> Tensor:
    """A gradient that is summed over processes already, times W: W times too large."""
    result: Tensor = SummedAndScaled.apply(x)
    return result


class OwnPartOnly(torch.autograd.Function):
    """The gradient of the own loss alone."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        """Gather."""
        return torch.cat(gathered(x))

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        """Take the own rows."""
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


@exhibit(
    replaces="kdref.lab.training.gather:gather_with_gradient",
    seen_in="lightly-ai/lightly #1977: off by 1/world_size under DDP",
    killed_by=(WHOLE,),
)
def own_part_of_the_gradient(x: Tensor, *, group: object = None) -> Tensor:
    """The backward pass takes the own rows of the own loss's gradient, and sums nothing."""
    result: Tensor = OwnPartOnly.apply(x)
    return result
