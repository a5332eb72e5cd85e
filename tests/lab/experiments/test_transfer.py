"""The experiments of lesson 10: what students are shown, who is changed by whom, and that arms are paired."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _transfer_images as images
from kdref.lab.experiments import _transfer_letter as letters
from kdref.lab.experiments import transfer_images, transfer_images_tuning, transfer_letter, transfer_letter_tuning
from kdref.lab.models import make
from kdref.lab.training.batches import Batches

RUNGS = [arm for arm in transfer_images.ARMS if arm != "labels"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher without training, and few steps."""
    teacher = make("cnn2d-4", shape=images.SHAPE, seed=0)
    teacher(images.known(0).train_x[:200])  # its statistics are no longer those of a new network
    teacher.eval().requires_grad_(False)
    monkeypatch.setattr(images, "teacher", lambda seed: teacher)
    monkeypatch.setattr(images, "STEPS", 3)
    monkeypatch.setattr(images, "INVERSION_STEPS", 3)
    monkeypatch.setattr(images, "INVERTED", 100)


# Letters --------------------------------------------------------------------------------------------------------------


def test_letters_are_made_in_the_numbers_that_the_arms_say() -> None:
    few = letters.parts(0).train_x[: letters.LABELLED]
    for arm in transfer_letter.ARMS:
        kind, copies = arm.split(" | ")
        if kind == "labels":
            continue
        made = letters.made(kind, int(copies), 0, swap_probability=0.1, local_variance=4.0)
        assert len(made) == letters.LABELLED * (int(copies) + (kind == "real"))
        assert letters.STEPS % (len(made) // letters.BATCH_SIZE) == 0, "whole epochs"
    assert torch.equal(letters.made("real", 3, 0, swap_probability=0, local_variance=1)[: len(few)], few)
    alone = letters.made("attributes alone", 2, 0, swap_probability=0, local_variance=1)
    for attribute in range(16):
        assert set(alone[:, attribute].tolist()) <= set(few[:, attribute].tolist())
    with pytest.raises(ValueError, match="no kind of examples is named 'cats'"):
        letters.made("cats", 1, 0, swap_probability=0, local_variance=1)


def test_the_ensemble_votes_and_knows_its_own_letters_by_heart() -> None:
    split = letters.parts(0)
    said = letters.said(0, split.train_x)
    assert_close(said.sum(dim=1), torch.ones(len(said)))
    assert_close(said * letters.TREES, (said * letters.TREES).round(), rtol=0, atol=1e-4)
    few = said[: letters.LABELLED]
    assert (few.argmax(dim=1) == split.train_y[: letters.LABELLED]).double().mean() > 0.995
    assert said[letters.LABELLED :].amax(dim=1).mean() < 0.8


def test_students_of_the_letters_share_first_weights_and_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(step: object, model: nn.Module, batches: Batches, *_: object, epochs: int, **__: object) -> None:
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        seen.append((tuple(weights.tolist()), epochs * len(batches)))

    monkeypatch.setattr(letters, "fit", look)
    for arm in transfer_letter.ARMS:
        kind, copies = arm.split(" | ")
        x = torch.zeros(letters.LABELLED * (int(copies) + (kind == "real")), 16)
        letters.taught(letters.Shown(x, torch.zeros(len(x), 26), 0.0), 3, decay=0.0)
    assert len(set(seen)) == 1
    assert seen[0][1] == letters.STEPS
    with pytest.raises(ValueError, match="2000 steps are no whole number of epochs of 3 batches"):
        letters.taught(letters.Shown(torch.zeros(750, 16), torch.zeros(750, 26), 0.0), 3, decay=0.0)


def test_tuning_sees_no_test_letter() -> None:
    split, tuning = letters.parts(5000), letters.parts(5000, tuning=True)
    assert torch.equal(tuning.test_x, split.validation_x)
    assert torch.equal(tuning.train_x, split.train_x)
    assert not set(transfer_letter_tuning.SEEDS) & {0, 1000, 2000}
    assert len(images.known(5000, tuning=True).test_x) == 500
    assert len(images.known(5000).test_x) == 1500


def test_what_was_heard_counts_classes() -> None:
    sure = torch.eye(4).repeat(2, 1)
    assert letters.heard(sure) == pytest.approx({"confidence": 1.0, "classes_named": 4.0})
    assert letters.heard(sure[:1] * 0.5)["classes_named"] == pytest.approx(1.0)


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arm", transfer_images.ARMS)
def test_every_rung_teaches_the_same_student_the_same_way_twice(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = (images.climbed(arm, 0, setting=0.001) for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    seen = []
    monkeypatch.setattr(images, "learn", lambda student, batches, **_: seen.append(student) or next(batches))
    images.climbed(arm, 0, setting=0.001)
    new = make(images.STUDENT, shape=images.SHAPE, seed=1)
    for own, expected in zip(seen[0].parameters(), new.parameters(), strict=True):
        assert torch.equal(own, expected)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arm", RUNGS)
def test_no_rung_changes_the_teacher_and_each_says_what_the_teacher_says(arm: str) -> None:
    teacher, student = images.teacher(0), make(images.STUDENT, shape=images.SHAPE, seed=1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    batches = images.rung(arm, 0, student, 0.001)
    for _ in range(6):
        shown, said = next(batches)
        assert shown.shape == (images.BATCH_SIZE, *images.SHAPE)
        assert not shown.requires_grad
        assert_close(said, teacher(shown), rtol=1e-4, atol=1e-5)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.usefixtures("quick")
def test_a_generators_step_trains_nobody_else() -> None:
    student = make(images.STUDENT, shape=images.SHAPE, seed=1)
    before = [parameter.clone() for parameter in student.parameters()]
    batches = images.zero_shot_batches(images.teacher(0), student, 0, rate=0.001)
    first = next(batches)[0]
    assert all(parameter.grad is None for parameter in student.parameters()), "its gradient was thrown away"
    for _ in range(images.STUDENT_STEPS):
        other = next(batches)[0]
    assert not torch.equal(first, other)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), before, strict=True))


@pytest.mark.usefixtures("quick")
def test_inversion_returns_the_best_images_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "INVERSION_RATE", 1000.0)  # every step is far too large
    start = torch.randn(20, *images.SHAPE, generator=torch.Generator().manual_seed(0))
    best = images.inverted(images.teacher(0), 0, statistics=1.0, count=20)
    assert_close(best, start, rtol=0, atol=0)
    assert not best.requires_grad
    monkeypatch.setattr(images, "INVERSION_RATE", 0.01)
    assert not torch.equal(images.inverted(images.teacher(0), 0, statistics=1.0, count=20), start)


@pytest.mark.usefixtures("quick")
def test_the_hooks_are_gone_afterwards_and_see_all_layers() -> None:
    teacher = images.teacher(0)
    layers = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    with images.Watched(teacher) as watched:
        teacher(images.known(0).train_x[:50])
        assert set(watched.inputs) == set(layers)
        assert watched.features.shape == (50, 4)
        on_data = watched.statistics_loss()
        teacher(torch.randn(50, *images.SHAPE) * 3)
        assert watched.statistics_loss() > on_data
    assert not any(layer._forward_pre_hooks for layer in layers)
    assert not teacher.get_submodule("flatten")._forward_hooks


def test_images_are_small_and_standardised() -> None:
    known = images.known(0)
    assert known.train_x.shape == known.other_x.shape == (1500, *images.SHAPE)
    assert_close(known.train_x.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
    assert_close(known.train_x.std(), torch.tensor(1.0), rtol=0, atol=1e-5)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 4:6, 4:6], image[..., :4, :] = 1.0, 9.0
    assert images.small(image)[0, 0, 0, 0] == 1
    assert images.small(image).sum() == 1
    other = images.other_digits(0)
    assert other.shape == (1500, *images.SHAPE)
    assert abs(other.mean()) < 1e-5


def test_generated_images_have_the_mean_and_spread_of_the_data() -> None:
    made: Tensor = images.generator_for(0)(torch.randn(500, images.NOISE))
    assert made.shape == (500, *images.SHAPE)
    assert_close(made.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    assert_close(made.std(), torch.tensor(1.0), rtol=0, atol=1e-2)


def test_rungs_without_a_setting_have_none() -> None:
    assert transfer_images_tuning.chosen("noise") == 0.0
    for rung, settings in transfer_images_tuning.SETTINGS.items():
        assert transfer_images_tuning.chosen(rung) in settings
    with pytest.raises(ValueError, match="no rung is named 'cats'"):
        images.rung("cats", 0, nn.Identity(), 0.0)
