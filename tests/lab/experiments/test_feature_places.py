"""Lesson 03's long experiment: every arm trains, and the controls are what they say."""

from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close

from kdref.fidelity import centered_kernel_alignment
from kdref.lab.data import digits
from kdref.lab.experiments import _feature_places, load
from kdref.lab.experiments._feature_live import learn, margins
from kdref.lab.experiments._feature_places import ARMS, CONTROLS, EPOCHS, HASTY, LAYERS, SHORT, TUNED, Setting
from kdref.lab.experiments.feature_places import ARMS as NAMES
from kdref.lab.experiments.feature_places_further import EXTENDED, SETTINGS, settled
from kdref.lab.experiments.feature_places_further import SEEDS as MORE_SEEDS
from kdref.lab.experiments.feature_places_tuning import PAIRS, SEEDS, chosen
from kdref.lab.models import make
from kdref.lab.training.taps import taps

SEED = 5000


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One epoch for all."""
    monkeypatch.setattr(_feature_places, "ARMS", {name: arm._replace(epochs=1) for name, arm in ARMS.items()})
    monkeypatch.setattr(_feature_places, "TEACHER_EPOCHS", 1)
    _feature_places.teacher.cache_clear()
    yield
    _feature_places.teacher.cache_clear()


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_trains_its_student_the_same_way_twice(name: str, quick: None) -> None:
    first, again = (_feature_places.taught(SEED, name, ARMS[name].settings[-1]) for _ in range(2))
    assert first == again
    assert 0 < first["accuracy"] < 1
    validated = _feature_places.taught(SEED, name, ARMS[name].settings[-1], tuning=True)
    assert validated["accuracy"] != first["accuracy"], "tuning sees other images"


def test_a_hint_of_weight_zero_is_labels_alone_and_the_controls_are_not_the_hint(quick: None) -> None:
    def found(name: str, weight: float) -> float:
        return _feature_places.taught(SEED, name, Setting(0.1, weight))["nll"]

    labels = found("labels", 1.0)
    for name in ("1 → 1", "2 → 2", "3 → 1", *(name for name in CONTROLS if name.startswith("2"))):
        assert found(name, 0.0) == pytest.approx(labels, abs=1e-6)
    assert len({round(found(name, 10.0), 4) for name in ("labels", "2 → 2", *CONTROLS)}) == 5


def test_activations_are_those_of_the_named_layers_and_the_logits() -> None:
    model, x = make("mlp-16x16x16", shape=(1, 8, 8), seed=0), torch.rand(5, 1, 8, 8)
    found = _feature_places.activations(model, x)
    for one, other in zip(found, taps(model, [*LAYERS, "classifier"])(x).values(), strict=True):
        assert_close(one, other, rtol=0, atol=0)


def test_an_untrained_teacher_has_the_first_weights_of_the_trained_one() -> None:
    fresh = _feature_places.teacher(SEED, trained=False)
    assert_close(fresh.state_dict(), make(_feature_places.TEACHER, shape=(1, 8, 8), seed=SEED).state_dict())


def test_likeness_is_between_the_students_row_and_the_teachers_column() -> None:
    student, master = (make(name, shape=(1, 8, 8), seed=1) for name in ("mlp-16x16x16", "mlp-64x64x64"))
    x = digits(SEED).test_x[:50]
    found = _feature_places.likeness(student, master, x)
    own, other = taps(student, LAYERS)(x)[LAYERS[2]], taps(master, LAYERS)(x)[LAYERS[0]]
    assert found["cka_3_1"] == pytest.approx(centered_kernel_alignment(own, other).item(), abs=1e-6)
    assert len(found) == 9


def test_every_arm_tries_eight_settings_and_a_control_takes_its_arms() -> None:
    assert {len(arm.settings) for arm in TUNED.values()} == {8}
    assert len(PAIRS) == 8 * len(TUNED)
    for name in (*CONTROLS, *HASTY):
        assert settled(name) == settled(ARMS[name].like)
    for name in TUNED:
        assert settled(name) in (SETTINGS.values() if name == EXTENDED else {chosen(name)})
    assert {arm.epochs for arm in HASTY.values()} == {SHORT}
    assert 10 * SHORT == EPOCHS


def test_seeds_that_chose_are_not_reported() -> None:
    runs = load("feature_places")
    assert not {*SEEDS, *MORE_SEEDS} & set(runs["seed"])
    assert not set(SEEDS) & set(MORE_SEEDS)
    assert sorted(runs["arm"].unique()) == sorted(NAMES)


def test_margins_are_the_mean_of_what_is_negative() -> None:
    responses = torch.tensor([[-1.0, 2.0, 0.0], [-3.0, -1.0, 1.0], [4.0, -2.0, 0.0]])
    assert_close(margins(responses), torch.tensor([-2.0, -1.5, 0.0]))


def test_learning_is_320_steps_on_every_module_given() -> None:
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    before = [module.weight.clone() for module in (first, second)]
    steps = 0

    def step(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        return {"loss": (first(batch[0]) + second(batch[0])).square().mean()}

    learn(step, [first, second], [torch.rand(100, 2)], seed=0, decay=0.0)
    assert steps == 320
    assert all(not torch.equal(module.weight, old) for module, old in zip((first, second), before, strict=True))
