"""What a GPU does, tried on a CPU: the comparison is compiled once for each kind, and works without a compiler."""

import functools
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.testing import assert_close

from kdref.language import fused, fused_linear_loss, token_loss
from tests import checks

N, V, H, WIDE = 11, 23, 3, 5
CASES = [("forward", None), ("reverse", None), ("total_variation", None), ("jensen_shannon", 0.3)]
CASES += [("skew_forward", 0.1), ("skew_reverse", 0.1)]
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)


@pytest.fixture
def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU counts as a device to compile for; nothing that this leaves behind reaches another test."""
    monkeypatch.setattr(fused, "_compiles_on", lambda device: True)
    monkeypatch.setattr(fused, "NOT_COMPILED", set())
    torch.compiler.reset()
    fused._compiled.cache_clear()
    yield
    fused._compiled.cache_clear()


@pytest.fixture
def compilations(like_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many graphs were compiled so far, here by a backend without a code generator."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    before = counters["stats"]["unique_graphs"]
    return lambda: counters["stats"]["unique_graphs"] - before


def tensors(count: int = N, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    sizes = ((count, H), (V, H), (count, WIDE), (V, WIDE))
    return [checks.randn(*size, seed=seed, scale=1.5, dtype=dtype) for seed, size in enumerate(sizes)]


def assert_is_the_dense_form(count: int = N, *, chunk_size: int = 4, **settings: object) -> None:
    ours, theirs = tensors(count), tensors(count)
    leaves = [x.requires_grad_() for x in (*ours[:2], *theirs[:2])]
    value = fused_linear_loss(*ours, chunk_size=chunk_size, **settings)
    expected = token_loss(theirs[0] @ theirs[1].T, theirs[2] @ theirs[3].T, **settings)
    assert_close(value, expected, rtol=1e-10, atol=1e-12)
    value.backward()
    expected.backward()
    assert_close([x.grad for x in leaves[:2]], [x.grad for x in leaves[2:]], rtol=1e-9, atol=1e-12)


@every_kind
def test_compiled_once_it_is_the_dense_form_for_any_number_of_tokens(
    kind: str, mix: float | None, compilations: Callable[[], int]
) -> None:
    for count in (11, 8, 6, 5):  # in chunks of 4: the last one has 3, 4, 2 and 1
        assert_is_the_dense_form(count, kind=kind, mix=mix)
    assert compilations() == 1


@every_kind
def test_another_temperature_or_mixture_compiles_nothing_anew(
    kind: str, mix: float | None, compilations: Callable[[], int]
) -> None:
    for temperature, share in ((1.0, 0.5), (2.0, 0.1), (1.7, 0.9), (1.3, 1.0), (0.7, 0.0)):
        assert_is_the_dense_form(kind=kind, mix=None if mix is None else share, temperature=temperature)
    assert compilations() == 1


def test_each_kind_has_its_own_compilations(compilations: Callable[[], int]) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):  # of one function, torch keeps eight
        for kind in ("forward", "reverse", "total_variation"):
            student, weight, *teacher = tensors(dtype=dtype)
            fused_linear_loss(student.requires_grad_(), weight, *teacher, kind=kind)
    assert compilations() == 9
    assert not fused.NOT_COMPILED


@pytest.mark.usefixtures("compilations")
def test_compiled_words_that_a_side_lacks_do_not_count() -> None:
    lacking = torch.zeros(V, dtype=torch.float64).index_fill(0, torch.tensor([1, 4]), -torch.inf)
    for kind, mix in CASES:
        student, weight, teacher, teacher_weight = tensors()
        here = lacking.isfinite()
        biases = {"student_bias": lacking, "teacher_bias": lacking}
        value = fused_linear_loss(student, weight, teacher, teacher_weight, kind=kind, mix=mix, chunk_size=4, **biases)
        expected = token_loss(student @ weight[here].T, teacher @ teacher_weight[here].T, kind=kind, mix=mix)
        assert_close(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("compilations")
def test_compiled_it_works_without_gradients_and_in_inference_mode() -> None:
    expected = token_loss(tensors()[0] @ tensors()[1].T, tensors()[2] @ tensors()[3].T, kind="reverse")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert_close(fused_linear_loss(*tensors(), kind="reverse", chunk_size=4), expected)
    with torch.inference_mode():
        theirs = tensors()[2:]
    ours = tensors()[0].requires_grad_(), tensors()[1]
    fused_linear_loss(*ours, *theirs, kind="reverse", chunk_size=4).backward()
    assert ours[0].grad.isfinite().all()


@pytest.mark.usefixtures("like_a_gpu")
@pytest.mark.parametrize("fails", ["where it is asked for", "where it is used"])
def test_without_a_compiler_it_says_so_once_and_works(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def compiler(function: object) -> object:
        tried.append(function)
        if fails == "where it is asked for":
            raise RuntimeError("Python 3.99 is too new\nfor torch.compile")
        return used

    def used(*arguments: object) -> None:
        raise RuntimeError("no working Triton\nhere")

    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.warns(UserWarning, match=r"runs uncompiled, which takes longer: RuntimeError: .*(too new|Triton)$"):
        assert_is_the_dense_form(kind="forward")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_dense_form(kind="forward", temperature=2.0)
    assert len(tried) == 1


@pytest.mark.usefixtures("like_a_gpu")
def test_a_full_memory_is_no_missing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("64 GiB")

    monkeypatch.setattr(torch, "compile", lambda function: full)
    with pytest.raises(torch.OutOfMemoryError, match="64 GiB"):
        fused_linear_loss(*tensors(), kind="forward")
    assert not fused.NOT_COMPILED


def test_a_cpu_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: pytest.fail("something is compiled"))
    assert_is_the_dense_form(kind="forward")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_kind
def test_on_a_gpu_it_is_the_dense_form(kind: str, mix: float | None) -> None:
    for count in (600, 1500, 1):
        given = [x.to("cuda", torch.float32) for x in tensors(count)]
        ours, exact = given[0].clone().requires_grad_(), given[0].double().requires_grad_()
        fused_linear_loss(ours, *given[1:], kind=kind, mix=mix).backward()
        weight, teacher, teacher_weight = (x.double() for x in given[1:])
        token_loss(exact @ weight.T, teacher @ teacher_weight.T, kind=kind, mix=mix).backward()
        assert_close(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-6)
    assert kind not in fused.NOT_COMPILED
