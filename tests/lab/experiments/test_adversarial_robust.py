"""Robustness: what each arm is shown, that arms are paired, and that the two attacks measure what they say."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _adversarial_robust as robust
from kdref.lab.experiments import adversarial_robust, adversarial_robust_tuning
from kdref.lab.models import make

STUDENTS = [arm for arm in adversarial_robust.ARMS if not arm.endswith("itself")]
SETTING = 0.5


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Teachers and students of one epoch."""
    monkeypatch.setattr(robust, "EPOCHS", 1)
    robust.teacher.cache_clear()
    yield
    robust.teacher.cache_clear()


class Shown:
    """What a student is before it is trained, what is said of its images, and what it sees of them."""

    def __init__(self, step: Any, model: nn.Module, batches: Any, epochs: int) -> None:
        self.weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        self.batches = [batch for _ in range(2) for batch in batches]
        self.order = torch.cat([x for x, _, _ in self.batches])
        self.steps = epochs * len(batches)
        self.seen: list[Tensor] = []
        handle = model.register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0].detach().clone()))
        self.terms = step(self.batches[0])
        handle.remove()


@pytest.fixture
def shown(quick: None, monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """All that would have been trained; the last is the arm's student."""
    for way in (False, True):
        robust.teacher(3, robust=way)
    found: list[Shown] = []
    monkeypatch.setattr(
        robust, "fit", lambda step, model, batches, _, epochs, **__: found.append(Shown(step, model, batches, epochs))
    )
    return found


def test_students_of_a_seed_share_first_weights_order_and_the_number_of_steps(shown: list[Shown]) -> None:
    for arm in STUDENTS:
        robust.taught(arm, 3, SETTING)
        assert torch.equal(shown[-1].weights, shown[0].weights), arm
        assert torch.equal(shown[-1].order, shown[0].order), arm
        assert shown[-1].steps == shown[0].steps == 10
    robust.taught("labels", 4, SETTING)
    assert not torch.equal(shown[-1].weights, shown[0].weights)
    assert not torch.equal(shown[-1].order, shown[0].order)
    with pytest.raises(ValueError, match="no arm is named 'labels, dropped'"):
        robust.taught("labels, dropped", 3, SETTING)


@pytest.mark.parametrize("arm", STUDENTS)
def test_an_arm_is_told_what_its_name_says_of_the_clean_images(arm: str, shown: list[Shown]) -> None:
    robust.taught(arm, 3, SETTING)
    x, y, said = shown[-1].batches[0]
    kind, _, way = arm.partition(", ")
    seen = shown[-1].seen
    if way in ("ARD", "attacked"):
        assert len(seen) == robust.TRAIN_STEPS + 1
        assert 0.03 < (seen[-1] - x).abs().mean() < (seen[-1] - x).abs().max() <= robust.RADIUS + 1e-6
    else:
        assert len(seen) == 1
        assert torch.equal(seen[-1], x)
    if kind == "labels":
        assert torch.equal(said, y)
    elif kind == "defensive distillation":
        assert_close(said.sum(dim=1), torch.ones(len(said)))
    else:
        logits = robust.teacher(3, robust=kind == "robust teacher")(x)
        if way == "choices":
            assert torch.equal(said, logits.argmax(dim=1))
        else:
            assert_close(said, logits)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arm", [arm for arm in STUDENTS if "teacher" in arm])
def test_no_arm_changes_its_teacher(arm: str) -> None:
    model = robust.teacher(3, robust=arm.startswith("robust"))
    before = copy.deepcopy(model.state_dict())
    student = robust.taught(arm, 3, SETTING)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert not student.training
    new = make(robust.STUDENT, shape=robust.SHAPE, seed=4)
    assert not torch.equal(student.classifier.weight, new.classifier.weight)


@pytest.mark.usefixtures("quick")
def test_a_run_is_the_same_twice_and_a_teacher_is_measured_itself() -> None:
    first, again = (robust.tried("robust teacher, ARD", 3, setting=SETTING) for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    itself = robust.tried("plain teacher itself", 3)
    assert {**itself, "seconds": 0} == {**robust.judged(robust.teacher(3, robust=False), 3), "seconds": 0}
    assert itself != robust.tried("robust teacher itself", 3)


# Attacks --------------------------------------------------------------------------------------------------------------


def middling(count: int) -> tuple[Tensor, Tensor, nn.Linear]:
    """Images far from black and white, a linear classifier of two classes, and labels of which it errs in some."""
    generator = torch.Generator().manual_seed(5)
    x = 0.15 + 0.7 * torch.rand(count, 9, generator=generator)
    model = nn.Linear(9, 2, bias=False)
    weight = torch.randn(2, 9, generator=generator)
    model.weight.data = weight - weight.mean(dim=1, keepdim=True)  # grey images are undecided
    errs = torch.arange(count) % 5 == 0
    return x, (model(x).argmax(dim=1) + errs) % 2, model


def test_a_linear_model_withstands_where_it_leads_by_more_than_the_attack_can_take() -> None:
    x, y, model = middling(400)
    logits = model(x)
    leads = (logits[:, 1] - logits[:, 0]) * (2 * y - 1)
    reach = robust.RADIUS * (model.weight[1] - model.weight[0]).abs().sum()
    expected = leads > reach
    assert 0.1 < expected.double().mean() < (leads > 0).double().mean() - 0.1
    for loss in (F.cross_entropy, robust.margin):
        assert torch.equal(robust.withstood(model, x, y, loss, seed=0), expected)


def test_an_image_that_falls_once_has_fallen_and_one_that_was_wrong_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, model = middling(50)
    right = model(x).argmax(dim=1) == y
    found = iter([-x, x, x])  # the first start alone turns every logit round
    monkeypatch.setattr(robust, "pgd", lambda *_, **__: next(found))
    assert not robust.withstood(model, x, y, F.cross_entropy, seed=0).any()
    found = iter([x.flip(0)] * 3)
    turned = model(x.flip(0)).argmax(dim=1) == y
    assert not torch.equal(turned, right)
    assert torch.equal(robust.withstood(model, x, y, F.cross_entropy, seed=0), turned & right)


def test_the_margin_is_the_best_wrong_logit_less_the_right_one() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [-3.0, -1.0, -2.0]], requires_grad=True)
    assert_close(robust.margin(logits, torch.tensor([1, 0])), torch.tensor([-2.0, 2.0]))
    robust.margin(1e4 * logits, torch.tensor([1, 0])).sum().backward()
    assert_close(logits.grad, 1e4 * torch.tensor([[0.0, -1.0, 1.0], [-1.0, 1.0, 0.0]]))


def test_logits_that_are_multiplied_look_robust_to_one_attack_and_not_to_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, model = middling(400)
    monkeypatch.setattr(robust, "known", lambda seed, tuning: robust.Known(x, y, x, y))
    plain = robust.judged(model, 0)
    model.weight.data *= 1e6  # the same decisions
    found = robust.judged(model, 0)
    assert plain["vanished"] == 0.0
    assert plain["naive_robust_accuracy"] == plain["better_robust_accuracy"] == plain["robust_accuracy"]
    assert found["accuracy"] == found["vanished"] == plain["accuracy"] == plain["train_accuracy"]
    assert found["naive_robust_accuracy"] > plain["naive_robust_accuracy"] + 0.1
    assert found["better_robust_accuracy"] == found["robust_accuracy"] == plain["robust_accuracy"]


def test_defensive_distillation_learns_hot_and_is_used_cold() -> None:
    logits = torch.tensor([[100.0, 0.0]])
    assert_close(robust.hot(logits, torch.tensor([1])), torch.tensor(2.718281828 + 1).log())
    assert F.cross_entropy(logits, torch.tensor([1])) == 100.0


# Settings -------------------------------------------------------------------------------------------------------------


def test_settings_are_chosen_on_other_seeds_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    test, tuning = robust.known(5000), robust.known(5000, tuning=True)
    assert torch.equal(test.train_x, tuning.train_x)
    assert (len(test.test_x), len(tuning.test_x)) == (500, 297)
    assert all(seed % 1000 < 8 and seed // 1000 == 5 for seed in adversarial_robust_tuning.SEEDS)
    rows = [
        {"arm": arm, "accuracy": 0.9 - abs(float(arm.split(" | ")[1]) - 1) / 9, "robust_accuracy": 0.5}
        for arm in adversarial_robust_tuning.ARMS
    ]
    rows[0]["robust_accuracy"] = 0.9  # labels with the least decay
    monkeypatch.setattr(adversarial_robust_tuning, "load", lambda name: pd.DataFrame(rows))
    adversarial_robust_tuning.chosen.cache_clear()
    assert adversarial_robust_tuning.chosen("labels, decay") == 0.1
    assert adversarial_robust_tuning.chosen("robust teacher") == 1.0
    assert adversarial_robust_tuning.chosen("labels") == 0.0
    adversarial_robust_tuning.chosen.cache_clear()
    assert set(adversarial_robust_tuning.SETTINGS) < set(adversarial_robust.ARMS)
