"""Half precision in the fused loss: logits keep their digits, and small probabilities their gradient."""

import pytest
import torch

from kdref.language import fused_linear_loss, token_loss
from tests import checks

N, V, H = 32, 4000, 512
CASES = [("forward", None), ("reverse", None), ("total_variation", None), ("jensen_shannon", 0.5)]
CASES += [("skew_forward", 0.1), ("skew_reverse", 0.1)]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
everywhere = pytest.mark.parametrize("device", DEVICES)
deviations = pytest.mark.parametrize("deviation", [3.0, 10.0, 30.0])  # of the logits


def errors(
    kind: str, mix: float | None, deviation: float, *, device: str, tokens: int = N, chunk_size: int | None = None
) -> list[float]:
    """How far the gradients of hidden states and of a shared head are from those of the same tensors in float64."""
    hidden, head = checks.randn(tokens, H, seed=1), checks.randn(V, H, seed=2, scale=deviation / H**0.5)
    teacher = hidden + checks.randn(tokens, H, seed=3, scale=0.1)  # a student that is nearly there
    hidden, head, teacher = (x.to(device, torch.bfloat16) for x in (hidden, head, teacher))
    ours = [x.clone().requires_grad_() for x in (hidden, head)]
    fused_linear_loss(*ours, teacher, head, kind=kind, mix=mix, chunk_size=chunk_size).backward()
    exact = [x.double().requires_grad_() for x in (hidden, head)]
    token_loss(exact[0] @ exact[1].T, teacher.double() @ head.double().T, kind=kind, mix=mix).backward()
    return [((x.grad.double() - y.grad).norm() / y.grad.norm()).item() for x, y in zip(ours, exact, strict=True)]


@everywhere
@deviations
@pytest.mark.parametrize(("kind", "mix"), CASES)
def test_gradients_in_bfloat16_are_right_to_half_a_percent(
    kind: str, mix: float | None, deviation: float, device: str
) -> None:
    # a logit that is rounded to bfloat16 is off by up to 0.4 % of itself: between sides that nearly agree, by all
    assert max(errors(kind, mix, deviation, device=device)) < 0.005


@everywhere
@deviations
def test_the_sum_of_sixteen_chunks_in_bfloat16_is_right_to_a_percent(deviation: float, device: str) -> None:
    assert max(errors("forward", None, deviation, device=device, tokens=16 * 8, chunk_size=8)) < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_a_float32_loss_and_gradients_of_its_own_dtype(dtype: torch.dtype) -> None:
    sizes = ((7, 3), (11, 3), (11,), (7, 5), (11, 5), (11,))
    given = [checks.randn(*size, seed=seed, scale=1.5, dtype=dtype) for seed, size in enumerate(sizes)]
    ours, exact = ([x.to(kind, copy=True).requires_grad_() for x in given] for kind in (dtype, torch.float64))
    hidden, weight, bias, *teacher, teacher_bias = ours
    settings = {"student_bias": bias, "teacher_bias": teacher_bias, "chunk_size": 2}
    value = fused_linear_loss(hidden, weight, *teacher, kind="forward", **settings)
    expected = token_loss(*(h @ w.T + b for h, w, b in (exact[:3], exact[3:])), kind="forward")
    assert value.dtype == torch.float32
    assert abs(value.item() - expected.item()) < 1e-5 * expected.item()
    value.backward()
    expected.backward()
    for one, other in zip(ours[:3], exact[:3], strict=True):
        assert one.grad.dtype == dtype
        assert (one.grad.double() - other.grad).norm() < 0.01 * other.grad.norm()


def test_sides_of_different_precision_are_compared_in_the_students() -> None:
    for student, teacher in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.float64,) * 2):
        hidden, weight = checks.randn(7, 3, seed=1, dtype=student), checks.randn(11, 3, seed=2, dtype=student)
        theirs = checks.randn(7, 5, seed=3, dtype=teacher), checks.randn(11, 5, seed=4, dtype=teacher)
        value = fused_linear_loss(hidden, weight, *theirs, kind="forward")
        exact = [x.double() for x in (hidden, weight, *theirs)]
        expected = token_loss(exact[0] @ exact[1].T, exact[2] @ exact[3].T, kind="forward")
        assert value.dtype == torch.promote_types(student, torch.float32)
        assert abs(value.item() - expected.item()) < 1e-5 * expected.item()


def test_a_weight_of_many_words_is_converted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    convert = torch.Tensor.to

    def to(self: torch.Tensor, *arguments: object) -> torch.Tensor:
        sizes.append(self.numel())
        return convert(self, *arguments)

    words, width = 40_000, 256
    hidden, weight = (checks.randn(n, width, seed=n, dtype=torch.bfloat16) for n in (3, words))
    exact = token_loss(hidden.double() @ weight.double().T, 2 * hidden.double() @ weight.double().T, kind="forward")
    monkeypatch.setattr(torch.Tensor, "to", to)
    value = fused_linear_loss(hidden, weight, 2 * hidden, weight, kind="forward")
    monkeypatch.undo()
    assert sorted(sizes)[-5:-4] == [2**22] < [words * width]  # both sides in three parts; before, nothing is copied
    assert abs(value.item() - exact.item()) < 1e-4 * exact.item()


def test_small_probabilities_keep_their_gradient_in_float16() -> None:
    # 20,000 words at 1/20,000 over 4,096 tokens: each entry of the gradient is 1.2e-8, below what float16 can hold
    hidden = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
    weight, teacher = torch.ones(20_000, 1, dtype=torch.float16), torch.zeros(20_000, 1, dtype=torch.float16)
    teacher[0], weight[0] = 100, 0
    fused_linear_loss(hidden, weight, hidden.detach(), teacher, kind="forward", num_tokens=4096).backward()
    # q = e / (e·19,999 + 1) at all words but the first, where p = 1: dL/dh = Σ w (q - p) / 4096 = 1 / 4096, nearly
    assert hidden.grad.item() == pytest.approx(1 / 4096, rel=0.01)
