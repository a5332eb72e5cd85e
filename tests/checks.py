"""What every heart function is checked for: shared checks and the plain-Python pieces that oracles are made of.

A check takes the function under test as a callable of tensors; pass a lambda that looks the name up when it is called
(``lambda s, t: kl_divergence(s, t)``), so that the museum can put a wrong version in its place.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def randn(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw reproducible normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale).to(dtype)


def labels_for(count: int, classes: int, seed: int = 0) -> Tensor:
    """Draw reproducible labels."""
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    """Softmax of one row in plain Python: a piece of every oracle on logits."""
    top = max(row)
    weights = [math.exp((value - top) / temperature) for value in row]
    return [weight / sum(weights) for weight in weights]


def kl(p: list[float], q: list[float]) -> float:
    """Kullback-Leibler divergence of two probability rows in plain Python."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def check_gradient(function: Callable[..., Tensor], student: Tensor, *rest: Tensor) -> None:
    """The student's gradient equals finite differences in float64, and no floating input in ``rest`` gets any."""
    student = student.double().detach().requires_grad_()
    rest = tuple(t.detach().requires_grad_() if t.is_floating_point() else t for t in rest)
    assert torch.autograd.gradcheck(
        lambda s: function(s, *(t.detach() for t in rest)), (student,), raise_exception=False
    ), "analytic and numerical gradient differ"
    function(student, *rest).sum().backward()
    assert student.grad is not None, "the student got no gradient"
    for index, tensor in enumerate(rest):
        assert tensor.grad is None, f"input {index + 1} after the student received a gradient"


def check_second_derivative(function: Callable[..., Tensor], student: Tensor) -> None:
    """The second derivative equals finite differences of the first, in float64."""
    assert torch.autograd.gradgradcheck(function, (student.detach().double().requires_grad_(),), raise_exception=False)


def check_extremes(function: Callable[..., Tensor], student: Tensor, *rest: Tensor) -> None:
    """Value and gradient stay finite in three dtypes; half precision gives float32, others their own dtype."""
    for dtype in (*DTYPES, torch.float64):
        tensors = [t.to(dtype) if t.is_floating_point() else t for t in (student, *rest)]
        leaf = tensors[0].detach().requires_grad_()
        value = function(leaf, *tensors[1:])
        expected = torch.promote_types(dtype, torch.float32)
        assert value.dtype == expected, f"{dtype} in gives {value.dtype} out, not {expected}"
        assert value.isfinite().all(), f"{dtype}: value {value.detach()}"
        value.sum().backward()
        assert leaf.grad is not None, f"{dtype}: no gradient"
        assert leaf.grad.isfinite().all(), f"{dtype}: gradient {leaf.grad}"


def check_batch_permutation(function: Callable[..., Tensor], *tensors: Tensor, per_example: bool) -> None:
    """Permuting the batch permutes per-example values, and leaves a loss as it is."""
    order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(1))
    before, after = function(*tensors), function(*(t[order] for t in tensors))
    assert_close(after, before[order] if per_example else before)


def check_compiles(function: Callable[..., Tensor], student: Tensor, *rest: Tensor, backend: str = "aot_eager") -> None:
    """One graph without a break, with the eager value and gradient."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    results = []
    for version in (function, compiled):
        leaf = student.detach().clone().requires_grad_()
        value = version(leaf, *rest)
        value.sum().backward()
        results.append((value.detach(), leaf.grad))
    assert_close(results[1], results[0])


def check_learns_relations(loss: Callable[[Tensor, Tensor], Tensor], *, factor: float) -> None:
    """Within 200 steps a linear student of 3 features brings the loss below a ``factor``-th, against 5 of a teacher."""
    torch.manual_seed(7)
    x = randn(24, 3, seed=8)
    teacher = x @ randn(3, 5, seed=9)
    student = nn.Linear(3, 3, dtype=torch.float64)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.03)
    first = loss(student(x), teacher).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss(student(x), teacher).backward()
        optimizer.step()
    last = loss(student(x), teacher).item()
    assert last < first / factor, f"the loss fell from {first} to {last} only"


def check_nothing_that_counts(function: Callable[..., Tensor], student: Tensor, teacher: Tensor, mask: Tensor) -> None:
    """With a mask that is false everywhere the loss is 0, and backward works: a micro-batch may hold padding only."""
    leaf = student.clone().requires_grad_()
    value = function(leaf, teacher, mask=torch.zeros_like(mask))
    assert value.requires_grad, "the loss has no path back to the student"
    value.backward()
    assert value.item() == 0
    assert leaf.grad is not None
    assert (leaf.grad == 0).all()


def check_sliders_answer(panel: Any, moves: Mapping[int, float]) -> None:
    """Each slider that is moved, by its place, changes a panel's picture and text; moved back, all is as before."""
    *sliders, chart, text = panel.children
    shown = [(bytes(chart.value), text.value)]
    before = {place: sliders[place].value for place in moves}
    for place, value in moves.items():
        sliders[place].value = value
        shown.append((bytes(chart.value), text.value))
        assert shown[-1][0] != shown[-2][0]
        assert shown[-1][1] != shown[-2][1]
    for place, value in before.items():
        sliders[place].value = value
    assert (bytes(chart.value), text.value) == shown[0]
