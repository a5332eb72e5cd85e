"""What is reported about a classifier."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdref.lab.training.measure import latency, measure
from tests.lab.apple import Apple, on_apple


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
    result = measure(Fixed(), LOGITS, LABELS, teacher_logits=torch.tensor([[0.0, 1.0]] + [[1.0, 0.0]] * 3))
    assert result["accuracy"] == 0.75
    assert result["agreement"] == 0.75  # all but the first; disagreement would be 0.25
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


def test_only_where_both_choose_the_same_class_do_they_agree() -> None:
    assert measure(Fixed(), LOGITS, LABELS, teacher_logits=LOGITS)["agreement"] == 1
    assert measure(Fixed(), LOGITS, LABELS, teacher_logits=-LOGITS)["agreement"] == 0


class Reader(nn.Module):
    """Takes its inputs by keyword and gives an object with logits, as classifiers of text do."""

    def forward(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=input_ids * attention_mask, hidden=input_ids)


def test_a_classifier_of_text_is_measured_and_timed_as_it_is() -> None:
    text = {"input_ids": LOGITS, "attention_mask": torch.ones(4, 2)}
    said = SimpleNamespace(logits=torch.tensor([[0.0, 1.0]] + [[1.0, 0.0]] * 3))
    result = measure(Reader(), text, LABELS, teacher_logits=said)  # type: ignore[arg-type]
    assert (result["accuracy"], result["agreement"]) == (0.75, 0.75)
    assert latency(Reader(), text, repeats=2) > 0
    assert latency(nn.Bilinear(2, 2, 1), (LOGITS, LOGITS), repeats=2) > 0
    with pytest.raises(ValueError, match=r"equally many, got \[4, 3\]"):
        measure(Reader(), text, LABELS[:3])


def test_an_apple_needs_no_float64_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="no float64"):
        on_apple(LOGITS).double()
    said = torch.tensor([[0.0, 1.0]] + [[1.0, 0.0]] * 3)
    result = measure(Fixed(), on_apple(LOGITS), on_apple(LABELS), teacher_logits=on_apple(said))
    assert result == measure(Fixed(), LOGITS, LABELS, teacher_logits=said)
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    model = nn.Linear(2, 2)
    latency(model, on_apple(LOGITS), repeats=2)
    assert waited == [torch.device("mps")] * 5
    latency(model, LOGITS, repeats=2)
    assert len(waited) == 5
    assert isinstance(on_apple(LOGITS) + 1, Apple)


def test_half_precision_keeps_its_digits() -> None:
    logits = torch.tensor([[3.0, 0.5], [1.0, 2.0], [0.25, 4.0]])  # exact in bfloat16
    labels = torch.tensor([0, 0, 1])
    assert measure(Fixed(), logits.bfloat16(), labels) == measure(Fixed(), logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "said", "message"),
    [
        (LOGITS[:, :1], LABELS, None, r"two classes or more, got \(4, 1\): of one sigmoid's z make two"),
        (LOGITS[:, 0], LABELS, None, r"of shape \(B, C\), two classes or more, got \(4,\)"),
        (LOGITS.reshape(4, 1, 2).expand(4, 4, 2), LABELS, None, r"got \(4, 4, 2\)"),  # would broadcast
        (LOGITS, LABELS[:, None], None, r"class indices of shape \(B,\), got torch.int64 of \(4, 1\)"),
        (LOGITS, LABELS.float(), None, r"class indices of shape \(B,\), got torch.float32 of \(4,\)"),
        (LOGITS, LABELS - 100, None, r"labels must be from 0 to 1, got -100 to -99: drop the unlabelled"),
        (LOGITS, LABELS + 1, None, r"labels must be from 0 to 1, got 1 to 2"),
        (LOGITS, LABELS, torch.zeros(4, 3), r"teacher logits of shape \(4, 3\) are not of the model's \(4, 2\)"),
        (LOGITS * math.nan, LABELS, None, "logits hold nan"),
        (LOGITS, LABELS, LOGITS * math.nan, "teacher logits hold nan"),
    ],
)
def test_what_would_give_a_number_that_means_nothing_is_refused(
    logits: torch.Tensor, labels: torch.Tensor, said: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(Fixed(), logits, labels, teacher_logits=said)


def test_latency_is_positive_and_leaves_the_mode() -> None:
    model = nn.Linear(2, 2).train()
    assert 0 < latency(model, LOGITS, repeats=3) < 1000
    assert model.training
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    model[1].eval()  # frozen in a model that trains
    latency(model, LOGITS, repeats=1)
    assert [module.training for module in model.modules()] == [True, True, False]
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        latency(model, LOGITS, repeats=0)
