"""Retrieval on new classes: they are new, the loss and the recall are what they say, and every arm learns."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.experiments import (
    _relation_retrieval,
    relation_retrieval,
    relation_retrieval_beyond,
    relation_retrieval_longer,
    relation_retrieval_tuning,
)
from kdref.lab.experiments._relation_retrieval import (
    HELD_OUT,
    KNOWN,
    LOSSES,
    Settings,
    recall,
    search,
    supervised_contrastive_loss,
)
from kdref.lab.experiments.store import load


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_relation_retrieval, "EPOCHS", 1)
    _relation_retrieval.teacher.cache_clear()
    yield
    _relation_retrieval.teacher.cache_clear()


def rows(*, count: int, width: int) -> Tensor:
    return F.normalize(torch.sin(torch.arange(1.0, count * width + 1).double() ** 1.5).reshape(count, width), dim=1)


def test_supervised_contrast_is_its_definition() -> None:
    x, y, tau = rows(count=6, width=3), torch.tensor([0, 1, 0, 1, 1, 2]), 0.3
    terms = []
    for i in range(6):
        others = [math.exp(float(x[i] @ x[j]) / tau) for j in range(6) if j != i]
        terms += [
            -math.log(math.exp(float(x[i] @ x[j]) / tau) / sum(others)) for j in range(6) if j != i and y[i] == y[j]
        ]
    assert_close(supervised_contrastive_loss(x, y, temperature=tau).item(), sum(terms) / len(terms))


def test_recall_of_five_points_on_a_circle() -> None:
    angles = torch.tensor([0.0, 10.0, 15.0, 90.0, 200.0]).deg2rad()  # nearest: 1, 2, 1, 2, 3
    x, y = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([0, 1, 0, 0, 2])
    assert recall(x, y) == 1 / 5  # of 90° alone the nearest, 15°, is of its class
    assert recall(x, y, k=2) == 3 / 5  # 0° and 15° find each other second


@pytest.mark.parametrize("tuning", [False, True])
def test_new_classes_are_new_and_each_seed_draws_its_own(tuning: bool) -> None:
    found = search(3, tuning=tuning)
    assert len(set(found.y.tolist())) == KNOWN
    assert set(found.new_y.tolist()) == set(range(10)) - set(found.y.tolist())
    assert set(search(4, tuning=tuning).y.tolist()) != set(found.y.tolist())
    assert len(found.x) % _relation_retrieval.BATCH_SIZE == 0


def test_tuning_and_report_search_other_signals_and_train_on_the_same() -> None:
    tuning, report = search(3, tuning=True), search(3, tuning=False)
    assert torch.equal(tuning.x, report.x)
    assert not (tuning.new_x[:, None] == report.new_x).flatten(2).all(dim=2).any()
    assert len(tuning.new_x) < HELD_OUT / 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_its_student_the_same_way_twice(name: str) -> None:
    first, again = (_relation_retrieval.taught(name, Settings(), seed=5000, tuning=True) for _ in range(2))
    assert first == again
    assert 0.25 < first["accuracy"] <= first["recall_at_5"] < 1


@pytest.mark.usefixtures("quick")
def test_only_labels_read_the_labels() -> None:
    x, t, y = rows(count=6, width=16).float(), rows(count=6, width=64).float(), torch.tensor([0, 1, 0, 1, 1, 2])
    head = torch.nn.Linear(16, 64)
    for name, loss in LOSSES.items():
        same = torch.equal(loss(x, t, y, head, 0.1), loss(x, t, y.roll(1), head, 0.1))
        assert same == (name != "labels")


def test_each_setting_is_tried_around_one_start() -> None:
    for name in LOSSES:
        plans = [settings for other, settings in relation_retrieval_tuning.PLANS.values() if other == name]
        assert all(sum(a != b for a, b in zip(plan, Settings(), strict=True)) <= 1 for plan in plans)


def test_what_is_given_lies_inside_its_list() -> None:
    rates = relation_retrieval_tuning.TRIED["rate"]
    assert {relation_retrieval_beyond.given(name).rate for name in LOSSES} <= set(rates[1:-1])
    for name in relation_retrieval_tuning.CONTRASTIVE:
        assert relation_retrieval_beyond.given(name).temperature in relation_retrieval_beyond.TEMPERATURES[1:-1]


def test_the_rate_for_all_is_near_every_loss_s_own_best() -> None:
    mean = load("relation_retrieval_tuning").groupby("arm")["accuracy"].mean()
    rate = relation_retrieval_beyond.given("SP").rate
    for name in LOSSES:
        found = {settings.rate: mean[arm] for arm, settings in relation_retrieval_tuning.tried(name, "rate").items()}
        own = relation_retrieval_tuning.chosen(name).rate
        assert found[own] == max(found.values())
        assert found[rate] > found[own] - 0.012


def test_an_untrained_student_and_the_raw_signals_are_measured_as_the_others_are() -> None:
    stored = {arm: relation_retrieval.run(0, arm) for arm in relation_retrieval.FLOORS}
    assert len({tuple(result) for result in stored.values()}) == 1
    assert all(0.25 < result["accuracy"] < 0.75 for result in stored.values())  # four classes


@pytest.mark.usefixtures("quick")
def test_longer_is_the_same_training_several_times_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round is the run of ``relation_retrieval``; four are another."""
    for arm in relation_retrieval_longer.ARMS:
        four = relation_retrieval_longer.run(0, arm)
        with monkeypatch.context() as patch:
            patch.setattr(relation_retrieval_longer, "ROUNDS", 1)
            one = relation_retrieval_longer.run(0, arm)
        assert one == relation_retrieval.run(0, arm)
        assert four["training_accuracy"] != one["training_accuracy"]
