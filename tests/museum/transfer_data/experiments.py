"""Wrong versions of the loops that make images of a teacher alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.experiments import _transfer_images as images
from kdref.transfer_data import total_variation_loss
from tests.museum import exhibit


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"lab/experiments/test_transfer.py::test_{test}" for test in tests)


@exhibit(
    replaces="kdref.lab.experiments._transfer_images:inverted",
    seen_in="DeepInversion's CIFAR code: best_inputs = inputs.data",
    killed_by=killed_by("inversion_returns_the_best_images_not_the_last"),
)
def best_is_an_alias(model: nn.Sequential, seed: int, *, statistics: float, count: int = 200) -> Tensor:
    """What is kept follows every later step: the last images are returned for the best."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, *images.SHAPE, generator=draws).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=images.INVERSION_RATE)
    least, best = float("inf"), pixels.data
    with images.Watched(model) as watched:
        for _ in range(images.INVERSION_STEPS):
            moved = pixels.roll(torch.randint(-1, 2, (2,), generator=draws).tolist(), dims=(2, 3))
            loss = F.cross_entropy(model(moved), torch.arange(count) % 10) + statistics * watched.statistics_loss()
            loss = loss + images.VARIATION * total_variation_loss(moved)
            if loss.item() < least:
                least, best = loss.item(), pixels.data
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return best


@exhibit(
    replaces="kdref.lab.experiments._transfer_images:generator_step",
    seen_in="a likely slip: the student's gradient of the generator's loss is left where it is",
    killed_by=killed_by("a_generators_step_trains_nobody_else"),
)
def gradient_left_behind(
    generator: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, *others: nn.Module
) -> None:
    """The student's next step climbs where it should descend, unless somebody zeroes its gradient."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(generator.parameters(), 5.0)
    optimizer.step()


@exhibit(
    replaces="kdref.lab.experiments._transfer_images:generator_step",
    seen_in="a likely slip: one optimiser for generator and student",
    killed_by=killed_by("a_generators_step_trains_nobody_else"),
)
def student_trained_too(
    generator: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, *others: nn.Module
) -> None:
    """The generator's loss makes the student worse, on purpose of nobody."""
    parameters = [parameter for module in (generator, *others) for parameter in module.parameters()]
    both = torch.optim.SGD(parameters, lr=0.01)
    both.zero_grad()
    loss.backward()
    both.step()
    both.zero_grad()
