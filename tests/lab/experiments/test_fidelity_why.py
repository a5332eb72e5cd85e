"""The experiments of lesson 15 on why distillation helps: targets that vary less, views, and regularisation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _fidelity
from kdref.lab.experiments import fidelity_why_regularisation as regularisation
from kdref.lab.experiments import fidelity_why_variance as variance
from kdref.lab.experiments import fidelity_why_views as views
from kdref.lab.models import make
from kdref.self_distillation import permuted_dark_knowledge

# Targets that vary less -----------------------------------------------------------------------------------------------


def test_the_truth_is_bayes_rule_for_the_mixture() -> None:
    true = variance.truth(3)
    x = variance.drawn(3, 4, 5).x
    means = true[:-1].T  # (C, D)
    density = torch.exp(-(x[:, None, :-1] - means).square().sum(-1) / 2)  # up to the same factor
    assert_close((x @ true).softmax(-1), density / density.sum(-1, keepdim=True))


def test_labels_are_drawn_with_the_true_probabilities_or_settled_at_the_likeliest() -> None:
    draw, settled = variance.drawn(3, 4, 40_000), variance.drawn(3, 4, 40_000, settled=True)
    p = (draw.x @ variance.truth(3)).softmax(-1)
    assert torch.equal(draw.x, settled.x)
    assert torch.equal(settled.y, p.argmax(-1))
    sure = p.amax(-1) > 0.9  # among these, labels are the likeliest as often as they should
    assert ((draw.y == settled.y)[sure].double().mean() - p.amax(-1)[sure].mean()).abs() < 0.01
    assert_close(F.one_hot(draw.y).double().mean(0), p.mean(0).double(), rtol=0, atol=0.01)


def test_labels_add_to_the_variance_of_the_risk_what_the_draw_of_a_label_is_worth() -> None:
    found = {said: variance.scatter(said, 1, settled=False) for said in ("labels", "true probabilities")}
    draw, weights = variance.drawn(1, 2, variance.RISKS, variance.EXAMPLES), variance.truth(1) / 2
    p, losses = (draw.x @ variance.truth(1)).softmax(-1), -(draw.x @ weights).log_softmax(-1)
    of_a_label = ((p * losses.square()).sum(-1) - (p * losses).sum(-1).square()).mean().item()
    more = found["labels"]["risk_deviation"] ** 2 - found["true probabilities"]["risk_deviation"] ** 2
    assert more == pytest.approx(of_a_label / variance.EXAMPLES, rel=0.15)
    assert found["labels"]["gradient_deviation"] > found["true probabilities"]["gradient_deviation"]
    assert found["true probabilities"]["risk_bias"] == 0
    assert found["labels"]["risk_bias"] < 0.01
    assert variance.scatter("smoothed labels", 1, settled=False)["risk_bias"] > 0.1


def test_settled_labels_are_the_true_probabilities() -> None:
    draw = variance.drawn(0, 3, 2, 30, settled=True)
    labels, true = (variance.targets(said, draw, 0, settled=True) for said in ("labels", "true probabilities"))
    assert torch.equal(labels, true)
    free = variance.drawn(0, 3, 2, 30)
    assert_close(
        variance.targets("true probabilities", free, 0, settled=False), (free.x @ variance.truth(0)).softmax(-1)
    )
    assert not any("settled" in arm and "true" in arm for arm in variance.ARMS), "it would be the labels' arm"


def test_smoothed_labels_are_as_sure_as_the_teacher_and_the_too_sure_teacher_gives_the_same_answers() -> None:
    draw = variance.drawn(0, 3, 20, 50)
    names = ("teacher", "teacher, too sure", "smoothed labels", "labels")
    teacher, sure, smoothed, labels = (variance.targets(said, draw, 0, settled=False) for said in names)
    assert torch.equal(teacher.argmax(-1), sure.argmax(-1))
    assert sure.amax(-1).mean() > teacher.amax(-1).mean() + 0.05
    assert_close(smoothed.amax(-1).mean(), teacher.amax(-1).mean())
    assert torch.equal(smoothed.argmax(-1), labels.argmax(-1))
    for p in (teacher, sure, smoothed):
        assert_close(p.sum(-1), torch.ones(20, 50))


def test_students_of_several_draws_are_trained_each_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance, "STEPS", 30)
    draw = variance.drawn(0, 3, 3, 20)
    t = variance.targets("labels", draw, 0, settled=False)
    assert_close(variance.fitted(draw.x, t)[1], variance.fitted(draw.x[1:2], t[1:2])[0], rtol=1e-3, atol=1e-4)
    strong, weak = (variance.fitted(draw.x, t, decay=decay).norm() for decay in (1.0, 0.0))
    assert strong < weak / 2


def test_an_arm_reports_what_could_be_reached_and_decay_is_given_the_best_of_its_grid() -> None:
    found = {
        said: variance.run(0, f"drawn | {said}") for said in ("labels", "true probabilities", "labels, weight decay")
    }
    best = found["labels"]["best_possible"]
    assert all(result["accuracy"] <= best + 0.005 for result in found.values())
    assert found["true probabilities"]["accuracy"] > best - 0.01  # so many equations without noise give the weights
    assert found["labels, weight decay"]["accuracy"] > found["labels"]["accuracy"]


# Views ----------------------------------------------------------------------------------------------------------------


def shown(kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Whether each view of an example's class is in it, by a patch that shows it as strongly as none shows another."""
    rows = torch.arange(len(y))[:, None]
    return x.amax(1)[rows, 2 * y[:, None] + torch.arange(2 if kind == "two views" else 1)] > 0.75


def test_one_in_twenty_examples_shows_one_view_and_every_test_example_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(views.NOISE, "two views", 0.01)
    monkeypatch.setitem(views.NOISE, "one view", 0.01)
    x, y = views.made("two views", 200, seed=0)
    seen = shown("two views", x, y)
    assert seen.any(1).all()
    single = seen.sum(1) == 1
    assert single.sum() == 10
    assert (
        len({(label, seen_one) for label, seen_one in zip(y[single].tolist(), seen[single, 0].tolist(), strict=True)})
        == 10
    )
    x, y = views.made("two views", 1000, seed=1, single=1)
    seen = shown("two views", x, y)
    assert (seen.sum(1) == 1).all()
    assert torch.equal(seen[:, 1], torch.arange(1000) // 5 % 2 == 1)
    assert shown("one view", *views.made("one view", 1000, seed=1, single=1)).all()


def test_faint_features_are_of_another_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(views.NOISE, "two views", 0.0)
    x, y = views.made("two views", 500, seed=0)
    faint = x[:, 2:4]
    assert ((faint > 0).sum((1, 2)) <= 2).all()
    assert 0.5 < faint.max() < views.FAINT
    own = faint[torch.arange(500)[:, None], :, 2 * y[:, None] + torch.arange(2)]
    assert (own == 0).all()
    assert (x[:, 4:] == 0).all()


def test_detectors_add_over_patches_and_neurons() -> None:
    weights, x = torch.randn(2, 4, 5 * views.NEURONS), torch.randn(3, 6, 4)
    found = views.logits(weights, x)
    assert found.shape == (2, 3, 5)

    def active(h: float) -> float:
        return 0.0 if h < 0 else h**3 / 3 if h < 1 else h - 2 / 3

    neurons = range(2 * views.NEURONS, 3 * views.NEURONS)  # of class 2
    by_hand = sum(active(float(x[1, p] @ weights[1, :, n])) for p in range(6) for n in neurons)
    assert found[1, 1, 2].item() == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("soft", [False, True])
def test_networks_that_are_trained_at_once_are_trained_each_on_its_own(
    soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "STEPS", 10)
    x, y = views.made("two views", 50, seed=0)
    said = torch.randn(50, 5) if soft else y
    start = views.first_weights(1, 2, 3)
    together, alone = views.taught(start, x, said), views.taught(start[1:2], x, said)
    assert_close(together[1], alone[0], rtol=1e-4, atol=1e-6)
    assert not torch.equal(together[1], start[1])


def test_students_of_views_start_alike_and_none_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, told = [], []

    def look(weights: Tensor, x: Tensor, said: Tensor) -> Tensor:
        starts.append(weights)
        told.append(said)
        return weights

    monkeypatch.setattr(views, "taught", look)
    views.members.cache_clear()
    members = views.members(3, "two views")
    assert len(members) == len({float(one.sum()) for one in members}) == views.MEMBERS
    for who in ("one network", "smoothed labels", "taught by one", "taught by the ensemble"):
        views.student(who, 3, "two views")
    views.members.cache_clear()
    assert all(torch.equal(start, starts[1]) for start in starts[2:])
    assert not any(torch.equal(starts[1][0], one) for one in members)
    x, y = views.made("two views", views.TRAINING, seed=3)
    labels, smooth, one, ensemble = told[1:]
    assert torch.equal(labels, y)
    assert_close(one, views.logits(members[:1], x)[0])
    assert_close(ensemble, views.logits(members, x).mean(0))
    p, sure = ((said / views.TEMPERATURE).softmax(-1).amax(-1).mean() for said in (smooth, ensemble))
    assert_close(p, sure)
    assert torch.equal(smooth.argmax(-1), y)


# Regularisation -------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, dict[str, object]]]:
    """What students would have been told, and how; nobody is trained."""
    seen: list[tuple[Tensor, dict[str, object]]] = []

    def look(model: nn.Module, x: Tensor, said: Tensor, **how: object) -> nn.Module:
        seen.append((said, {"weights": model.state_dict()["classifier.weight"].sum().item(), **how}))
        return model

    monkeypatch.setattr(regularisation, "learn", look)
    monkeypatch.setattr(regularisation, "teacher", lambda seed, kind: make(_fidelity.NET, seed=seed))
    monkeypatch.setattr(regularisation, "measures", lambda *_: {"accuracy": 0.5})
    return seen


def test_arms_of_regularisation_differ_in_what_is_said_alone(told: list[tuple[Tensor, dict[str, object]]]) -> None:
    for arm in regularisation.ARMS:
        regularisation.run(3, arm)
    same = ("weights", "seed", "temperature")
    assert len({tuple(how[name] for name in same) for _, how in told}) == 1
    for arm, (said, how) in zip(regularisation.ARMS, told, strict=True):
        assert said.is_floating_point() == (" | labels" not in arm)
        assert how.get("steps") == (regularisation.EARLY if "early" in arm else None)
        assert ("anew" in how) == ("shuffled" in arm)
    whole, shuffled = told[4][0], told[3][0]
    assert torch.equal(whole, shuffled)
    anew = told[3][1]["anew"]
    assert callable(anew)
    first, second = anew(whole[:50]), anew(whole[:50])
    assert not torch.equal(first, second), "in every step anew"
    for once in (first, second):
        assert torch.equal(once.argmax(-1), whole[:50].argmax(-1))
        assert_close(once.sort(-1).values, whole[:50].sort(-1).values)
    assert not torch.equal(permuted_dark_knowledge(whole[:50]), whole[:50])


def test_smoothed_labels_are_at_the_temperature_as_sure_as_the_teacher() -> None:
    torch.manual_seed(0)
    y, logits = torch.arange(40) % 10, 3 * torch.randn(40, 10)
    p = (regularisation.smoothed(y, logits) / regularisation.TEMPERATURE).softmax(-1)
    sure = (logits / regularisation.TEMPERATURE).softmax(-1).amax(-1).mean()
    assert torch.equal(p.argmax(-1), y)
    assert_close(p.amax(-1), sure.expand(40))
    assert_close(p[0, 1:], ((1 - sure) / 9).expand(9))


def test_three_labels_in_ten_are_drawn_anew_and_a_tenth_of_these_are_right() -> None:
    right = _fidelity.parts().train_y
    assert torch.equal(regularisation.labels(0, "better teacher"), right)
    changed = [(regularisation.labels(seed, "wrong labels") != right).double().mean().item() for seed in range(4)]
    assert sum(changed) / 4 == pytest.approx(0.27, abs=0.01)
    assert math.dist(changed[:1], changed[1:2]) > 0
