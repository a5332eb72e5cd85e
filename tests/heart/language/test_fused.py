"""The fused loss equals the dense one, in value and in every gradient, and never holds the logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.language import fused_linear_loss, token_loss
from tests import checks

N, V, H, WIDE = 7, 11, 3, 5
CASES = [("forward", None), ("reverse", None), ("total_variation", None)]
CASES += [(kind, mix) for kind in ("jensen_shannon", "skew_forward", "skew_reverse") for mix in (0.0, 0.2, 0.7, 1.0)]
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)
MASK = torch.tensor([True, False, True, True, True, False, True])


def layers(dtype: torch.dtype = torch.float64, *, bias: bool = True) -> list[Tensor | None]:
    """A student's hidden states, weight and bias, which want gradients, and a teacher's."""
    sizes = ((N, H), (V, H), (V,), (N, WIDE), (V, WIDE), (V,))
    made = [checks.randn(*size, seed=seed, scale=1.5, dtype=dtype) for seed, size in enumerate(sizes)]
    made = [x.requires_grad_() if place < 3 else x for place, x in enumerate(made)]
    return made if bias else [None if place in (2, 5) else x for place, x in enumerate(made)]


def fused(tensors: list[Tensor | None], **settings: object) -> Tensor:
    hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias = tensors
    biases = {"student_bias": bias, "teacher_bias": teacher_bias}
    return fused_linear_loss(hidden, weight, teacher_hidden, teacher_weight, **biases, **settings)


def dense(tensors: list[Tensor | None], **settings: object) -> Tensor:
    return token_loss(F.linear(*tensors[:3]), F.linear(*tensors[3:]), **settings)


def gradients(loss: Tensor, tensors: list[Tensor | None]) -> list[Tensor]:
    loss.backward()
    return [x.grad for x in tensors[:3] if x is not None]


@every_kind
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", [None, MASK])
def test_equals_the_dense_form_in_value_and_in_every_gradient(
    kind: str, mix: float | None, bias: bool, mask: Tensor | None
) -> None:
    for chunk_size in (1, 3, 64, None):
        ours, theirs = layers(bias=bias), layers(bias=bias)
        settings = {"kind": kind, "mix": mix, "mask": mask, "temperature": 1.7}
        value, expected = fused(ours, chunk_size=chunk_size, **settings), dense(theirs, **settings)
        assert_close(value, expected, rtol=1e-10, atol=1e-12)
        assert_close(gradients(3 * value, ours), gradients(3 * expected, theirs), rtol=1e-10, atol=1e-12)


def test_equals_numbers_worked_by_hand() -> None:
    # two words, one feature: logits (w1 h, w2 h); student fair, teacher (1, 0), so dL/dz = q - p = (-1/2, 1/2)
    hidden, weight = torch.tensor([[2.0]], requires_grad=True), torch.tensor([[3.0], [3.0]], requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)
    teacher = torch.tensor([[1.0]]), torch.tensor([[200.0], [0.0]])
    loss = fused_linear_loss(hidden, weight, *teacher, kind="forward", student_bias=bias)
    assert loss.item() == pytest.approx(0.6931472, rel=1e-6)
    loss.backward()
    assert weight.grad.tolist() == [[-1.0], [1.0]]  # times h = 2
    assert bias.grad.tolist() == [-0.5, 0.5]
    assert hidden.grad.tolist() == [[0.0]]  # (-1/2 + 1/2) · 3


@every_kind
def test_gradcheck(kind: str, mix: float | None) -> None:
    *student, teacher_hidden, teacher_weight, teacher_bias = layers()

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        tensors = [hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias]
        return fused(tensors, kind=kind, mix=mix, mask=MASK, chunk_size=2)

    assert torch.autograd.gradcheck(loss, student, raise_exception=False), "analytic and numerical gradient differ"


def test_the_teacher_gets_no_gradient() -> None:
    tensors = [x.detach().requires_grad_() for x in layers()]
    fused(tensors, kind="forward").backward()
    assert [x.grad is None for x in tensors] == [False] * 3 + [True] * 3


def test_only_gradients_that_are_wanted_are_made() -> None:
    for frozen in range(3):
        ours, theirs = layers(), layers()
        for tensors in (ours, theirs):
            tensors[frozen].requires_grad_(False)
        gradients(fused(ours, kind="reverse"), ours)
        gradients(dense(theirs, kind="reverse"), theirs)
        assert ours[frozen].grad is None
        assert_close([x.grad for x in ours[:3]], [x.grad for x in theirs[:3]])


def test_without_gradients_the_value_is_the_same() -> None:
    with torch.no_grad():
        value = fused(layers(), kind="jensen_shannon", mix=0.3)
    assert not value.requires_grad
    assert_close(value, fused(layers(), kind="jensen_shannon", mix=0.3).detach(), rtol=0, atol=0)


def test_gradients_accumulate_and_survive_a_second_backward() -> None:
    tensors = layers()
    loss = fused(tensors, kind="forward")
    loss.backward(retain_graph=True)
    once = [x.grad.clone() for x in tensors[:3]]
    loss.backward()
    assert_close([x.grad for x in tensors[:3]], [2 * x for x in once], rtol=1e-12, atol=0)


def test_the_second_derivative_is_refused_with_advice() -> None:
    tensors = layers()
    with pytest.raises(RuntimeError, match=r"can't be differentiated twice .* use token_loss"):
        torch.autograd.grad(fused(tensors, kind="forward"), tensors[0], create_graph=True)


@every_kind
def test_words_that_a_side_lacks_have_a_bias_of_minus_infinity(kind: str, mix: float | None) -> None:
    def padded(tensors: list[Tensor]) -> list[Tensor]:
        return [
            x if place % 3 == 0 else torch.cat([x, x.new_full((2, *x.shape[1:]), -torch.inf if x.dim() == 1 else 0)])
            for place, x in enumerate(tensors)
        ]

    ours, theirs = layers(), layers()
    value, expected = fused(padded(ours), kind=kind, mix=mix), dense(theirs, kind=kind, mix=mix)
    assert_close(value, expected)
    assert_close(gradients(value, ours), gradients(expected, theirs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_kind
def test_under_autocast_it_is_near_the_dense_form(dtype: torch.dtype, kind: str, mix: float | None) -> None:
    ours, theirs = layers(torch.float32), layers(torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        value, expected = fused(ours, kind=kind, mix=mix, chunk_size=2), dense(theirs, kind=kind, mix=mix)
    assert value.dtype == torch.float32
    assert_close(value, expected, rtol=0.02, atol=2e-3)
    for one, other in zip(gradients(value, ours), gradients(expected, theirs), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() < 0.03 * other.abs().max() + 1e-3


@every_kind
def test_extreme_logits_stay_finite(kind: str, mix: float | None) -> None:
    for scale in (60.0, 1e4):
        rows = [x / x.abs().max() * scale for x in (checks.randn(4, 5, seed=5), checks.randn(4, 5, seed=6))]
        for student in (rows[0], rows[0][:1], rows[0] * 0):
            checks.check_extremes(
                lambda s, t: fused_linear_loss(
                    s, torch.eye(5, dtype=s.dtype), t, torch.eye(5, dtype=t.dtype), kind=kind, mix=mix
                ),
                student,
                rows[1][: len(student)],
            )


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else [result]
        self.elements = max([self.elements, *(x.numel() for x in made if isinstance(x, Tensor))])
        return result


@pytest.mark.parametrize(("kind", "mix"), [("forward", None), ("jensen_shannon", 0.5), ("skew_reverse", 0.1)])
def test_no_tensor_of_all_logits_ever_exists(kind: str, mix: float | None) -> None:
    tokens, words, width = 96, 200, 4
    shapes = ((tokens, width), (words, width), (tokens, width), (words, width))
    tensors = [checks.randn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    with Largest() as ours:
        fused_linear_loss(*tensors, kind=kind, mix=mix, chunk_size=8).backward()
    with Largest() as plain:
        token_loss(tensors[0] @ tensors[1].T, tensors[2] @ tensors[3].T, kind=kind, mix=mix).backward()
    assert plain.elements >= tokens * words
    assert ours.elements <= 8 * words


@pytest.mark.parametrize(("kind", "mix"), [("forward", None), ("jensen_shannon", 0.3)])
def test_compiles_to_one_graph(kind: str, mix: float | None) -> None:
    student, weight, _, *teacher = (x.detach() for x in layers())
    settings = {"kind": kind, "mix": mix, "chunk_size": 3}
    checks.check_compiles(lambda s, w, t, u: fused_linear_loss(s, w, t, u, **settings), student, weight, *teacher[:2])


def test_bad_input_is_named() -> None:
    hidden, weight, bias, teacher_hidden, teacher_weight, _ = layers()
    for bad in (
        (hidden[None], weight, teacher_hidden, teacher_weight),
        (hidden, weight[:, :2], teacher_hidden, teacher_weight),
        (hidden, weight, teacher_hidden, teacher_weight.T),
        (hidden, weight[:0], teacher_hidden, teacher_weight[:0]),
    ):
        with pytest.raises(ValueError, match=r"need hidden \(N, H\), weight \(V, H\), bias \(V,\), got"):
            fused_linear_loss(*bad, kind="forward")
    with pytest.raises(ValueError, match=r"need hidden .* got \[\(7, 3\), \(11, 3\), \(10,\)\]"):
        fused_linear_loss(hidden, weight, teacher_hidden, teacher_weight, kind="forward", student_bias=bias[:10])
    for student in ((hidden[:6], weight), (hidden, weight[:10])):
        with pytest.raises(ValueError, match=r"both sides need the same \(N, V\), got .*: cut weight and bias to"):
            fused_linear_loss(*student, teacher_hidden, teacher_weight, kind="forward")
    with pytest.raises(TypeError, match="weight and bias must be floating point"):
        fused_linear_loss(hidden, weight, teacher_hidden.long(), teacher_weight, kind="forward")
    for settings, message in (
        ({"kind": "backward"}, "kind must be one of"),
        ({"kind": "jensen_shannon"}, "mix must be in"),
        ({"kind": "forward", "temperature": 0.0}, "temperature must be positive"),
        ({"kind": "forward", "chunk_size": 0}, "chunk_size must be a whole number, at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            fused_linear_loss(hidden, weight, teacher_hidden, teacher_weight, **settings)
