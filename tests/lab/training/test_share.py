"""Shares of batches: equal, complete, in order, and of batches that all processes draw alike."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from kdref.lab.training.batches import Batches
from kdref.lab.training.process import OneProcess
from kdref.lab.training.resume import generators_in
from kdref.lab.training.share import Share


class OneOf(OneProcess):
    """One of several processes, which all draw the same, or what is said."""

    def __init__(self, rank: int, count: int, others: Any = None) -> None:
        self.rank, self.count, self.others = rank, count, others

    def gathered(self, value: Any) -> list[Any]:
        return [value] * self.count if self.others is None else [value, self.others]


def shares(batches: Any, count: int = 2) -> list[list[Any]]:
    return [list(Share(batches, OneOf(rank, count))) for rank in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_put_together_are_the_batch_and_nothing_comes_twice(count: int) -> None:
    x = torch.arange(12.0)
    for drawn in (lambda: Batches(x, batch_size=6, seed=3), lambda: [(x[:6],), (x[6:],)]):
        whole = [batch for (batch,) in drawn()]
        parts = [[batch for (batch,) in Share(drawn(), OneOf(rank, count))] for rank in range(count)]
        for number, batch in enumerate(whole):
            assert torch.equal(torch.cat([part[number] for part in parts]), batch)
            assert len({len(part[number]) for part in parts}) == 1


Pair = namedtuple("Pair", ["x", "name"])
X = torch.arange(8).reshape(4, 2)
FOUR = {
    "a tensor": X,
    "a dictionary": {"x": X, "text": ["a", "b", "c", "d"]},
    "a tuple in a tuple": ((X, X + 1), X),
    "a named tuple": Pair(X, "film"),
    "NumPy": (np.arange(4), X),
    "a number beside it": [X, torch.tensor(3.0), 7, None],
}


@pytest.mark.parametrize("batch", FOUR.values(), ids=FOUR)
def test_every_part_of_a_batch_is_cut_and_what_has_no_rows_is_kept(batch: Any) -> None:
    (first,), (second,) = shares([batch])
    assert type(first) is type(second) is type(batch)

    def check(one: Any, other: Any, whole: Any) -> None:
        if isinstance(whole, torch.Tensor | np.ndarray) and whole.ndim:
            assert (np.concatenate([one, other]) == np.asarray(whole)).all()
            assert len(one) == len(other) == 2
        elif isinstance(whole, dict):
            for name in whole:
                check(one[name], other[name], whole[name])
        elif isinstance(whole, list) and isinstance(whole[0], str):
            assert one + other == whole
        elif isinstance(whole, tuple | list):
            for parts in zip(one, other, whole, strict=True):
                check(*parts)
        else:
            assert one == other == whole

    check(first, second, batch)


def test_a_batch_samplers_lists_are_cut_so_that_each_process_loads_its_own() -> None:
    first, second = shares(BatchSampler(range(10), 4, drop_last=True))
    assert first == [[0, 1], [4, 5]]
    assert second == [[2, 3], [6, 7]]
    assert len(Share(BatchSampler(range(10), 4, drop_last=True), OneOf(0, 2))) == 2


def test_unequal_shares_are_refused_and_the_way_out_is_named() -> None:
    share = iter(Share(Batches(X, batch_size=3), OneOf(0, 3)))
    assert len(next(share)[0]) == 1
    with pytest.raises(ValueError, match=r"a batch of 1 can't be shared equally by 3 .* with drop_last=True"):
        next(share)
    with pytest.raises(ValueError, match=r"all parts of a batch must hold its 4 examples, got shape \(3,\)"):
        shares([(X, X[:3, 0])])


@pytest.mark.parametrize("batches", [Batches(X, batch_size=2), BatchSampler(range(4), 2, drop_last=True)])
def test_different_batches_are_refused(batches: Any) -> None:
    for others in ([99.0], [1, 0]):
        with pytest.raises(ValueError, match="the processes draw different batches: seed the order alike"):
            list(Share(batches, OneOf(0, 2, others)))


def test_the_generators_of_what_is_shared_are_found_for_a_checkpoint() -> None:
    batches = Batches(X, batch_size=2, seed=1)
    assert generators_in(Share(batches, OneOf(0, 2))) == [batches._generator]
    generator = torch.Generator()
    sampler = BatchSampler(RandomSampler(X, generator=generator), 2, drop_last=True)
    assert generators_in(Share(sampler, OneOf(0, 2))) == [generator]
    assert generators_in([X]) == []
