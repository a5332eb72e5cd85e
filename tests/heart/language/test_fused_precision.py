"""Half precision in the fused loss, where logits keep their digits, and the path that a GPU takes."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from kdref.language import fused, fused_linear_loss, token_loss
from tests import checks

N, V, H = 32, 4000, 512
CASES = [("forward", None), ("reverse", None), ("jensen_shannon", 0.5), ("skew_forward", 0.1), ("skew_reverse", 0.1)]


def errors(kind: str, mix: float | None, deviation: float, *, tokens: int = N, chunk_size: int | None = None) -> list:
    """How far the gradients of hidden states and of a shared head are from those of the same tensors in float64."""
    hidden, weight = checks.randn(tokens, H, seed=1), checks.randn(V, H, seed=2, scale=deviation / H**0.5)
    teacher = hidden + checks.randn(tokens, H, seed=3, scale=0.1)  # a student that is nearly there
    given = [x.to(torch.bfloat16) for x in (hidden, weight, teacher)]
    student, head = (x.clone().requires_grad_() for x in given[:2])
    fused_linear_loss(student, head, given[2], given[1], kind=kind, mix=mix, chunk_size=chunk_size).backward()
    exact, exact_head = (x.double().requires_grad_() for x in given[:2])
    token_loss(exact @ exact_head.T, given[2].double() @ given[1].double().T, kind=kind, mix=mix).backward()
    pairs = ((student.grad, exact.grad), (head.grad, exact_head.grad))
    return [((ours.double() - right).norm() / right.norm()).item() for ours, right in pairs]


@pytest.mark.parametrize(("kind", "mix"), CASES)
@pytest.mark.parametrize("deviation", [3.0, 10.0, 30.0])
def test_gradients_in_bfloat16_are_right_to_half_a_percent(kind: str, mix: float | None, deviation: float) -> None:
    # logits rounded to bfloat16 are off by up to 0.4 % of themselves, the difference of two that nearly agree by all
    assert max(errors(kind, mix, deviation)) < 0.005


@pytest.mark.parametrize("deviation", [3.0, 10.0, 30.0])
def test_the_sum_of_sixteen_chunks_in_bfloat16_is_right_to_a_percent(deviation: float) -> None:
    assert max(errors("forward", None, deviation, tokens=16 * 8, chunk_size=8)) < 0.01


# The compiled path, which a GPU takes, tried on a processor ----------------------------------------------------------


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """The path of a GPU: counts the compilations."""
    counter = CompileCounterWithBackend("aot_eager")
    fused._compiled.cache_clear()
    torch._dynamo.reset()
    monkeypatch.setattr(fused, "NOT_COMPILED", set())
    monkeypatch.setattr(fused, "_compiles_on", lambda device: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    yield counter
    fused._compiled.cache_clear()


def value_and_gradients(loss: Callable[..., Tensor], tokens: int, **how: Any) -> list[Tensor]:
    hidden, weight, teacher, teacher_weight = (
        checks.randn(*size, seed=seed) for seed, size in enumerate([(tokens, 3), (11, 3), (tokens, 5), (11, 5)])
    )
    leaves = hidden.requires_grad_(), weight.requires_grad_()
    value = loss(hidden, weight, teacher, teacher_weight, **how)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def dense(hidden: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor, **how: Any) -> Tensor:
    return token_loss(hidden @ weight.T, teacher @ teacher_weight.T, **how)


@pytest.mark.parametrize(("kind", "mix"), [*CASES, ("total_variation", None)])
def test_each_kind_is_compiled_once_whatever_the_last_chunk(
    compiled: CompileCounterWithBackend, kind: str, mix: float | None
) -> None:
    for tokens in (8, 9, 11, 4):
        found = value_and_gradients(fused_linear_loss, tokens, kind=kind, mix=mix, chunk_size=4)
        assert_close(found, value_and_gradients(dense, tokens, kind=kind, mix=mix), rtol=1e-9, atol=1e-12)
    assert compiled.frame_count == 1


def test_without_a_compiler_it_says_so_once_and_works(
    compiled: CompileCounterWithBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation\nmore")

    monkeypatch.setattr(torch, "compile", no_compiler)
    expected = value_and_gradients(dense, 6, kind="forward")
    with pytest.warns(UserWarning, match=r"runs uncompiled.*RuntimeError: Cannot find a working triton installation$"):
        assert_close(value_and_gradients(fused_linear_loss, 6, kind="forward", chunk_size=4), expected)
    assert_close(value_and_gradients(fused_linear_loss, 6, kind="forward", chunk_size=4), expected)  # no second warning
