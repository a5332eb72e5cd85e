"""MUNGE, checked against Algorithm 1 of Bucilă et al. 2006 in plain loops, and against what others got wrong."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.transfer_data import munge
from tests import checks

EXAMPLES = checks.randn(12, 4, seed=1) * torch.tensor([1.0, 10.0, 0.1, 1.0], dtype=torch.float64)
NOMINAL = torch.tensor([False, False, False, True])
CODES = EXAMPLES.index_copy(1, torch.tensor([3]), checks.labels_for(12, 3).double()[:, None])
PAIR = torch.tensor([[0.0, 3.0], [8.0, 3.0]], dtype=torch.float64)  # each other's neighbours


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(examples: Tensor, seed: int = 0, **changed: Any) -> Tensor:
    known: dict[str, Any] = {"copies": 1, "swap_probability": 0.5, "local_variance": 2.0}
    return munge(examples, generator=generator(seed), **{**known, **changed})


def nearest(examples: list[list[float]], nominal: list[bool]) -> list[int]:
    """Neighbours in plain loops: squared differences of attributes scaled to [0, 1], one for each name that differs."""
    columns = list(zip(*examples, strict=True))
    spans = [max(column) - min(column) or 1.0 for column in columns]

    def far(e: list[float], f: list[float]) -> float:
        parts = zip(e, f, spans, nominal, strict=True)
        return sum(float(a != b) if names else ((a - b) / span) ** 2 for a, b, span, names in parts)

    others = [[j for j in range(len(examples)) if j != i] for i in range(len(examples))]
    return [min(others[i], key=lambda j: far(examples[i], examples[j])) for i in range(len(examples))]


def algorithm_1(
    examples: list[list[float]], nominal: list[bool], p: float, s: float, uniform: Iterator[float], normal: Callable
) -> list[list[float]]:
    """One copy, attribute by attribute, with the draws handed in."""
    rows = [list(example) for example in examples]
    for i, j in enumerate(nearest(examples, nominal)):
        noise = normal()
        for a, names in enumerate(nominal):
            if next(uniform) < p:
                old, theirs = rows[i][a], rows[j][a]
                sd = 0.0 if names else abs(old - theirs) / s
                rows[i][a], rows[j][a] = theirs + sd * noise[0][a], old + sd * noise[1][a]
    return rows


@pytest.mark.parametrize(("examples", "nominal"), [(EXAMPLES, None), (CODES, NOMINAL)])
@pytest.mark.parametrize(("p", "s"), [(0.5, 2.0), (0.9, 0.5), (1.0, 8.0)])
def test_matches_the_papers_algorithm(examples: Tensor, nominal: Tensor | None, p: float, s: float) -> None:
    # the same draws in the same order: a mask for one example's attributes, then the noise of both members
    draws, width = generator(3), examples.shape[1]
    masks, noises = [], []
    for _ in examples:
        masks += torch.rand(1, width, generator=draws).flatten().tolist()
        noises.append(torch.randn(2, 1, width, generator=draws, dtype=torch.float64)[:, 0].tolist())
    names = [False] * width if nominal is None else nominal.tolist()
    expected = algorithm_1(examples.tolist(), names, p, s, iter(masks), iter(noises).__next__)
    found = made(examples, 3, swap_probability=p, local_variance=s, nominal=nominal)
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)


def test_known_value_of_three_names() -> None:
    # all differ, so the first other one counts: 7 ↔ 8, then 8 and 7 back, then 9 ↔ the first
    names = torch.tensor([[7.0], [8.0], [9.0]])
    assert made(names, swap_probability=1.0, nominal=torch.tensor([True])).flatten().tolist() == [9.0, 8.0, 7.0]


def test_each_member_is_centred_on_the_others_old_value_with_their_distance_over_s() -> None:
    # many attributes alike, p = ½: where exactly one of the two exchanges took place, it is seen alone
    wide = torch.tensor([[0.0], [6.0]], dtype=torch.float64).repeat(1, 40_000)
    found = made(wide, local_variance=3.0)
    draws = generator()
    masks = []
    for _ in range(2):
        masks.append(torch.rand(1, 40_000, generator=draws)[0] < 0.5)
        torch.randn(2, 1, 40_000, generator=draws, dtype=torch.float64)
    single = masks[0] ^ masks[1]
    for row, centre in ((found[0], 6.0), (found[1], 0.0)):
        assert abs(row[single].mean() - centre) < 0.06  # standard error 2 / √20,000 = 0.014
        assert abs(row[single].std() - 2.0) < 0.05  # |0 - 6| / 3
    assert (found[0][~masks[0] & ~masks[1]] == 0).all()
    both = torch.stack([found[0][single] - 6, found[1][single]])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.03  # two draws, not one


def test_without_swaps_the_copies_are_exact_and_the_examples_are_left_as_they_are() -> None:
    before = EXAMPLES.clone()
    assert torch.equal(made(EXAMPLES, copies=3, swap_probability=0.0), EXAMPLES.repeat(3, 1))
    made(EXAMPLES, copies=2, swap_probability=1.0)
    assert torch.equal(EXAMPLES, before)


def test_copies_come_one_after_the_other_and_differ() -> None:
    found = made(EXAMPLES, copies=3, swap_probability=0.1, local_variance=1e9).view(3, 12, 4)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    for copy in found:  # most attributes are where they were
        assert ((copy - EXAMPLES).abs() < 1e-6).double().mean() > 0.6


def test_nominal_attributes_keep_their_values_as_often_as_they_were() -> None:
    found = made(CODES, copies=5, swap_probability=0.7, nominal=NOMINAL).view(5, 12, 4)
    for copy in found:
        assert torch.equal(copy[:, 3].sort().values, CODES[:, 3].sort().values)
    names = checks.labels_for(36, 3).double().view(12, 3)
    found = made(names, copies=5, swap_probability=0.7, nominal=torch.ones(3).bool()).view(5, 12, 3)
    for copy in found:
        assert torch.equal(copy.sort(dim=0).values, names.sort(dim=0).values)
        assert not torch.equal(copy, names)


def test_a_neighbour_is_never_the_example_itself() -> None:
    # each pair of names is unique: a row that exchanged with itself would stay
    names = torch.arange(6.0)[:, None].repeat(1, 2)
    found = made(names, swap_probability=1.0, nominal=torch.tensor([True, True]))
    assert not torch.equal(found, names)
    twins = torch.tensor([[1.0], [1.0], [5.0], [5.5]])
    found = made(twins, copies=8, swap_probability=1.0).view(8, 4)
    assert (found[:, :2] == 1).all(), "duplicates are each other's neighbours: their difference is 0"
    assert (found[:, 2:] != twins[2:, 0]).any()


def test_attributes_count_alike_in_the_distance_whatever_their_unit() -> None:
    # in grams the second attribute would decide alone: 0's neighbour is 1 by both attributes, 2 by the large one
    near = torch.tensor([[0.0, 0.0], [0.1, 300.0], [1.0, 200.0], [0.9, 1000.0]], dtype=torch.float64)
    found = made(near, swap_probability=1.0, local_variance=1e9)
    names = nearest(near.tolist(), [False, False])
    assert names[0] == 1
    rows = near.tolist()
    for i, j in enumerate(names):
        rows[i], rows[j] = rows[j], rows[i]
    assert_close(found, torch.tensor(rows, dtype=torch.float64), rtol=1e-5, atol=1e-4)
    for scale in (1e-3, 1e4):
        moved = made(near * torch.tensor([1.0, scale]) + 5, swap_probability=0.5)
        plain = made(near, swap_probability=0.5)
        assert_close(moved, plain * torch.tensor([1.0, scale]) + 5, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), p=st.floats(0, 1), copies=st.integers(1, 3))
def test_with_little_noise_every_value_is_one_of_its_own_attribute(seed: int, p: float, copies: int) -> None:
    examples = checks.randn(7, 3, seed=seed)
    found = made(examples, seed, copies=copies, swap_probability=p, local_variance=1e9).view(copies, 7, 3)
    for copy in found:
        assert_close(copy.sort(dim=0).values, examples.sort(dim=0).values, rtol=0, atol=1e-6)


def test_the_generator_alone_decides() -> None:
    torch.manual_seed(1)
    first = made(EXAMPLES, 4)
    torch.manual_seed(2)
    assert torch.equal(made(EXAMPLES, 4), first)
    assert not torch.equal(made(EXAMPLES, 5), first)


@pytest.mark.parametrize("dtype", [*checks.DTYPES, torch.float64])
def test_three_dtypes_and_large_and_constant_attributes(dtype: torch.dtype) -> None:
    for scale in (1e-4, 1.0, 1e4):
        examples = (EXAMPLES / EXAMPLES.abs().amax() * scale).to(dtype).requires_grad_()
        found = made(examples, copies=2)
        assert found.dtype == torch.promote_types(dtype, torch.float32)
        assert found.isfinite().all()
        assert not found.requires_grad
    constant = torch.full((5, 2), 3.0).to(dtype)
    assert torch.equal(made(constant), constant.to(torch.promote_types(dtype, torch.float32)))


def test_many_examples_find_their_neighbours_too() -> None:  # more than are compared at a time
    examples = torch.arange(600.0)[:, None].repeat_interleave(2, dim=0)
    found = made(examples[torch.randperm(1200, generator=generator(1))], swap_probability=1.0)
    assert_close(found.sort(dim=0).values, examples)  # duplicates exchange nothing


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"examples": [[1.0]]}, TypeError, r"examples must be a tensor, got list: use torch\.as_tensor"),
        ({"examples": torch.ones(3, 2).long()}, TypeError, r"got torch\.int64: the noise has fractions, use \.float"),
        ({"examples": torch.ones(3)}, ValueError, r"\(N, D\), two or more, got \(3,\): flatten\(1\) makes rows"),
        ({"examples": torch.ones(1, 3)}, ValueError, r"two or more, got \(1, 3\)"),
        ({"examples": torch.ones(3, 0)}, ValueError, r"two or more, got \(3, 0\)"),
        ({"examples": torch.tensor([[1.0], [math.nan]])}, ValueError, "nan or infinity, which has no neighbour"),
        ({"copies": 2.0}, TypeError, r"copies must be a whole number, got 2\.0"),
        ({"copies": True}, TypeError, "copies must be a whole number, got True"),
        ({"copies": 0}, ValueError, "copies must be at least 1, got 0"),
        ({"swap_probability": "0.5"}, TypeError, "swap_probability must be a number, got '0.5'"),
        ({"swap_probability": 50}, ValueError, r"in \[0, 1\], got 50: at 0 nothing is exchanged"),
        ({"swap_probability": math.nan}, ValueError, r"in \[0, 1\], got nan"),
        ({"local_variance": 0}, ValueError, "positive and finite, got 0: it divides the noise"),
        ({"local_variance": math.inf}, ValueError, "positive and finite, got inf"),
        ({"local_variance": None}, TypeError, "local_variance must be a number, got None"),
        ({"generator": 0}, TypeError, r"must be a torch\.Generator, got int: pass a seeded one"),
        ({"nominal": [True]}, TypeError, r"nominal must be a bool tensor \(D,\), got list"),
        ({"nominal": torch.ones(2)}, TypeError, r"got torch\.float32: True where values are names"),
        ({"nominal": torch.ones(3).bool()}, ValueError, r"nominal must be \(2,\), one per attribute, got \(3,\)"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    right: dict[str, Any] = {
        "examples": PAIR,
        "copies": 1,
        "swap_probability": 0.5,
        "local_variance": 1.0,
        "generator": generator(),
    }
    arguments = {**right, **changed}
    with pytest.raises(error, match=message):
        munge(arguments.pop("examples"), **arguments)


def test_a_generator_of_another_device_is_named() -> None:
    with pytest.raises(ValueError, match=r"on cpu, the examples are on meta: use torch\.Generator\(device='meta'\)"):
        munge.__globals__["_check_generator"](generator(), torch.ones(3, 2, device="meta"))


def test_twenty_copies_of_five_thousand_letters_take_seconds() -> None:
    letters = torch.randint(16, (5000, 16), generator=generator(1)).float()
    start = time.process_time()
    found = made(letters, copies=20)
    assert time.process_time() - start < 10
    assert found.shape == (100_000, 16)
