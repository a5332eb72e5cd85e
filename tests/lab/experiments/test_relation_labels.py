"""Few labels and a teacher: the weight's rule, what each arm reads, and choices inside their lists."""

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.experiments import _relation_labels, relation_labels, relation_labels_tuning
from kdref.lab.experiments._relation_labels import LABELS, NAMES, Side, pull, taught, teacher_term


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_relation_labels, "EPOCHS", 1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_trains_its_student_the_same_way_twice(name: str) -> None:
    first, again = (taught(name, 0.01 if name == LABELS else 1.0, labels=50, seed=5000, tuning=True) for _ in range(2))
    assert first == again
    assert 0.1 < first["accuracy"] < 1
    assert (first["weight"] == 0) == (name == LABELS)


@pytest.mark.usefixtures("quick")
def test_the_weight_grows_with_k_and_decay_is_for_labels_only() -> None:
    one, five = (taught("SP", k, labels=50, seed=5000, tuning=True) for k in (1.0, 5.0))
    assert_close(five["weight"], 5 * one["weight"])


def test_pull_is_the_length_of_the_gradient() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert_close(pull((weights * torch.tensor([[3.0, 0.0], [0.0, 4.0]])).sum(), weights), 5.0)


@pytest.mark.parametrize("name", NAMES[1:])
def test_only_soft_targets_read_logits(name: str) -> None:
    torch.manual_seed(0)
    own, told = Side(torch.randn(8, 32), torch.randn(8, 10)), Side(torch.randn(8, 300), torch.randn(8, 10))
    values = []
    for logits in (told.logits, told.logits.flip(1)):
        helpers = _relation_labels._helpers(20, 0)
        values.append(teacher_term(name, own, told._replace(logits=logits), torch.arange(8), helpers).item())
    assert (values[0] != values[1]) == (name == "soft targets")


def test_more_labels_are_the_fewer_and_others() -> None:
    split = _relation_labels.known(5000).split
    assert len(split.train_x) == 1000
    assert {labels for _, labels in relation_labels.PLANS.values()} == {50, 1000}


def test_choices_stand_in_their_lists() -> None:
    for labels, names in relation_labels_tuning.COMPARED.items():
        for name in names:
            assert relation_labels_tuning.chosen(name, labels) in relation_labels_tuning.tried(name, labels).values()
