"""Fidelity: what people hand to measures of classes, besides logits and labels that fit."""

import math

import pytest
import torch

from kdref import fidelity
from kdref.fidelity import expected_calibration_error, fitted_temperature, top1_agreement
from tests import inputs
from tests.inputs import Call

AGREEMENT, ERROR = Call(fidelity, "top1_agreement", "zz"), Call(fidelity, "expected_calibration_error", "py")
TEMPERATURE = Call(fidelity, "fitted_temperature", "zy")
MISTAKES = [Call(fidelity, name, "zzy") for name in ("error_consistency", "wrong_answer_agreement")]
CALLS = [AGREEMENT, *MISTAKES, TEMPERATURE, ERROR]
OF_LOGITS = (inputs.check_one_class, inputs.check_class_axis)  # and not of probabilities


@pytest.mark.parametrize("check", inputs.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_measure_passes(check, call: Call) -> None:
    if call is not ERROR or check not in OF_LOGITS:
        check(call)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_empty_batch_has_no_mean(call: Call) -> None:
    inputs.check_empty(call, refused=call is not AGREEMENT)


@pytest.mark.parametrize("call", [*MISTAKES, TEMPERATURE, ERROR], ids=str)
def test_labels_out_of_range_are_named(call: Call) -> None:
    inputs.check_labels(call)
    *rows, labels = call.rows()
    for wrong in (labels[:5], labels[:, None], labels[None]):
        with pytest.raises(ValueError, match=r"expected logits \(B, C\) and labels \(B,\), got \(12, 4\) and"):
            call(*rows, wrong)


@pytest.mark.parametrize("call", [AGREEMENT, *MISTAKES, TEMPERATURE], ids=str)
def test_a_class_that_a_side_lacks_makes_no_nan(call: Call) -> None:
    inputs.check_missing_class(call)


@pytest.mark.parametrize("call", [AGREEMENT, *MISTAKES], ids=str)
def test_two_sides_of_different_shapes_are_refused(call: Call) -> None:
    for index in (0, 1):
        with pytest.raises(ValueError, match=r"same shape, got \(1?[12], 4\) and \(1?[12], 4\)"):
            call(*call.replaced(index, call.rows()[index][:1]))


def test_what_are_no_probabilities_is_named() -> None:
    labels = torch.tensor([0, 1])
    for bad, message in (
        (torch.tensor([[2.0, -1.0], [0.5, 0.5]]), r"must be in \[0, 1\], got 2\.0: logits need \.softmax\(-1\) first"),
        (torch.tensor([[0.5, 0.5], [-0.25, 0.5]]), r"must be in \[0, 1\], got -0\.25"),
        (torch.ones(2, 1), r"must be \(B, C\), two classes or more at -1, not empty, got \(2, 1\)"),
        (torch.ones(2), r"must be \(B, C\), .*got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            expected_calibration_error(bad, labels)
    with pytest.raises(ValueError, match=r"two classes or more at 7, not empty, got \(2, 2\)"):
        expected_calibration_error(torch.eye(2), labels, class_dim=7)


def test_bins_are_a_positive_whole_number() -> None:
    for bins in (0, -3, 2.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"bins must be a whole number, at least 1, got {bins}"):
            expected_calibration_error(torch.eye(2), torch.tensor([0, 1]), bins=bins)
    assert expected_calibration_error(torch.eye(2), torch.tensor([0, 1]), bins=10.0).item() == 0


def test_where_one_looks_costs_a_sync_nothing_is_looked_at() -> None:
    """On another device values are not checked; shapes still are."""
    off = {"device": "meta"}
    assert top1_agreement(torch.ones(3, 2, **off), torch.ones(3, 2, **off)).shape == (3,)
    assert expected_calibration_error(torch.ones(3, 2, **off), torch.ones(3, dtype=torch.int64, **off)).shape == ()
    assert fitted_temperature(torch.ones(3, 2, **off), torch.ones(3, dtype=torch.int64, **off)).shape == ()
