"""What is reported about a classifier."""

import math

import pytest
import torch
from torch import nn

from kdref.lab.training.measure import latency, measure


class Fixed(nn.Module):
    """Gives its input back as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.frozen = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


# probabilities (3/4, 1/4) in each row: right, right, right, wrong
LOGITS = torch.tensor([[math.log(3), 0.0]] * 4)
LABELS = torch.tensor([0, 0, 0, 1])


def test_values_worked_out_by_hand() -> None:
    result = measure(Fixed(), LOGITS, LABELS, teacher_logits=torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2))
    assert result["accuracy"] == 0.75
    assert result["agreement"] == 0.5
    assert result["nll"] == pytest.approx(-(3 * math.log(3 / 4) + math.log(1 / 4)) / 4)
    assert result["calibration_error"] == pytest.approx(0.0, abs=1e-6)  # confidence 3/4, right 3 times in 4
    assert result["parameters"] == 3.0


def test_overconfidence_shows_as_calibration_error() -> None:
    # confidence 1, right 3 times in 4
    assert measure(Fixed(), LOGITS * 100, LABELS)["calibration_error"] == pytest.approx(0.25, abs=1e-6)


def test_agreement_needs_a_teacher() -> None:
    assert "agreement" not in measure(Fixed(), LOGITS, LABELS)


def test_the_mode_is_restored_and_eval_mode_is_used() -> None:
    model = nn.Sequential(nn.Dropout(0.999)).train()
    assert measure(model, LOGITS, LABELS)["accuracy"] == 0.75
    assert model.training


def test_lengths_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"equally many, got \[4, 3\]"):
        measure(Fixed(), LOGITS, LABELS[:3])
    with pytest.raises(ValueError, match=r"equally many, got \[4, 4, 2\]"):
        measure(Fixed(), LOGITS, LABELS, teacher_logits=LOGITS[:2])


def test_latency_is_positive_and_leaves_the_mode() -> None:
    model = nn.Linear(2, 2).train()
    assert 0 < latency(model, LOGITS, repeats=3) < 1000
    assert model.training
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        latency(model, LOGITS, repeats=0)
