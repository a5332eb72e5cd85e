"""The experiment in the plane of lesson 09: scores against autograd, what counts as a mode, paired arms."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.experiments import _adversarial_generator as plane
from kdref.lab.experiments import adversarial_generator, adversarial_generator_tuning


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_score_is_the_gradient_of_the_mixtures_log_density() -> None:
    x = torch.randn(20, 2, generator=draws(), dtype=torch.float64).requires_grad_()
    centres = plane.CENTRES.double()
    parts = torch.distributions.MultivariateNormal(centres, 0.7**2 * torch.eye(2, dtype=torch.float64))
    log_density = parts.log_prob(x[:, None]).logsumexp(dim=1) - math.log(plane.MODES)
    (expected,) = torch.autograd.grad(log_density.sum(), x)
    assert_close(plane.score(x.detach(), centres, 0.7), expected)


def test_the_teacher_keeps_to_its_ring_and_finds_all_of_its_modes() -> None:
    samples = plane.teacher_samples(20_000, draws())
    assert_close(plane.shares(samples).sum().item(), 1 - math.exp(-4.5), rtol=0, atol=0.005)
    assert_close(plane.shares(samples), torch.full((8,), 0.989 / 8), rtol=0, atol=0.01)
    assert plane.modes_found(samples) == 8
    assert plane.modes_found(plane.CENTRES[:3].repeat(10, 1)) == 3
    few = torch.cat([plane.CENTRES[:1].repeat(98, 1), plane.CENTRES[1:2].repeat(2, 1)])
    assert plane.modes_found(few) == 1, "two samples in a hundred are no mode found"


def test_the_energy_distance_is_nothing_between_samples_of_one_law_and_grows_with_a_shift() -> None:
    x, y = plane.teacher_samples(2000, draws(0)), plane.teacher_samples(2000, draws(1))
    assert abs(plane.energy_distance(x, y)) < 0.01
    assert_close(plane.energy_distance(torch.zeros(5, 2), torch.tensor([[3.0, 4.0]]).repeat(5, 1)), 10.0)


def test_matching_pulls_a_generator_at_rest_towards_the_ring_and_leaves_the_teachers_law_where_it_is() -> None:
    class Fixed(torch.nn.Module):
        def __init__(self, made: Tensor) -> None:
            super().__init__()
            self.made = torch.nn.Parameter(made)

        def forward(self, noise: Tensor) -> Tensor:
            return self.made

    outside = Fixed(plane.teacher_samples(plane.BATCH_SIZE, draws()) * 1.5)
    plane.matching_loss(outside, 0.5, draws()).backward()
    assert outside.made.grad is not None
    inwards = (outside.made.grad * outside.made).sum(dim=1)
    assert (inwards > 0).double().mean() > 0.95, "descent makes them smaller"
    there = Fixed(plane.teacher_samples(plane.BATCH_SIZE, draws()))
    plane.matching_loss(there, 0.5, draws()).backward()
    assert there.made.grad is not None
    assert there.made.grad.norm() < outside.made.grad.norm() / 3


def test_both_laws_get_the_same_noise_before_their_scores_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    spreads, right = list[tuple[int, float]](), plane.score

    def look(x: Tensor, centres: Tensor, spread: float) -> Tensor:
        spreads.append((len(centres), spread))
        return right(x, centres, spread)

    monkeypatch.setattr(plane, "score", look)
    plane.matching_loss(plane.players(0).generator, 0.3, draws())
    assert spreads == [(plane.BATCH_SIZE, 0.3), (plane.MODES, pytest.approx((0.3**2 + plane.SPREAD**2) ** 0.5))]


def test_the_saturating_loss_has_the_same_sign_and_hardly_a_slope_where_the_student_is_found_out() -> None:
    slopes = []
    for saturating in (False, True):
        score = torch.tensor([-10.0], requires_grad=True)
        plane.fooling_loss(score, saturating=saturating).backward()
        assert score.grad is not None
        slopes.append(score.grad.item())
    assert_close(slopes[0], -1.0, rtol=0, atol=1e-4)
    assert -1e-4 < slopes[1] < 0


def test_arms_share_first_weights_and_each_does_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "STEPS", 20)
    a, b = plane.players(3), plane.players(3)
    for own, other in zip(
        (*a.generator.parameters(), *a.discriminator.parameters()),
        (*b.generator.parameters(), *b.discriminator.parameters()),
        strict=True,
    ):
        assert torch.equal(own, other)
    found = {}
    for arm in adversarial_generator.ARMS:
        first, again = (adversarial_generator.run(3, arm) for _ in range(2))
        assert {**first, "seconds": 0} == {**again, "seconds": 0}
        found[arm] = first["energy_distance"]
    assert len(set(found.values())) == len(found), "two arms do the same"


def test_a_matched_generator_never_moves_the_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "STEPS", 20)
    those = plane.players(0)
    before = [parameter.detach().clone() for parameter in those.discriminator.parameters()]
    monkeypatch.setattr(plane, "players", lambda seed: those)
    adversarial_generator.run(0, "distribution matching")
    assert all(torch.equal(a, b) for a, b in zip(before, those.discriminator.parameters(), strict=True))
    adversarial_generator.run(0, "adversarial")
    assert not all(torch.equal(a, b) for a, b in zip(before, those.discriminator.parameters(), strict=True))


def test_what_is_looked_at_tells_who_stays() -> None:
    still, real = plane.teacher_samples(500, draws(0)), plane.teacher_samples(500, draws(1))
    steady = plane.looked_at([still] * 4, real)
    assert steady["wander"] == 0
    assert steady["modes"] == steady["fewest_modes"] == 8
    moving = plane.looked_at([still, still, plane.CENTRES[:1].repeat(500, 1), still], real)
    assert moving["wander"] > 1
    assert moving["modes"] == 8
    assert moving["fewest_modes"] == 1


def test_the_grids_of_rates_have_room() -> None:
    for way in adversarial_generator_tuning.WAYS:
        rates = adversarial_generator_tuning.RATES
        assert rates[0] < adversarial_generator_tuning.chosen(way) < rates[-1]
