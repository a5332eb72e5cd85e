"""On two and three processes gathered losses are those of one process with the whole batch; so are many as they are.

Each test starts its processes once, with all losses: see data_parallel.py.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from kdref.lab.training.gather import gather_with_gradient
from tests.lab.training import data_parallel
from tests.lab.training.parallel_cases import CASES

# What the formulas say: a mean over examples of what depends on one of them is right as it is. Not so a loss over
# pairs, or one that divides by a number that counts over the batch, or that uses the batch's mean, or others' memory.
NOT_A_MEAN = {
    "distillation_loss, labels of -100",  # by the number of labels
    "attention_score_loss, a mask",  # by the number of tokens
    "dist_loss",  # correlates examples of a class
    "ReviewFusion, its BatchNorm",
    "ReusedClassifier, its BatchNorm",
    "correlation_congruence_loss",
    "info_nce_loss",
    "probabilistic_transfer_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_preserving_loss",
    "crd_loss, a memory of own rows",
}
FEW = ("info_nce_loss", "rkd_distance_loss", "similarity_preserving_loss")


@pytest.mark.parametrize("count", [2, 3])
def test_a_gathered_loss_is_that_of_one_process_with_the_whole_batch(count: int) -> None:
    found = data_parallel.errors(count, gather_with_gradient)
    assert found.keys() == CASES.keys()
    worst = {name: max(errors.values()) for name, errors in found.items()}
    assert {name: error for name, error in worst.items() if not error < data_parallel.EQUAL} == {}


@pytest.mark.parametrize("count", [2, 3])
def test_losses_that_are_means_over_examples_and_no_others_are_right_on_local_batches(count: int) -> None:
    data_parallel.errors(count, gather_with_gradient)  # measures both
    found = data_parallel.errors(count, data_parallel.local)
    wrong = {name for name, errors in found.items() if not max(errors.values()) < data_parallel.EQUAL}
    assert wrong == NOT_A_MEAN
    for name in wrong:
        assert found[name]["weights"] > 0.01, f"{name} is only just another loss: the test would not see much"


def test_the_gradient_through_gathering_is_that_of_the_whole_batch() -> None:
    """Three losses only, for the museum: a wrong gather stands in for this one."""
    found = data_parallel.errors(2, gather_with_gradient, FEW)
    assert all(max(errors.values()) < data_parallel.EQUAL for errors in found.values()), found


def test_the_page_says_what_is_measured() -> None:
    measured, stored = data_parallel.table(), data_parallel.stored()
    assert [row[:3] for row in stored] == [row[:3] for row in measured], "write it anew: see data_parallel.py"
    for said, found in zip(stored, measured, strict=True):
        for cell, other in zip(said[3:], found[3:], strict=True):
            number, now = (float(c.split()[0]) if c != "equal" else 0.0 for c in (cell, other))
            assert number == pytest.approx(now, rel=0.05, abs=0.15), said  # processors round differently
    text = data_parallel.FILE.read_text(encoding="utf-8")
    assert re.search(r"^\| lesson .*\n\|:---", text, re.MULTILINE)


def run(count: int, work: Callable[..., Any], folder: Path) -> list[Any]:
    """What each of some processes returns."""
    torch.multiprocessing.spawn(_call, (count, folder, work), nprocs=count)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _call(rank: int, count: int, folder: Path, work: Callable[..., Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    torch.save(work(rank, count), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def parts(rank: int, count: int) -> dict[str, Any]:
    x = torch.arange(4.0).reshape(2, 2).add(10 * rank).requires_grad_()
    weights = torch.arange(4.0 * count).reshape(2 * count, 2) * (1 + rank)  # each process has another loss
    rows = gather_with_gradient(x)
    (weights * rows).sum().backward()
    with torch.no_grad():
        plain = gather_with_gradient(x)
    found = {"rows": rows.detach(), "gradient": x.grad, "plain": plain.requires_grad}
    for name, kind in {"labels": torch.int64, "mask": torch.bool, "half": torch.bfloat16}.items():
        found[name] = gather_with_gradient(torch.tensor([rank, 1]).to(kind))
    found["transposed"] = gather_with_gradient(torch.arange(6).reshape(2, 3).mT + rank)
    kind = torch.int64 if rank else torch.float32
    for name, other in {"unequal": torch.zeros(1 + rank, 2), "kinds": torch.zeros(2, dtype=kind)}.items():
        try:
            gather_with_gradient(other)
        except ValueError as error:
            found[name] = str(error)
    return found


def test_rows_come_in_the_order_of_the_processes_and_gradients_are_summed(tmp_path: Path) -> None:
    found = run(2, parts, tmp_path)
    both = torch.tensor([[0.0, 1.0], [2.0, 3.0], [10.0, 11.0], [12.0, 13.0]])
    whole = torch.arange(8.0).reshape(4, 2) * (1 + 2)  # of the first process's loss, and twice as much of the second's
    for rank, part in enumerate(found):
        assert torch.equal(part["rows"], both)
        assert torch.equal(part["gradient"], whole[2 * rank : 2 * rank + 2])
        assert part["plain"] is False
        assert part["labels"].tolist() == [0, 1, 1, 1]
        assert part["mask"].tolist() == [False, True, True, True]
        assert (part["mask"].dtype, part["half"].dtype) == (torch.bool, torch.bfloat16)
        assert part["transposed"].tolist() == [[0, 3], [1, 4], [2, 5], [1, 4], [2, 5], [3, 6]]
        assert part["unequal"].startswith("all processes must give rows of one shape and dtype, got [(1, 2), (2, 2)]")
        assert f"here {(torch.float32, torch.int64)[rank]}: drop_last=True" in part["kinds"]


def test_one_process_has_all_rows_already() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    assert gather_with_gradient(x) is x


def test_a_number_has_no_rows() -> None:
    with pytest.raises(ValueError, match="x must hold examples along its first axis, got a number"):
        gather_with_gradient(torch.tensor(1.0))


def test_every_loss_of_the_lessons_has_its_case() -> None:
    from kdref import attention, feature, relation, response, soft_targets

    modules = (soft_targets, response, feature, attention, relation)
    public = [name for module in modules for name in module.__all__]
    losses = {n for n in public if n.endswith(("_loss", "_divergence"))} | {"VariationalRegressor", "MaskedGeneration"}
    named = {word for name in CASES for word in re.findall(r"\w+", name)}
    assert losses - named == set()
