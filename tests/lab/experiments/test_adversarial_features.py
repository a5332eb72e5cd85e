"""The experiment on features of lesson 09: who is changed by whom, that arms are paired, and what each arm sees."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.adversarial import discriminator_loss, student_adversarial_loss
from kdref.lab.experiments import _adversarial_features as features
from kdref.lab.experiments import _mnist1d, adversarial_features, adversarial_features_tuning
from kdref.lab.models import make
from kdref.lab.training.batches import Batches

ADVERSARIAL = [arm for arm in adversarial_features.ARMS if arm.startswith("discriminator")]
PLAN = adversarial_features_tuning.against(weight=0.3, rate=0.01, decay=0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> object:
    """A teacher without training, and one epoch."""
    untrained = make(features.TEACHER, seed=0)
    untrained(_mnist1d.parts().train_x[:200])  # its statistics are no longer those of a new network
    untrained.eval().requires_grad_(False)
    monkeypatch.setattr(features, "teacher", lambda seed, validation=0: untrained)
    monkeypatch.setattr(features, "EPOCHS", 1)
    features.known.cache_clear()
    yield untrained
    features.known.cache_clear()


def values(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(before: list[Tensor], module: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def shown(count: int = 50) -> tuple[features.Players, Tensor, Tensor]:
    """Players, and a batch of inputs and of the teacher's features."""
    known = features.known(0)
    return features.players(0), known.x[:count], known.features[:count]


# The two steps --------------------------------------------------------------------------------------------------------


def test_the_discriminators_step_leaves_the_student_and_its_gradients_alone() -> None:
    those, x, real = shown()
    _, optimizer = features.optimizers(those, PLAN)
    own = features.features_of(those.student, x)
    F.cross_entropy(those.student[-1](own), torch.zeros(len(x), dtype=torch.long)).backward(retain_graph=True)
    gradients = [parameter.grad.clone() for parameter in those.student.parameters() if parameter.grad is not None]
    student, discriminator = values(those.student), values(those.discriminator)
    features.discriminator_step(those.discriminator, optimizer, own, real)
    assert same(student, those.student)
    assert not same(discriminator, those.discriminator)
    for parameter, gradient in zip(those.student.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient), "it would be trained to be found out"


def test_the_students_step_leaves_the_discriminator_alone() -> None:
    those, x, _ = shown()
    optimizer, _ = features.optimizers(those, PLAN)
    student, discriminator = values(those.student), values(those.discriminator)
    student_adversarial_loss(those.discriminator(features.features_of(those.student, x))).backward()
    optimizer.step()
    assert same(discriminator, those.discriminator), "it would be trained to be fooled"
    assert not same(student, those.student)


def test_the_discriminators_step_forgets_what_the_students_step_left_in_its_gradients() -> None:
    those, x, real = shown()
    plan = PLAN._replace(discriminator_decay=0.0)
    own = features.features_of(those.student, x).detach()
    expected = torch.autograd.grad(
        discriminator_loss(those.discriminator(own), those.discriminator(real)), list(those.discriminator.parameters())
    )
    student_adversarial_loss(those.discriminator(features.features_of(those.student, x))).backward()
    features.discriminator_step(those.discriminator, features.optimizers(those, plan)[1], own, real)
    for parameter, gradient in zip(those.discriminator.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient)


def test_a_discriminator_that_takes_its_steps_learns_to_tell() -> None:
    those, x, real = shown()
    _, optimizer = features.optimizers(those, PLAN)
    own = features.features_of(those.student, x)
    losses = [features.discriminator_step(those.discriminator, optimizer, own, real).item() for _ in range(50)]
    assert losses[0] > 1
    assert losses[-1] < 0.2
    assert those.discriminator(real).min() > those.discriminator(own).max(), "a large score says teacher"
    assert features.last_loss(those, x, real) < 0.2


# The arms -------------------------------------------------------------------------------------------------------------


def test_arms_share_first_weights_examples_order_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(step: object, student: nn.Module, batches: Batches, *_: object, epochs: int, **__: object) -> None:
        weights = torch.cat([value.flatten() for value in values(student)])
        order = torch.cat([x.flatten() for _ in range(2) for x, *_ in batches])
        seen.append((tuple(weights.tolist()), hash(tuple(order.tolist())), epochs))

    monkeypatch.setattr(features, "fit", look)
    for arm in adversarial_features.ARMS:
        adversarial_features.run(3, arm)
    assert len({(weights, order) for weights, order, _ in seen}) == 1
    longer = [arm for arm, (*_, epochs) in zip(adversarial_features.ARMS, seen, strict=True) if epochs != 1]
    assert longer == ["soft targets, longer"]


@pytest.mark.parametrize("arm", ADVERSARIAL)
def test_the_discriminator_moves_in_all_arms_but_that_where_it_is_never_trained(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    those = features.players(0)
    student, discriminator = values(those.student), values(those.discriminator)
    monkeypatch.setattr(features, "players", lambda seed: those)
    result = adversarial_features.run(0, arm)
    assert same(discriminator, those.discriminator) == (arm == "discriminator, never trained")
    assert not same(student, those.student)
    assert result["discriminator_loss"] > 0


def test_an_arm_does_the_same_twice_and_the_teacher_stays(quick: nn.Module) -> None:
    before = values(quick)
    first, again = (adversarial_features.run(0, "discriminator") for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert first != adversarial_features.run(0, "soft targets")
    assert same(before, quick)


def test_each_control_changes_one_thing() -> None:
    plain = adversarial_features.plan("discriminator")
    changed = {
        arm: {name for name, value in adversarial_features.plan(arm)._asdict().items() if value != getattr(plain, name)}
        for arm in ADVERSARIAL
    }
    assert changed == {
        "discriminator": set(),
        "discriminator, never trained": {"discriminator_steps"},
        "discriminator, too strong": {"discriminator_steps", "discriminator_rate", "discriminator_decay"},
        "discriminator, no regulariser": {"discriminator_decay"},
        "discriminator, shuffled": {"features"},
        "discriminator, untrained teacher": {"features"},
    }
    assert plain._replace(adversarial_weight=0, discriminator_rate=0, discriminator_decay=0) == (
        adversarial_features.plan("soft targets")
    )


def test_shuffled_features_are_the_teachers_of_other_examples_and_untrained_ones_nobodys() -> None:
    own, shuffled, other = (features.real_features(whose, 0) for whose in ("teacher", "shuffled", "untrained"))
    known = features.known(0)
    assert_close(own, features.features_of(features.teacher(0), known.x))
    assert_close(features.teacher(0)[-1](own), known.logits)
    assert_close(shuffled.sort(dim=0).values, own.sort(dim=0).values)
    assert (shuffled == own).all(dim=1).double().mean() < 0.05
    assert other.shape == own.shape
    assert not torch.allclose(other, own)
    with pytest.raises(ValueError, match="no features are named 'cats'"):
        features.real_features("cats", 0)


# Tuning ---------------------------------------------------------------------------------------------------------------


def test_tuning_sees_no_test_example_and_no_grid_is_too_short() -> None:
    assert not {seed // 1000 for seed in adversarial_features_tuning.SEEDS} & {0, 1, 2}
    assert len(features.known(5000, adversarial_features_tuning.VALIDATION).test_x) == 1000
    natural_end = {"soft targets | weight decay"}  # none at all was best
    for what, settings in adversarial_features_tuning.SETTINGS.items():
        best = adversarial_features_tuning.chosen(what)
        assert settings[0] < best < settings[-1] or (what in natural_end and best == 0), what


def test_what_is_held_while_another_setting_is_tried_is_what_came_out_best() -> None:
    for name, value in adversarial_features_tuning.TRICKS.items():
        assert adversarial_features_tuning.chosen(f"discriminator | {name}") == value
    assert adversarial_features_tuning.chosen("soft targets | temperature") == features.TEMPERATURE
