"""A one-step generator in the plane learns a teacher's law: by matching scores, or against a discriminator.

The teacher is a mixture of eight narrow Gaussians on a ring. Matching needs its score, known here in closed form at
every noise level, and no sample of it; the discriminator needs its samples, and no score. The generator's own score is
that of its samples *now*: a Gaussian of the noise level around each point of a fresh batch. That works in the plane;
for images a second network is trained to denoise what the generator makes.

Within a seed all arms have the same first weights, noise, batch size and number of the generator's steps.
Lesson: notebooks/09_adversarial.ipynb.
"""

import itertools
import math
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.adversarial import FeatureDiscriminator, distribution_matching_loss, student_adversarial_loss
from kdref.lab.experiments._adversarial_features import discriminator_step

MODES, RADIUS, SPREAD = 8, 2.0, 0.1
ANGLES = torch.arange(MODES) * (2 * math.pi / MODES)
CENTRES = RADIUS * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
STEPS, BATCH_SIZE = 1000, 256
LOOKS, LOOKED_AT = 20, 1000  # how often, and at how many samples
LEAST_LEVEL, LARGEST_LEVEL = 0.1, 2.0  # of the noise: from the teacher's own spread to its radius


class Plan(NamedTuple):
    """What an arm does."""

    adversarial: bool
    rate: float  # of the generator, and of its discriminator
    levels: tuple[float, float] = (LEAST_LEVEL, LARGEST_LEVEL)
    saturating: bool = False
    discriminator_steps: int = 1
    discriminator_speed: float = 1.0  # so many times the generator's rate


class Players(NamedTuple):
    """Who takes part, with the first weights that all arms of a seed share."""

    generator: nn.Sequential
    discriminator: FeatureDiscriminator


def players(seed: int) -> Players:
    """A new generator, noise (N, 2) in and points (N, 2) out, and a discriminator of points."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = (nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        return Players(nn.Sequential(*layers), FeatureDiscriminator(2))


def teacher_samples(count: int, draws: torch.Generator) -> Tensor:
    """Points of the teacher's law."""
    which = torch.randint(MODES, (count,), generator=draws)
    return CENTRES[which] + SPREAD * torch.randn(count, 2, generator=draws)


def score(x: Tensor, centres: Tensor, spread: float) -> Tensor:
    """Gradient at ``x`` of the log density of equally many Gaussians around centres: towards their weighted mean."""
    weights = (-torch.cdist(x, centres).square() / (2 * spread**2)).softmax(dim=1)
    return (weights @ centres - x) / spread**2


def matching_loss(generator: nn.Module, level: float, draws: torch.Generator) -> Tensor:
    """Distribution matching at one noise level. A score grows as 1/level: times the level, all levels count alike."""
    samples = generator(torch.randn(BATCH_SIZE, 2, generator=draws))
    noised = samples + level * torch.randn(BATCH_SIZE, 2, generator=draws)
    with torch.no_grad():
        own = score(noised, generator(torch.randn(BATCH_SIZE, 2, generator=draws)), level)
        theirs = score(noised, CENTRES, math.hypot(SPREAD, level))  # of the teacher's law with noise of that level
    return distribution_matching_loss(noised, level * own, level * theirs)


def fooling_loss(scores: Tensor, *, saturating: bool) -> Tensor:
    """The student's part against a discriminator; the saturating form is log(1 - σ), which stops where it is needed."""
    return F.logsigmoid(-scores).mean() if saturating else student_adversarial_loss(scores)


def played(plan: Plan, seed: int) -> dict[str, float]:
    """Train a generator by a plan and look at what it makes, at the end and on the way."""
    generator, discriminator = players(seed)
    draws, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(generator.parameters(), lr=plan.rate, betas=(0.5, 0.999), fused=True)
    rate = plan.rate * plan.discriminator_speed
    its_optimizer = torch.optim.Adam(discriminator.parameters(), lr=rate, betas=(0.5, 0.999), fused=True)
    least, largest = (math.log(level) for level in plan.levels)
    noise, seen, seconds = torch.randn(LOOKED_AT, 2, generator=fixed), list[Tensor](), 0.0
    for number in range(1, STEPS + 1):
        start = time.process_time()
        if plan.adversarial:
            samples = generator(torch.randn(BATCH_SIZE, 2, generator=draws))
            for _ in range(plan.discriminator_steps):
                discriminator_step(discriminator, its_optimizer, samples, teacher_samples(BATCH_SIZE, draws))
            loss = fooling_loss(discriminator(samples), saturating=plan.saturating)
        else:
            level = math.exp(least + (largest - least) * torch.rand((), generator=draws).item())
            loss = matching_loss(generator, level, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds += time.process_time() - start
        if number % (STEPS // LOOKS) == 0:
            with torch.no_grad():
                seen.append(generator(noise))
    return {**looked_at(seen, teacher_samples(LOOKED_AT, fixed)), "seconds": seconds}


def shares(samples: Tensor) -> Tensor:
    """Of the samples, within three of the teacher's spreads of each mode, (8,). The teacher itself has 0.989 in all."""
    distance, mode = torch.cdist(samples, CENTRES).min(dim=1)
    return mode[distance < 3 * SPREAD].bincount(minlength=MODES) / len(samples)


def modes_found(samples: Tensor) -> float:
    """Modes that have at least a quarter of their due."""
    return float((shares(samples) >= 0.25 / MODES).sum())


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|: 0 where the laws are the same. Pairs of a sample with itself don't count."""
    within = [torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    return (2 * torch.cdist(x, y).mean() - within[0] - within[1]).item()


def looked_at(seen: list[Tensor], real: Tensor) -> dict[str, float]:
    """Of the last look, and of the second half of them: does what was found stay, do points stay where they are?"""
    half = seen[len(seen) // 2 :]
    moves = [(b - a).norm(dim=1).mean().item() for a, b in itertools.pairwise(half)]
    return {
        "near": shares(seen[-1]).sum().item(),
        "modes": modes_found(seen[-1]),
        "fewest_modes": min(modes_found(samples) for samples in half),
        "energy_distance": energy_distance(seen[-1], real),
        "wander": sum(moves) / len(moves),
    }
