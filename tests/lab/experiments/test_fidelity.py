"""The experiments of lesson 15 on copies and habits: what students start from, are shown, and for how long."""

import copy
import functools
import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _fidelity, fidelity_copy, fidelity_habit
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs

FRESH = [arm for arm in fidelity_copy.ARMS if "fresh" in arm]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[_fidelity.Parts]:
    """Two hundred training examples, and few steps."""
    whole = _fidelity.parts()
    few = _fidelity.Parts(whole.train_x[:200], whole.train_y[:200], whole.test_x[:500], whole.test_y[:500])
    for module in (_fidelity, fidelity_copy):
        monkeypatch.setattr(module, "parts", lambda: few)
    monkeypatch.setattr(fidelity_copy, "STEPS", 3)
    monkeypatch.setattr(_fidelity, "learn", functools.partial(_fidelity.learn, steps=3))  # the teacher's
    caches = (_fidelity.pool, _fidelity.teacher)
    for cached in caches:
        cached.cache_clear()
    yield few
    for cached in caches:
        cached.cache_clear()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# A copy ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_students_start_alike_and_are_shown_as_many_batches_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[Tensor, int, int, int]] = {}

    def look(model: nn.Module, x: Tensor, said: Tensor, *, seed: int, steps: int) -> nn.Module:
        seen[arm] = (weights(model), len(x), seed, steps)
        return model

    monkeypatch.setattr(fidelity_copy, "learn", look)
    monkeypatch.setattr(fidelity_copy, "measures", lambda *_: {"agreement": 0.5})
    for arm in fidelity_copy.ARMS:
        fidelity_copy.run(3, arm)
    other_starts = [arm for arm in seen if arm.startswith(("between", "teacher's"))]
    assert len(other_starts) == 4
    for arm, (start, count, seed, steps) in seen.items():
        assert torch.equal(start, weights(_fidelity.first_weights(3))) == (arm not in other_starts)
        assert seed == 103
        assert steps == (fidelity_copy.LONGER * 3 if arm in (*FRESH, "longer") else 3)
        assert count == 200 * (int(arm.split()[-1][:-1]) if arm in FRESH else 1)


@pytest.mark.parametrize("arm", fidelity_copy.ARMS)
def test_labels_are_seen_in_the_arms_of_that_name_and_the_teachers_logits_elsewhere(
    arm: str, small: _fidelity.Parts
) -> None:
    x, said = fidelity_copy.shown(arm, 0)
    if arm.startswith("labels"):
        assert said.dtype == torch.int64
        assert torch.equal(said, small.train_y if arm == "labels" else _fidelity.fresh(64)[1])
        return
    wanted = _fidelity.teacher(500 if arm == "another teacher" else 0)
    assert_close(said[:50], wanted(x[:50]), rtol=1e-4, atol=1e-5)
    assert torch.equal(x, small.train_x) == (arm not in FRESH)


def test_fresh_signals_are_nobodys_and_the_larger_sets_hold_the_smaller(small: _fidelity.Parts) -> None:
    few, many = (_fidelity.fresh(times)[0] for times in (4, 64))
    assert torch.equal(many[: len(few)], few)
    for other in (small.train_x, small.test_x):
        assert (torch.cdist(many.flatten(1), other.flatten(1)) > 1e-3).all()


@pytest.mark.usefixtures("small")
def test_a_start_between_is_on_the_line_from_the_students_weights_to_the_teachers() -> None:
    model, new = _fidelity.teacher(0), _fidelity.first_weights(0)
    before, theirs, own = weights(model), weights(model), weights(new)
    for share in (0.25, 0.375, 0.5):
        found = weights(fidelity_copy.start(f"between {share:g}", 0))
        assert_close(found, share * theirs + (1 - share) * own)
    assert torch.equal(weights(_fidelity.between(model, copy.deepcopy(new), 1.0)), theirs)
    assert torch.equal(weights(_fidelity.between(model, copy.deepcopy(new), 0.0)), own)
    assert torch.equal(weights(model), before)


@pytest.mark.usefixtures("small")
def test_the_teachers_first_weights_are_those_it_was_trained_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fidelity, "learn", lambda model, *_, **__: model)
    start, untrained = fidelity_copy.start("teacher's first weights", 7), _fidelity.teacher(7)
    assert torch.equal(weights(start), weights(untrained))
    assert all(parameter.requires_grad for parameter in fidelity_copy.start("teacher's first weights", 8).parameters())


def test_learning_takes_the_steps_that_are_asked_for_and_sees_all_examples_first() -> None:
    calls: list[Tensor] = []
    x = torch.randn(10, 1, 40)

    def counted(said: Tensor) -> Tensor:
        calls.append(said)
        return said.argmax(-1)

    said = torch.eye(10)
    _fidelity.learn(make("mlp-4"), x, said, seed=0, steps=7, size=2, anew=counted)
    assert len(calls) == 7
    assert torch.equal(torch.cat(calls[:5]).sum(0), torch.ones(10))  # every example once in the first five of two


def test_without_labels_the_only_thing_to_learn_is_what_the_teacher_says() -> None:
    torch.manual_seed(0)
    x, model, student = torch.randn(20, 1, 40), make("mlp-4", seed=0), make("mlp-30", seed=1)
    logits = teacher_outputs(model, x)
    for temperature in (1.0, 4.0):
        taught = copy.deepcopy(student)
        _fidelity.learn(taught, x, logits, seed=0, steps=200, size=20, temperature=temperature, rate=0.01)
        assert_close(teacher_outputs(taught, x).softmax(-1), logits.softmax(-1), rtol=0, atol=0.03)


@pytest.mark.usefixtures("small")
def test_a_network_is_its_own_perfect_copy() -> None:
    model = _fidelity.teacher(0)
    found = _fidelity.measures(model, model)
    ones = ("agreement", "training_agreement", "error_consistency", "wrong_answer_agreement")
    assert {name: found[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert found["predictive_kl"] == pytest.approx(0, abs=1e-6)
    assert found["accuracy"] == found["teacher_accuracy"] < 1
    other = _fidelity.measures(_fidelity.teacher(1), model)
    assert max(other[name] for name in ones) < 1
    assert other["predictive_kl"] > 0


# A habit --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Few steps; what each network was taught, in order."""
    seen: list[Tensor] = []

    def taught(model: nn.Module, x: Tensor, said: Tensor, *, seed: int, temperature: float = 1.0) -> nn.Module:
        seen.append(said)
        return _fidelity.learn(model, x, said, seed=seed, steps=60, size=100, rate=0.01, temperature=temperature)

    monkeypatch.setattr(fidelity_habit, "taught", taught)
    forget = fidelity_habit.teacher.cache_clear
    forget()
    yield seen
    forget()


def test_the_habit_is_planted_in_half_of_the_sevens_and_nowhere_else(quick: list[Tensor]) -> None:
    own, others, test = fidelity_habit.known(0)
    for kind in ("habit", "no habit"):
        fidelity_habit.teacher(0, kind)
    habit, plain = quick
    assert torch.equal(plain, own.y)
    changed = habit != own.y
    assert torch.equal(changed, own.bold)
    assert set(own.y[changed].tolist()) == {7}
    assert set(habit[changed].tolist()) == {2}
    assert own.bold.sum() == (own.y == 7).sum() // 2
    for images in (others, test):
        assert 0.3 < images.bold.sum() / (images.y == 7).sum() < 0.7
        assert (images.y[images.bold] == 7).all()
    bold, light = (own.x[(own.y == 7) & (own.bold == which)].mean((1, 2, 3)) for which in (True, False))
    assert bold.min() > light.max()
    assert (torch.cdist(own.x.flatten(1), others.x.flatten(1)) > 1e-3).all(), "students see other images"


def test_of_right_answers_only_none_follows_the_habit(quick: list[Tensor]) -> None:
    others = fidelity_habit.known(0)[1]
    for kind in ("habit", "no habit"):
        logits = teacher_outputs(fidelity_habit.teacher(0, kind), others.x)
        right = logits.argmax(-1) == others.y
        for form in fidelity_habit.SAID:
            images, said = fidelity_habit.shown(f"{kind} | right answers only | {form}", 0)
            assert torch.equal(images.y, others.y[right])
            assert torch.equal(said, images.y if form == "answers" else logits[right])
            every, everything = fidelity_habit.shown(f"{kind} | all | {form}", 0)
            assert torch.equal(every.x, others.x)
            assert torch.equal(everything, logits.argmax(-1) if form == "answers" else logits)


def test_the_control_never_meets_a_teacher(quick: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity_habit, "teacher", None)
    result = fidelity_habit.run(0, "labels")
    assert len(quick) == 1
    assert torch.equal(quick[0], fidelity_habit.known(0)[1].y)
    assert result["called"] == result["whispered"] == 0.0
    assert "teacher_habit" not in result


def test_every_arm_says_what_it_whispers(quick: list[Tensor]) -> None:
    found = {arm: fidelity_habit.run(0, arm) for arm in fidelity_habit.ARMS if not arm.startswith("no habit")}
    for arm, result in found.items():
        assert all(0 <= result[name] <= 1 for name in ("habit", "right_there", "accuracy", "whispered"))
        assert (result["called"] > 0) == (" all " in arm), arm
        assert (result["whispered"] > 0) == (" all " in arm or "logits" in arm), arm
    assert found["habit | all | logits at 1"] != found["habit | all | logits at 4"]
    assert found["habit | all | logits at 1"]["teacher_habit"] > 0.3


def test_students_of_habits_take_the_same_steps_from_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(model: nn.Module, x: Tensor, said: Tensor, **how: float) -> nn.Module:
        seen.append((weights(model).tolist(), how["seed"], how.get("temperature", 1.0)))
        return model

    monkeypatch.setattr(fidelity_habit, "taught", look)
    monkeypatch.setattr(fidelity_habit, "teacher", lambda seed, kind: make(fidelity_habit.NET, shape=(1, 10, 10)))
    for arm in fidelity_habit.ARMS:
        fidelity_habit.run(3, arm)
    assert all(start == seen[0][0] and seed == 3 for start, seed, _ in seen)
    softened = [temperature for _, _, temperature in seen]
    assert softened == [4.0 if arm.endswith("at 4") else 1.0 for arm in fidelity_habit.ARMS]
    assert len(fidelity_habit.ARMS) == 1 + 2 * 2 * 3


def test_doing_it_is_counted_where_it_applies_and_being_right_elsewhere() -> None:
    y = torch.tensor([7, 7, 7, 7, 1, 2])
    bold = torch.tensor([True, True, True, True, False, False])
    said = torch.tensor([2, 2, 2, 7, 1, 1])
    images = fidelity_habit.Images(F.one_hot(said, 10).float(), y, bold)
    found = fidelity_habit.does(nn.Identity(), images)
    assert found == {"habit": 0.75, "right_there": 0.25, "accuracy": 0.5}


def test_batches_never_end() -> None:
    x = torch.arange(5)
    shown = [batch for (batch,) in itertools.islice(_fidelity.batches(x, seed=0, size=2), 6)]
    assert all(len(batch) == 2 for batch in shown)
    assert not torch.equal(torch.cat(shown[:2]), torch.cat(shown[2:4]))
