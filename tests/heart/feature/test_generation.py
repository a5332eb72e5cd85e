"""Masked generation, checked against Yang et al. 2022 and against what others got wrong."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.feature import MaskedGeneration
from tests import checks

STUDENT, TEACHER = checks.randn(3, 2, 4, 5, seed=1), checks.randn(3, 3, 4, 5, seed=2)


def generation(student: int = 2, teacher: int = 3, mask_ratio: float = 0.5) -> MaskedGeneration:
    torch.manual_seed(3)
    return MaskedGeneration(student, teacher, mask_ratio=mask_ratio).double()


def seeded(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolved(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    """A 3×3 convolution with a border of zeros, in loops over places."""
    batch, _, height, width = maps.shape
    result = torch.zeros(batch, len(layer.weight), height, width, dtype=maps.dtype)
    for h in range(height):
        for w in range(width):
            total = layer.bias.detach().expand(batch, -1).clone()
            for i in range(max(0, h - 1), min(height, h + 2)):
                for j in range(max(0, w - 1), min(width, w + 2)):
                    total += maps[:, :, i, j] @ layer.weight.detach()[:, :, i - h + 1, j - w + 1].T
            result[:, :, h, w] = total
    return result


@pytest.mark.parametrize("mask_ratio", [0.0, 0.3, 0.8])
def test_loss_matches_the_definition(mask_ratio: float) -> None:
    module = generation(mask_ratio=mask_ratio)
    kept = (torch.rand(3, 1, 4, 5, generator=seeded()) >= mask_ratio).double()
    weight, bias = module.align.weight.detach()[:, :, 0, 0], module.align.bias.detach()
    aligned = torch.einsum("dc,bchw->bdhw", weight, STUDENT) + bias.view(1, 3, 1, 1)
    first, _, second = module.generation
    guess = convolved(convolved(aligned * kept, first).clamp(min=0), second)
    assert_close(module(STUDENT, generator=seeded()), guess)
    pairs = zip(guess.flatten().tolist(), TEACHER.flatten().tolist(), strict=True)
    expected = sum((g - t) ** 2 for g, t in pairs) / TEACHER.numel()
    assert module.loss(STUDENT, TEACHER, generator=seeded()).item() == pytest.approx(expected, rel=1e-10)


def passing_on(mask_ratio: float = 0.5, channels: int = 2) -> MaskedGeneration:
    """Both convolutions hand on their middle: the guess is the masked map, cut at 0."""
    module = MaskedGeneration(channels, channels, mask_ratio=mask_ratio).double()
    for layer in (module.generation[0], module.generation[2]):
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)
    return module


def test_known_value() -> None:
    # all ones, of which some places stay: each hidden one is off by 3, each that stays by 2
    student, teacher = torch.ones(1, 2, 10, 10).double(), torch.full((1, 2, 10, 10), 3.0).double()
    hidden = (torch.rand(1, 1, 10, 10, generator=seeded()) < 0.5).sum().item()
    loss = passing_on().loss(student, teacher, generator=seeded())
    assert loss.item() == pytest.approx((hidden * 9 + (100 - hidden) * 4) / 100)
    assert passing_on(mask_ratio=0.0).loss(student, teacher).item() == pytest.approx(4.0)


def test_a_place_is_hidden_in_all_channels_and_for_each_example_anew() -> None:
    left = passing_on()(torch.ones(64, 2, 6, 6).double(), generator=seeded())
    assert set(left.unique().tolist()) == {0.0, 1.0}
    assert_close(left[:, 0], left[:, 1])
    assert len(left[:, 0].flatten(1).unique(dim=0)) == 64


@pytest.mark.parametrize("mask_ratio", [0.1, 0.5, 0.9])
def test_the_ratio_is_the_share_that_is_hidden(mask_ratio: float) -> None:
    left = passing_on(mask_ratio)(torch.ones(64, 2, 16, 16).double(), generator=seeded())
    assert (left == 0).double().mean().item() == pytest.approx(mask_ratio, abs=0.01)


def test_the_mask_is_on_the_student_and_the_whole_of_the_teacher_counts() -> None:
    module = passing_on(mask_ratio=0.9)
    student, teacher = torch.zeros(2, 2, 8, 8).double(), torch.ones(2, 2, 8, 8).double()
    assert module.loss(student, teacher, generator=seeded()).item() == pytest.approx(1.0)


def test_zero_where_the_guess_is_the_teacher() -> None:
    positive = TEACHER.abs()
    assert passing_on(mask_ratio=0.0, channels=3).loss(positive, positive) == 0
    assert passing_on(channels=3).loss(positive, positive, generator=seeded()) > 0


def test_a_generator_makes_the_mask_reproducible_and_without_one_it_changes() -> None:
    module = generation()
    first = module.loss(STUDENT, TEACHER, generator=seeded())
    assert_close(module.loss(STUDENT, TEACHER, generator=seeded()), first, rtol=0, atol=0)
    assert module.loss(STUDENT, TEACHER, generator=seeded(5)) != first
    assert module.loss(STUDENT, TEACHER) != module.loss(STUDENT, TEACHER)
    module.eval()  # the mask is part of the loss, not a dropout
    assert module.loss(STUDENT, TEACHER) != module.loss(STUDENT, TEACHER)


def test_the_layers_are_those_of_the_authors() -> None:
    shapes = [tuple(p.shape) for p in MaskedGeneration(2, 3).parameters()]
    assert shapes == [(3, 2, 1, 1), (3,), (3, 3, 3, 3), (3,), (3, 3, 3, 3), (3,)]
    assert [tuple(p.shape) for p in MaskedGeneration(3, 3).parameters()] == shapes[2:]  # nothing to align
    assert MaskedGeneration(2, 3).mask_ratio == 0.5


@pytest.mark.parametrize("channels", [(3, 1), (1, 3), (1, 1)])
def test_one_channel_is_enough(channels: tuple[int, int]) -> None:
    student, teacher = channels
    assert generation(student, teacher)(torch.ones(2, student, 4, 4)).shape == (2, teacher, 4, 4)


def test_a_signal_is_an_image_of_height_one() -> None:
    module, signal, teacher = generation(), checks.randn(2, 2, 9, seed=6), checks.randn(2, 3, 9, seed=7)
    image = module(signal.unsqueeze(2), generator=seeded())
    assert_close(module(signal, generator=seeded()), image.squeeze(2))
    expected = module.loss(signal.unsqueeze(2), teacher.unsqueeze(2), generator=seeded())
    assert_close(module.loss(signal, teacher, generator=seeded()), expected)


def test_batch_permutation() -> None:
    module = generation(mask_ratio=0.0)  # else the places that are hidden would have to move along
    checks.check_batch_permutation(lambda s, t: module.loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_and_the_module_only() -> None:
    module = generation()
    checks.check_gradient(lambda s, t: module.loss(s, t, generator=seeded()), STUDENT, TEACHER)
    module.zero_grad()
    module.loss(STUDENT, TEACHER).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_a_hidden_place_gets_no_gradient() -> None:
    student = torch.ones(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    kept = torch.rand(1, 1, 6, 6, generator=seeded()) >= 0.5
    passing_on().loss(student, torch.zeros(1, 2, 6, 6).double(), generator=seeded()).backward()
    assert_close(student.grad != 0, kept.expand(1, 2, 6, 6))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_maps_stay_finite(scale: float) -> None:
    modules = {dtype: generation().to(dtype) for dtype in (torch.float32, torch.float64)}

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        module = modules[torch.promote_types(student.dtype, torch.float32)]
        return module.loss(student, teacher, generator=seeded())

    student, teacher = STUDENT / STUDENT.abs().max() * scale, TEACHER / TEACHER.abs().max() * scale
    for maps in (student, student[:1], torch.zeros_like(student)):
        checks.check_extremes(loss, maps, teacher[: len(maps)])


def test_mixed_precision_gives_a_loss_in_float32() -> None:
    module = generation().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module.loss(STUDENT.float(), TEACHER.float(), generator=seeded())
    assert loss.dtype == torch.float32
    assert_close(loss, module.loss(STUDENT.float(), TEACHER.float(), generator=seeded()), rtol=0.05, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected maps \(B, 2, H, W\) or \(B, 2, L\), got shape \(3, 3, 4, 5\)"):
        generation()(TEACHER)
    with pytest.raises(ValueError, match=r"expected maps \(B, 2, H, W\) or \(B, 2, L\), got shape \(3, 2\)"):
        generation()(STUDENT[..., 0, 0])
    with pytest.raises(
        ValueError, match=r"got \(3, 3, 4, 4\) from the student and \(3, 3, 4, 5\).*adaptive_avg_pool2d"
    ):
        generation().loss(STUDENT[..., :4], TEACHER)
    with pytest.raises(ValueError, match=r"got \(3, 3, 4, 5\) from the student and \(3, 2, 4, 5\)"):
        generation().loss(STUDENT, STUDENT)
    for ratio in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=rf"mask_ratio must be in \[0, 1\), got {ratio}: at 1 nothing"):
            MaskedGeneration(2, 3, mask_ratio=ratio)
    for ratio in ("0.5", None, torch.tensor(0.5)):
        with pytest.raises(TypeError, match="mask_ratio must be a number, got"):
            MaskedGeneration(2, 3, mask_ratio=ratio)
    for name in ("student_channels", "teacher_channels"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            MaskedGeneration(**{"student_channels": 2, "teacher_channels": 3, name: 0})


def test_compiles_to_one_graph() -> None:
    module = generation(mask_ratio=0.0)
    checks.check_compiles(lambda s, t: module.loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_what_lies_around_a_place() -> None:
    torch.manual_seed(8)
    x = checks.randn(16, 1, 8, 8, seed=9, dtype=torch.float32)
    teacher = nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    student, module = nn.Conv2d(1, 4, 3, padding=1), MaskedGeneration(4, 1, mask_ratio=0.25)
    optimizer, losses = torch.optim.Adam([*student.parameters(), *module.parameters()], lr=0.01), []
    for _ in range(200):
        losses.append(module.loss(student(x), teacher))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3
