"""CKA: its definitions in loops, what it ignores, and what it does not."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.fidelity import centered_kernel_alignment
from tests.checks import randn as features
from tests.lab.apple import on_apple


def biased_by_features(x: Tensor, y: Tensor) -> float:
    """The squared covariances of all pairs of features, over those of each side with itself (Kornblith et al. 2019)."""

    def squared_covariances(a: Tensor, b: Tensor) -> float:
        total = 0.0
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                mean_a, mean_b = (sum(v.tolist()) / len(v) for v in (a[:, i], b[:, j]))
                pairs = zip(a[:, i].tolist(), b[:, j].tolist(), strict=True)
                total += sum((p - mean_a) * (q - mean_b) for p, q in pairs) ** 2
        return total

    return squared_covariances(x, y) / math.sqrt(squared_covariances(x, x) * squared_covariances(y, y))


def unbiased_hsic(x: Tensor, y: Tensor) -> float:
    """Song et al. 2012, equation 5, of linear kernels without their diagonals, in plain Python."""
    n = len(x)
    k, t = (
        [[0.0 if i == j else sum(p * q for p, q in zip(a, b, strict=True)) for j, b in enumerate(s)] for i, a in rows]
        for s, rows in ((side.tolist(), list(enumerate(side.tolist()))) for side in (x, y))
    )
    trace = sum(k[i][j] * t[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, t)) / ((n - 1) * (n - 2))
    rows = 2 / (n - 2) * sum(sum(k[i]) * sum(t[i]) for i in range(n))
    return (trace + sums - rows) / (n * (n - 3))


def unbiased_by_song(x: Tensor, y: Tensor) -> float:
    return unbiased_hsic(x, y) / math.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))


FORMS: dict[bool, Callable[[Tensor, Tensor], float]] = {False: biased_by_features, True: unbiased_by_song}


@pytest.mark.parametrize("unbiased", FORMS)
@pytest.mark.parametrize("count", [4, 5, 9])
def test_equals_its_definition_in_loops(unbiased: bool, count: int) -> None:
    x, y = features(count, 3), features(count, 5, seed=1) + 2
    y[:, :2] += x[:, :2]
    for pair in ((x, y), (y, x)):
        found = centered_kernel_alignment(*pair, unbiased=unbiased).item()
        assert found == pytest.approx(FORMS[unbiased](*pair), abs=1e-11)


def test_worked_by_hand() -> None:
    # one feature each: the squared correlation. x: -1, 0, 1; y: -1, 1, 0 after centring; covariance 1, norms √2 and √2
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    assert centered_kernel_alignment(x, y, unbiased=False).item() == pytest.approx(0.25)
    # Song et al.: products are 1 for the pairs 12 and 34 of x, 13 and 24 of y, -1 for the four others; rows sum to -1.
    # Trace 2 (1 + 1 - 4) = -4, sums (-4)(-4)/6 = 8/3, rows 2/2 · 4 · (-1)(-1) = 4: -4 + 8/3 - 4 = -16/3.
    # Of a side with itself 12 + 8/3 - 4 = 32/3. The ratio is -½.
    x, y = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert centered_kernel_alignment(x, y).item() == pytest.approx(-0.5)
    assert centered_kernel_alignment(x, y, unbiased=False).item() == 0


@pytest.mark.parametrize("unbiased", FORMS)
def test_ignores_rotation_shift_and_scale_but_not_a_general_linear_map(unbiased: bool) -> None:
    x = features(20, 4)
    rotation = torch.linalg.qr(features(4, 4, seed=1))[0]
    moved = 7 * x @ rotation + 100
    assert centered_kernel_alignment(x, moved, unbiased=unbiased).item() == pytest.approx(1, abs=1e-11)
    stretched = x @ torch.diag(torch.tensor([1, 10, 100, 1000], dtype=torch.float64))
    assert centered_kernel_alignment(x, stretched, unbiased=unbiased) < 0.9
    y = features(20, 3, seed=2)
    before, after = (centered_kernel_alignment(side, y, unbiased=unbiased) for side in (x, moved))
    assert_close(after, before, rtol=1e-9, atol=1e-11)


@given(seed=st.integers(0, 10**6))
def test_is_symmetric_bounded_and_indifferent_to_the_order_of_both(seed: int) -> None:
    x, y = features(9, 2, 3, seed=seed), features(9, 5, seed=seed + 1)
    for unbiased, least in ((False, 0), (True, -1)):
        found = centered_kernel_alignment(x, y, unbiased=unbiased)
        assert_close(centered_kernel_alignment(y, x, unbiased=unbiased), found)
        assert least <= found <= 1 + 1e-12
        assert_close(centered_kernel_alignment(x, x, unbiased=unbiased).item(), 1.0)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        assert_close(centered_kernel_alignment(x[order], y[order], unbiased=unbiased), found)
        assert_close(centered_kernel_alignment(x.flatten(1), y, unbiased=unbiased), found)


def test_order_of_examples_matters() -> None:
    x = features(20, 4)
    for unbiased in FORMS:
        assert centered_kernel_alignment(x, x.flip(0), unbiased=unbiased) < 0.9


def test_few_examples_of_many_features_look_alike_to_the_biased_form_only() -> None:
    biased, unbiased = (
        [
            centered_kernel_alignment(features(8, 500, seed=s), features(8, 500, seed=s + 99), unbiased=u)
            for s in range(30)
        ]
        for u in (False, True)
    )
    assert min(biased) > 0.95, "strangers"
    mean = torch.stack(unbiased).mean()
    assert mean.abs() < 3 * torch.stack(unbiased).std() / math.sqrt(30)
    assert min(unbiased) < 0 < max(unbiased)


def test_the_product_of_the_centred_tables_is_without_bias() -> None:
    # of two sides with nothing in common, the expected numerator is 0; that of the biased form is not
    numerators = [unbiased_hsic(features(5, 2, seed=s), features(5, 2, seed=s + 5000)) for s in range(2000)]
    values = torch.tensor(numerators)
    assert values.mean().abs() < 3 * values.std() / math.sqrt(2000)


def test_constant_features_are_like_nothing() -> None:
    x = features(6, 2)
    lonely = torch.zeros(6, 3, dtype=torch.float64)
    lonely[2] = torch.tensor([0.1, 0.7, -0.3])  # one example differs: without the diagonal nothing is left but rounding
    for unbiased in FORMS:
        for same in (torch.ones(6, 2), torch.full((6, 4), 0.1).double(), torch.zeros(6, 1)):
            assert centered_kernel_alignment(same, x, unbiased=unbiased).item() == 0
            assert centered_kernel_alignment(x, same, unbiased=unbiased).item() == 0
            assert centered_kernel_alignment(same, same, unbiased=unbiased).item() == 0
    assert centered_kernel_alignment(lonely, x).item() == 0
    assert centered_kernel_alignment(lonely, lonely, unbiased=False).item() == pytest.approx(1)


def test_two_examples_lie_on_a_line_so_all_features_of_them_are_alike() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0, 1.0], [3.0, -7.0]])
    assert centered_kernel_alignment(x, y, unbiased=False).item() == pytest.approx(1)
    assert centered_kernel_alignment(x, torch.ones(2, 3), unbiased=False).item() == 0


def test_float32_far_from_zero_and_extreme_scales_are_precise() -> None:
    x, y = features(30, 4), features(30, 4, seed=1)
    for unbiased in FORMS:
        exact = centered_kernel_alignment(x, y, unbiased=unbiased)
        far = centered_kernel_alignment((x + 1000).float(), (y + 1000).float(), unbiased=unbiased)
        assert far.dtype == torch.float32
        assert far.item() == pytest.approx(exact.item(), abs=1e-4)
        for scale in (1e-30, 1e30, 1e120):
            assert_close(centered_kernel_alignment(scale * x, y, unbiased=unbiased), exact, rtol=1e-9, atol=1e-12)
        half = centered_kernel_alignment(x.bfloat16(), y.half(), unbiased=unbiased)
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(exact.item(), abs=0.02)


def test_a_value_that_is_no_number_is_not_hidden() -> None:
    for value in (math.nan, math.inf):
        broken = features(6, 3)
        broken[4, 1] = value
        for pair in ((broken, features(6, 2)), (features(6, 2), broken)):
            for unbiased in FORMS:
                assert centered_kernel_alignment(*pair, unbiased=unbiased).isnan()


def test_an_apple_needs_no_float64_and_autocast_rounds_nothing() -> None:
    x, y = features(9, 4).float(), features(9, 3, seed=1).float()
    for unbiased in FORMS:
        exact = centered_kernel_alignment(x, y, unbiased=unbiased)
        on_device = centered_kernel_alignment(on_apple(x), on_apple(y), unbiased=unbiased)
        assert_close(on_device.cpu(), exact, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(centered_kernel_alignment(x, y, unbiased=unbiased), exact, rtol=0, atol=0)


def test_takes_no_gradient_and_compiles_to_one_graph() -> None:
    x, y = features(9, 4).requires_grad_(), features(9, 3, seed=1).requires_grad_()
    assert not centered_kernel_alignment(x, y).requires_grad
    torch._dynamo.reset()
    compiled = torch.compile(centered_kernel_alignment, fullgraph=True, backend="aot_eager")
    for unbiased in FORMS:
        found = compiled(x, y, unbiased=unbiased)
        assert_close(found, centered_kernel_alignment(x, y, unbiased=unbiased))
    with torch.inference_mode():
        made = features(9, 3, seed=1)
    assert_close(centered_kernel_alignment(x, made), centered_kernel_alignment(x, y))


def test_bad_input_is_named() -> None:
    good = features(5, 3)
    for bad, error, message in (
        ([[1.0, 2.0]], TypeError, r"must be a tensor, got list: use torch\.as_tensor"),
        (good.long(), TypeError, r"must be floating point, got torch\.int64"),
        (good[0], ValueError, r"must be \(B, \.\.\.\), not empty, got \(3,\)"),
        (good[:, :0], ValueError, r"must be \(B, \.\.\.\), not empty, got \(5, 0\)"),
        (good[:4], ValueError, r"same examples, 4 or more, got [45] and [45]"),
    ):
        for pair, name in (((bad, good), "student_features "), ((good, bad), "teacher_features ")):
            with pytest.raises(error, match=(name if "must" in message else "") + message):
                centered_kernel_alignment(*pair)
    with pytest.raises(ValueError, match="4 or more, got 3 and 3"):
        centered_kernel_alignment(good[:3], good[:3])
    with pytest.raises(ValueError, match="2 or more, got 1 and 1"):
        centered_kernel_alignment(good[:1], good[:1], unbiased=False)
