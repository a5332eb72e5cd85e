"""Wrong ways to gather: processes that stand in for one import them by name, so each is a function of this module."""

import torch
import torch.distributed as dist
from torch import Tensor

from kdref.lab.training.share import Share
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
    seen_in="PANXiao1994/mRASP2 #11; HobbitLong/SupContrast #26 warns of it",
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
    seen_in="a likely slip: the factor W of tevatron (#143), which gathers without a gradient, kept with one",
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
    seen_in="lightly-ai/lightly #1528: gradients are not summed over processes",
    killed_by=(WHOLE,),
)
def own_part_of_the_gradient(x: Tensor, *, group: object = None) -> Tensor:
    """The backward pass takes the own rows of the own loss's gradient, and sums nothing."""
    result: Tensor = OwnPartOnly.apply(x)
    return result


@exhibit(
    replaces="kdref.lab.training.share:Share",
    seen_in="torch.utils.data.DistributedSampler, whose documentation says so",
    killed_by=("lab/training/test_share.py::test_unequal_shares_are_refused_and_the_way_out_is_named",),
)
class DuplicatedRows(Share):
    """A batch that can't be shared equally is filled up with its first rows, as a DistributedSampler does it."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        """One epoch."""
        for batch in self.batches:
            count, rank = self._process.count, self._process.rank
            rows = [index % len(batch[0]) for index in range(-len(batch[0]) % count)]
            filled = tuple(torch.cat([part, part[rows]]) for part in batch)
            yield tuple(part.chunk(count)[rank] for part in filled)


@exhibit(
    replaces="kdref.lab.training.share:Share",
    seen_in="a likely slip: rows are dealt out like cards, and put together again by blocks",
    killed_by=("lab/training/test_share.py::test_shares_put_together_are_the_batch_and_nothing_comes_twice[2]",),
)
class StridedRows(Share):
    """Every second row: gathered, the rows are not in the batch's order, nor are labels that were not gathered."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        """One epoch."""
        for batch in self.batches:
            yield tuple(part[self._process.rank :: self._process.count] for part in batch)
