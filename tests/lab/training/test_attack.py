"""The attack: a closed form where the model is linear, a ball that is never left, and a model that stays as it was."""

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref import lab
from kdref.lab.training.attack import pgd

X = torch.rand(16, 1, 3, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 2


class Line(nn.Module):
    """Two classes: the loss of class 0 rises along w, that of class 1 against it, wherever one stands."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(z), z], dim=1)

    def uphill(self) -> Tensor:
        return ((1 - 2 * Y)[:, None] * self.weight.detach().sign()).view_as(X)


def noisy() -> nn.Sequential:
    torch.manual_seed(2)
    layers = (nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2))
    return nn.Sequential(*layers)


def attack(model: nn.Module, images: Tensor = X, labels: Tensor = Y, **settings: Any) -> Tensor:
    return pgd(model, images, labels, **{"radius": 0.2, "step_size": 0.05, "steps": 10} | settings)


@pytest.mark.parametrize("drawn", [False, True])
def test_on_a_linear_model_every_pixel_goes_to_the_border_of_the_ball_or_of_the_range(drawn: bool) -> None:
    model = Line()
    expected = (X + 0.2 * model.uphill()).clamp(0, 1)
    generator = torch.Generator().manual_seed(3) if drawn else None
    assert_close(attack(model, generator=generator), expected, rtol=0, atol=0)
    assert (expected == 0).any()
    assert (expected == 1).any()
    assert_close(attack(model, clip=None), X + 0.2 * model.uphill(), rtol=0, atol=0)
    assert_close(attack(model, clip=(-5, 0.999)), (X + 0.2 * model.uphill()).clamp(max=0.999), rtol=0, atol=0)


def test_one_step_is_one_step_and_more_than_the_radius_is_cut() -> None:
    model = Line()
    assert_close(attack(model, steps=1, clip=None), X + 0.05 * model.uphill())
    assert_close(attack(model, steps=3, clip=None), X + 0.15 * model.uphill())
    assert_close(attack(model, steps=1, step_size=7.0, clip=None), X + 0.2 * model.uphill())


def test_the_loss_of_a_linear_model_falls_for_no_image_and_rises_most_of_all_in_the_ball() -> None:
    model = Line()
    start, end = (F.cross_entropy(model(x), Y, reduction="none") for x in (X, attack(model)))
    assert (end > start).all()
    for seed in range(20):
        change = 0.4 * torch.rand(X.shape, generator=torch.Generator().manual_seed(seed)) - 0.2
        assert (end >= F.cross_entropy(model((X + change).clamp(0, 1)), Y, reduction="none")).all()


@pytest.mark.parametrize("radius", [0.0, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("seed", [None, 0])
def test_the_attack_never_leaves_the_ball_nor_the_range(radius: float, seed: int | None) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    found = attack(noisy(), radius=radius, step_size=0.7, steps=4, generator=generator)
    assert found.shape == X.shape
    assert found.dtype == X.dtype
    assert not found.requires_grad
    assert (found - X).abs().max() <= radius + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, X) == (radius == 0)


def test_the_model_is_shown_no_pixel_that_there_is_not() -> None:
    seen: list[Tensor] = []
    model = noisy()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    attack(model, radius=0.5, steps=3, generator=torch.Generator().manual_seed(0))
    assert len(seen) == 3
    assert all(0 <= x.min() < x.max() <= 1 for x in seen)


def test_starts_are_drawn_all_over_the_ball_and_again_the_same() -> None:
    still = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    nn.init.zeros_(still[1].weight)  # no gradient: the start is all there is
    x = torch.full((4000, 1, 3, 3), 0.5)
    first, again, other = (
        attack(still, x, torch.zeros(4000, dtype=torch.long), generator=torch.Generator().manual_seed(seed)) - x
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert_close(first.std(), torch.tensor(0.2 / 3**0.5), rtol=0.02, atol=0)  # uniform on [-0.2, 0.2]
    assert_close(first.mean(), torch.tensor(0.0), rtol=0, atol=0.005)
    assert torch.equal(attack(still, x, torch.zeros(4000, dtype=torch.long)), x)


def test_another_loss_is_what_rises() -> None:
    model = Line()
    found = attack(model, loss=lambda logits, labels: logits[:, 1], clip=None)  # one value per example, no labels
    assert_close(found, X + 0.2 * model.weight.detach().sign().view(1, 1, 3, 3))


def test_each_image_is_attacked_as_if_it_were_alone() -> None:
    model = noisy()
    together = attack(model)
    for i in (0, 7):
        assert_close(together[i : i + 1], attack(model, X[i : i + 1], Y[i : i + 1]))


def test_the_model_keeps_its_mode_its_statistics_and_its_gradients() -> None:
    model = noisy().train()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    first, again = attack(model), attack(model)
    assert torch.equal(first, again), "dropout was on"
    assert [module.training for module in model] == [True, True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(X).sum().backward()
    kept = [parameter.grad.clone() for parameter in model.parameters()]
    attack(model)
    assert all(torch.equal(parameter.grad, old) for parameter, old in zip(model.parameters(), kept, strict=True))
    assert torch.equal(attack(model.eval()), first), "in eval mode it is the same attack"


def test_a_frozen_model_is_attacked_and_gradients_may_be_off() -> None:
    model = noisy().eval()
    expected = attack(model)
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(attack(model), expected)
    assert not X.requires_grad


def test_an_exact_confidence_has_no_gradient_and_the_image_stays() -> None:
    model = Line()
    model.weight.data.mul_(1e6)
    found = attack(model, X, (model(X)[:, 1] > 0).long())
    assert torch.equal(found, X), "the softmax is 0 and 1 exactly"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"radius": -0.1}, ValueError, "radius must be at least 0, got -0.1"),
        ({"radius": float("nan")}, ValueError, "radius must be at least 0, got nan"),
        ({"radius": "0.1"}, TypeError, "radius must be a number, got '0.1'"),
        ({"step_size": 0}, ValueError, "step_size must be positive, got 0"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, TypeError, "steps must be a whole number, got 2.5"),
        ({"clip": (1, 0)}, ValueError, "clip must be the least and the largest pixel, got (1, 0)"),
        ({"clip": (0.5, 1)}, ValueError, "give their own bounds, or clip=None for standardised ones"),
        ({"images": X - X.mean()}, ValueError, "give their own bounds, or clip=None for standardised ones"),
        (
            {"images": (255 * X).byte()},
            TypeError,
            "images must be floating point, got torch.uint8: divide bytes by 255",
        ),
        ({"labels": Y[:15]}, ValueError, "images and labels must be equally many, got (16, 1, 3, 3) and (15,)"),
        ({"images": X[:0], "labels": Y[:0]}, ValueError, "must be equally many"),
    ],
)
def test_bad_input_is_refused_by_name(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        attack(Line(), **settings)


def test_the_lab_hands_the_attack_on() -> None:
    assert lab.pgd is pgd
