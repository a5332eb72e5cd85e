"""Calibration, checked against Guo et al. 2017 in plain Python, and against torchmetrics."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.testing import assert_close
from torchmetrics.functional.classification import multiclass_calibration_error

from kdref.fidelity import expected_calibration_error, fitted_temperature
from tests import checks

LOGITS = checks.randn(300, 4, seed=1, scale=2.0)
LABELS = (LOGITS + checks.randn(300, 4, seed=2, scale=2.5)).argmax(-1)  # too sure of itself, by far
PROBABILITIES = LOGITS.softmax(-1)


def error_by_loops(rows: list[list[float]], labels: list[int], bins: int) -> float:
    """Guo et al. 2017, equations 2 to 4, with their half-open intervals."""
    total = 0.0
    kept = [(max(row), row.index(max(row)) == label) for row, label in zip(rows, labels, strict=True) if label != -100]
    for m in range(1, bins + 1):
        inside = [(sure, right) for sure, right in kept if (m - 1) / bins < sure <= m / bins]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(sure for sure, _ in inside) / len(inside)
            total += len(inside) / len(kept) * abs(accuracy - confidence)
    return total


def mean_loss(rows: list[list[float]], labels: list[int], temperature: float) -> float:
    """Negative log-likelihood in plain Python."""
    pairs = [(row, label) for row, label in zip(rows, labels, strict=True) if label != -100]
    return -sum(math.log(checks.softmax(row, temperature)[label]) for row, label in pairs) / len(pairs)


def fitted_by_scipy(logits: Tensor, labels: Tensor) -> float:
    rows, known = logits.tolist(), labels.tolist()
    found = minimize_scalar(
        lambda log_t: mean_loss(rows, known, math.exp(log_t)), bounds=(-5, 8), options={"xatol": 1e-9}
    )
    return math.exp(found.x)


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 100])
def test_the_error_matches_the_definition(bins: int) -> None:
    found = expected_calibration_error(PROBABILITIES, LABELS, bins=bins).item()
    assert found == pytest.approx(error_by_loops(PROBABILITIES.tolist(), LABELS.tolist(), bins), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_is_that_of_torchmetrics(dtype: torch.dtype) -> None:
    for seed in range(10):
        p, labels = (
            checks.randn(200, 5, seed=seed, scale=3.0).softmax(-1).to(dtype),
            checks.labels_for(200, 5, seed=seed),
        )
        for bins in (5, 15):
            theirs = multiclass_calibration_error(p, labels, num_classes=5, n_bins=bins)
            assert_close(expected_calibration_error(p, labels, bins=bins), theirs.to(dtype), rtol=1e-5, atol=1e-7)


def test_known_errors_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    labels = torch.tensor([0, 1, 1, 0])
    # two bins: all are above ½; accuracy ¾, mean confidence 3.1/4 = 0.775
    assert expected_calibration_error(p, labels, bins=2).item() == pytest.approx(0.025, abs=1e-6)
    # ten bins: 0.9 twice, once right; 0.6 right; 0.7 right: (2 · 0.4 + 0.4 + 0.3) / 4
    assert expected_calibration_error(p, labels, bins=10).item() == pytest.approx(1.5 / 4, abs=1e-6)


def test_a_confidence_on_a_border_belongs_to_the_lower_bin() -> None:
    # 0.75 ends the third bin of four, and 1 the last
    p = torch.tensor([[0.75, 0.25], [0.7, 0.3], [1.0, 0.0], [0.8, 0.2]])
    labels = torch.tensor([0, 1, 1, 0])
    # bin 3: right 0.75 and wrong 0.7, |½ - 0.725|; bin 4: wrong 1 and right 0.8, |½ - 0.9|; each half of all
    assert expected_calibration_error(p, labels, bins=4).item() == pytest.approx((0.225 + 0.4) / 2, abs=1e-6)


def test_who_says_how_often_it_is_right_has_no_error() -> None:
    p = torch.tensor([[0.75, 0.25]] * 8)
    assert expected_calibration_error(p, torch.tensor([0, 0, 0, 1] * 2)).item() == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(torch.eye(3), torch.arange(3)).item() == 0
    assert expected_calibration_error(torch.eye(3), torch.tensor([1, 2, 0])).item() == 1


def test_of_the_teachers_choice_it_is_the_calibration_to_the_teacher() -> None:
    teacher = checks.randn(300, 4, seed=7)
    found = expected_calibration_error(PROBABILITIES, teacher.argmax(-1))
    expected = error_by_loops(PROBABILITIES.tolist(), teacher.argmax(-1).tolist(), 15)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    assert expected_calibration_error(torch.eye(4)[teacher.argmax(-1)], teacher.argmax(-1)).item() == 0


@pytest.mark.parametrize("unlabelled", [0, 100])
def test_the_fitted_temperature_has_the_least_loss(unlabelled: int) -> None:
    labels = LABELS.clone()
    labels[:unlabelled] = -100
    found = fitted_temperature(LOGITS, labels).item()
    assert found == pytest.approx(fitted_by_scipy(LOGITS, labels), rel=1e-6)
    assert found > 1.5
    least, known = mean_loss(LOGITS.tolist(), labels.tolist(), found), labels.tolist()
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert mean_loss(LOGITS.tolist(), known, factor * found) > least


def test_known_temperatures_by_hand() -> None:
    # a margin of m that is right with share a: a = σ(m/τ), so τ = m / log(a / (1 - a))
    for margin, right, wrong in ((4.0, 3, 1), (1.0, 9, 1), (0.1, 2, 1), (1e4, 3, 2)):
        logits = torch.tensor([[margin, 0.0]], dtype=torch.float64).repeat(right + wrong, 1)
        labels = torch.tensor([0] * right + [1] * wrong)
        assert fitted_temperature(logits, labels).item() == pytest.approx(margin / math.log(right / wrong), rel=1e-12)


def test_at_the_fitted_temperature_the_mean_score_is_that_of_the_labels() -> None:
    found = fitted_temperature(LOGITS, LABELS)
    p = (LOGITS / found).softmax(-1)
    chosen = LOGITS.gather(1, LABELS[:, None])[:, 0]
    assert_close((p * LOGITS).sum(-1).mean(), chosen.mean(), rtol=1e-10, atol=0)
    leaf = found.clone().requires_grad_()
    torch.nn.functional.cross_entropy(LOGITS / leaf, LABELS).backward()
    assert leaf.grad.abs() < 1e-12


def test_a_classifier_that_is_calibrated_keeps_its_temperature() -> None:
    z = checks.randn(20_000, 3, seed=4, scale=2.0)
    labels = torch.multinomial(z.softmax(-1), 1, generator=torch.Generator().manual_seed(5))[:, 0]
    assert fitted_temperature(z, labels).item() == pytest.approx(1, abs=0.03)
    assert fitted_temperature(3 * z, labels).item() == pytest.approx(3, abs=0.09)
    before = expected_calibration_error((3 * z).softmax(-1), labels)
    assert expected_calibration_error((3 * z / fitted_temperature(3 * z, labels)).softmax(-1), labels) < before / 5


def test_where_there_is_nothing_to_fit() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    assert fitted_temperature(logits, torch.tensor([0, 1])).item() == 0  # always right: the surer, the better
    assert fitted_temperature(logits, torch.tensor([1, 0])).item() == math.inf  # always the last
    assert fitted_temperature(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == math.inf
    assert fitted_temperature(logits, torch.tensor([-100, -100])).item() == math.inf
    assert fitted_temperature(logits, torch.tensor([0, -100])).item() == 0
    # one of a thousand is wrong by a hair: next to 0 for the others, and still a number
    many = torch.tensor([[1.0, 0.0]]).repeat(1000, 1)
    many[0] = torch.tensor([0.0, 1e-6])
    assert 0.03 < fitted_temperature(many, torch.zeros(1000, dtype=torch.int64)).item() < 0.06


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50), scale=st.sampled_from([1e-20, 0.1, 3.0, 1e15]))
def test_what_changes_nothing(seed: int, shift: float, scale: float) -> None:
    z, labels = checks.randn(30, 3, seed=seed), checks.labels_for(30, 3, seed=seed)
    labels[:3], z[:3] = 0, torch.tensor([5.0, 0.0, 0.0])  # three that are right, so that there is a temperature
    z[3], labels[3] = torch.tensor([0.0, 4.0, 0.0]), 0
    plain = fitted_temperature(z, labels)
    assert plain > 0
    moved = z + shift * torch.arange(30.0, dtype=torch.float64)[:, None]
    assert_close(fitted_temperature(moved, labels), plain, rtol=1e-8, atol=0)
    assert_close(fitted_temperature(scale * z, labels), scale * plain, rtol=1e-8, atol=0)
    order = torch.tensor([2, 0, 1])
    for measure, rows in ((fitted_temperature, z), (expected_calibration_error, z.softmax(-1))):
        value = measure(rows, labels)
        assert_close(measure(rows[:, order], order.argsort()[labels]), value, rtol=1e-9, atol=1e-12)
        assert_close(measure(rows.repeat(3, 1), labels.repeat(3)), value, rtol=1e-9, atol=1e-12)
        checks.check_batch_permutation(measure, rows, labels, per_example=False)
    assert 0 <= expected_calibration_error(z.softmax(-1), labels) <= 1


def test_unlabelled_examples_are_left_out_of_both() -> None:
    labels = LABELS.clone()
    labels[::3] = -100
    kept = labels != -100
    broken = LOGITS.clone()
    broken[::3] = math.nan
    for logits in (LOGITS, broken):
        assert_close(fitted_temperature(logits, labels), fitted_temperature(LOGITS[kept], LABELS[kept]))
        found = expected_calibration_error(logits.softmax(-1), labels)
        assert_close(found, expected_calibration_error(PROBABILITIES[kept], LABELS[kept]))
    assert expected_calibration_error(PROBABILITIES, torch.full((300,), -100)).item() == 0


def test_extreme_logits_and_half_precision_have_a_temperature() -> None:
    z = LOGITS / LOGITS.abs().max()
    for scale in (1e-4, 1.0, 1e4):
        for dtype in (*checks.DTYPES, torch.float64):
            given_logits = (scale * z).to(dtype)
            found = fitted_temperature(given_logits, LABELS)
            assert found.dtype == torch.promote_types(dtype, torch.float32)
            assert found.item() == pytest.approx(scale * fitted_temperature(z, LABELS).item(), rel=0.02)
    lacking = LOGITS.clone()
    lacking[LABELS != 2, 2] = -math.inf  # a class that no one gives to the others
    assert fitted_temperature(lacking, LABELS).isfinite()
    for row in ([math.nan, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]):
        assert fitted_temperature(torch.tensor([[1.0, 0.0], row]), torch.tensor([0, 0])).isnan()


def test_no_gradient_reaches_the_input_and_each_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    for measure, rows in ((fitted_temperature, LOGITS), (expected_calibration_error, PROBABILITIES)):
        found = measure(rows.clone().requires_grad_(), LABELS)
        assert not found.requires_grad
        # 56 halvings make a large graph: traced, and not lowered any further
        assert_close(torch.compile(measure, fullgraph=True, backend="eager")(rows, LABELS), found)
