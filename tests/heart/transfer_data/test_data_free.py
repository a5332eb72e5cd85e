"""Losses of data-free distillation, checked against DAFL, ZSKT and DeepInversion, and against what others got wrong."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.transfer_data import (
    activation_loss,
    batchnorm_statistics_loss,
    information_entropy_loss,
    one_hot_loss,
    total_variation_loss,
    zero_shot_generator_loss,
)
from tests import checks

LOGITS, STUDENT = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(6, 4, seed=2, scale=2.0)
MAPS = checks.randn(5, 3, 4, 6, seed=3) + 1
OF_LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "one_hot_loss": lambda z: one_hot_loss(z),
    "information_entropy_loss": lambda z: information_entropy_loss(z),
}


def layer_of(maps: Tensor) -> nn.BatchNorm2d:
    """A BatchNorm layer that has kept exactly the statistics of these maps."""
    layer = nn.BatchNorm2d(maps.shape[1], momentum=1.0).to(maps.dtype)
    layer(maps.detach())
    return layer.eval()


def test_one_hot_matches_the_definition() -> None:
    rows = [checks.softmax(row) for row in LOGITS.tolist()]
    expected = -sum(math.log(max(p)) for p in rows) / len(rows)
    assert one_hot_loss(LOGITS).item() == pytest.approx(expected, rel=1e-9)


def test_entropy_matches_the_definition() -> None:
    rows = [checks.softmax(row) for row in LOGITS.tolist()]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    assert information_entropy_loss(LOGITS).item() == pytest.approx(sum(p * math.log(p) for p in mean), rel=1e-9)


def test_zero_shot_matches_the_definition() -> None:
    pairs = zip(STUDENT.tolist(), LOGITS.tolist(), strict=True)
    expected = -sum(checks.kl(checks.softmax(t), checks.softmax(s)) for s, t in pairs) / 6
    assert zero_shot_generator_loss(STUDENT, LOGITS).item() == pytest.approx(expected, rel=1e-9)


def test_batchnorm_statistics_match_the_definition() -> None:
    layer = layer_of(checks.randn(9, 3, 2, 2, seed=8) * 2)
    means, variances = [], []
    for channel in range(3):
        values = MAPS[:, channel].flatten().tolist()
        mean = sum(values) / len(values)
        means.append(mean - layer.running_mean[channel].item())
        spread = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        variances.append(spread - layer.running_var[channel].item())
    expected = math.sqrt(sum(d * d for d in means)) + math.sqrt(sum(d * d for d in variances))
    assert batchnorm_statistics_loss(MAPS, layer).item() == pytest.approx(expected, rel=1e-9)


def test_activation_and_total_variation_match_the_definitions() -> None:
    assert activation_loss(MAPS).item() == pytest.approx(-sum(map(abs, MAPS.flatten().tolist())) / MAPS.numel())
    across, down = [], []
    for image in MAPS.flatten(0, 1).tolist():
        across += [abs(row[w + 1] - row[w]) for row in image for w in range(5)]
        down += [abs(image[h + 1][w] - image[h][w]) for h in range(3) for w in range(6)]
    expected = sum(across) / len(across) + sum(down) / len(down)
    assert total_variation_loss(MAPS).item() == pytest.approx(expected, rel=1e-9)


def test_known_values() -> None:
    # p = (¾, ¼) and (½, ½): -(log ¾ + log ½)/2; their mean is (5/8, 3/8)
    z = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
    assert one_hot_loss(z).item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2, rel=1e-6)
    entropy = 5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8)
    assert information_entropy_loss(z).item() == pytest.approx(entropy, rel=1e-6)
    # teacher (¾, ¼) and (½, ½), student (½, ½): the first divergence is ¾ log 3/2 + ¼ log ½, the second 0
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert zero_shot_generator_loss(torch.zeros(2, 2), z).item() == pytest.approx(-divergence / 2, rel=1e-5)
    assert activation_loss(torch.tensor([[1.0, -2.0], [0.0, 3.0]])).item() == -1.5
    # (1 + 4)/2 across, (4 + 1)/2 down: with signs they would cancel in part
    assert total_variation_loss(torch.tensor([[[[0.0, 1.0], [4.0, 0.0]]]])).item() == 5.0
    # channels 2, 4 and 0, 8: means 3 and 4, variances 2 and 32, against 0 and 1: √(9 + 16) + √(1 + 31²)
    loss = batchnorm_statistics_loss(torch.tensor([[2.0, 0.0], [4.0, 8.0]]), nn.BatchNorm1d(2))
    assert loss.item() == pytest.approx(5 + math.sqrt(962), rel=1e-6)


def test_the_statistics_that_training_kept_cost_nothing() -> None:
    layer = layer_of(MAPS)
    assert batchnorm_statistics_loss(MAPS, layer).item() == pytest.approx(0, abs=1e-12)
    few = MAPS[:1, :, :1, :2]  # two values per channel: a biased variance would be half the unbiased one
    assert batchnorm_statistics_loss(few, layer_of(few)).item() == pytest.approx(0, abs=1e-12)
    assert batchnorm_statistics_loss(MAPS + 1, layer).item() == pytest.approx(math.sqrt(3), rel=1e-9)


def test_where_the_losses_are_least() -> None:
    sure = 60.0 * torch.eye(4, dtype=torch.float64)
    assert one_hot_loss(sure).item() == pytest.approx(0, abs=1e-12)
    assert one_hot_loss(0 * sure).item() == pytest.approx(math.log(4))
    assert information_entropy_loss(sure).item() == pytest.approx(-math.log(4))
    assert information_entropy_loss(sure[:1].expand(4, 4)).item() == pytest.approx(0, abs=1e-12)
    assert information_entropy_loss(0 * sure).item() == pytest.approx(-math.log(4))  # it can't tell these from balance
    assert zero_shot_generator_loss(LOGITS, LOGITS + 3).item() == pytest.approx(0, abs=1e-12)
    assert total_variation_loss(torch.full((2, 3, 4, 4), 0.7)).item() == 0
    for seed in range(20):
        z, other = checks.randn(8, 4, seed=seed), checks.randn(8, 4, seed=seed + 100)
        assert 0 < one_hot_loss(z) < math.log(4)
        assert -math.log(4) < information_entropy_loss(z) < 0
        assert zero_shot_generator_loss(z, other) < 0


@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_what_changes_nothing(seed: int, shift: float, scale: float) -> None:
    z, other = checks.randn(6, 4, seed=seed), checks.randn(6, 4, seed=seed + 1)
    moved = z + shift * torch.arange(6.0, dtype=torch.float64)[:, None]  # each example by its own amount
    for loss in OF_LOGITS.values():
        assert_close(loss(moved), loss(z), rtol=1e-8, atol=1e-10)
        assert_close(loss(z[:, [2, 0, 3, 1]]), loss(z))
        checks.check_batch_permutation(loss, z, per_example=False)
    pair = zero_shot_generator_loss(z, other)
    assert_close(zero_shot_generator_loss(moved, other), pair, rtol=1e-8, atol=1e-10)
    assert_close(zero_shot_generator_loss(z, other + shift), pair, rtol=1e-8, atol=1e-10)
    checks.check_batch_permutation(zero_shot_generator_loss, z, other, per_example=False)
    maps = checks.randn(4, 2, 3, 5, seed=seed)
    assert_close(total_variation_loss(scale * maps + shift), scale * total_variation_loss(maps))
    assert_close(total_variation_loss(maps.mT), total_variation_loss(maps))
    assert_close(total_variation_loss(maps.flip(2, 3)), total_variation_loss(maps))
    assert_close(activation_loss(scale * maps), scale * activation_loss(maps))
    layer = layer_of(checks.randn(4, 2, 3, 5, seed=seed + 1))
    shuffled = maps.flatten(2)[:, :, torch.randperm(15, generator=torch.Generator().manual_seed(seed))].view_as(maps)
    plain = batchnorm_statistics_loss(maps, layer)
    assert_close(batchnorm_statistics_loss(shuffled, layer), plain)  # places don't count
    assert_close(batchnorm_statistics_loss(maps.flatten(2), layer), plain)
    checks.check_batch_permutation(lambda x: batchnorm_statistics_loss(x, layer), maps, per_example=False)


def test_a_doubled_batch_costs_the_same() -> None:
    twice = LOGITS.repeat(2, 1)
    for loss in OF_LOGITS.values():
        assert_close(loss(twice), loss(LOGITS))
        assert_close(loss(LOGITS.view(2, 3, 4)), loss(LOGITS))
    assert_close(zero_shot_generator_loss(STUDENT.repeat(2, 1), twice), zero_shot_generator_loss(STUDENT, LOGITS))
    assert_close(activation_loss(MAPS.repeat(2, 1, 1, 1)), activation_loss(MAPS))
    assert_close(total_variation_loss(MAPS.repeat(2, 1, 1, 1)), total_variation_loss(MAPS))


def test_the_gradient_goes_through_all_of_them() -> None:
    for loss in OF_LOGITS.values():
        checks.check_gradient(loss, LOGITS)
    both = (STUDENT.clone().requires_grad_(), LOGITS.clone().requires_grad_())
    assert torch.autograd.gradcheck(zero_shot_generator_loss, both, raise_exception=False), "of both sides"
    zero_shot_generator_loss(*both).backward()
    p, q = LOGITS.softmax(-1), STUDENT.softmax(-1)
    assert_close(both[0].grad, (p - q) / 6, rtol=1e-9, atol=1e-14)
    ratio = p.log() - q.log()
    assert_close(both[1].grad, -p * (ratio - (p * ratio).sum(-1, keepdim=True)) / 6, rtol=1e-9, atol=1e-14)
    checks.check_gradient(activation_loss, MAPS)
    checks.check_gradient(total_variation_loss, MAPS)
    layer = layer_of(checks.randn(4, 3, 2, 2, seed=9))
    checks.check_gradient(lambda x: batchnorm_statistics_loss(x, layer), MAPS)
    choice = LOGITS.argmax(-1)
    z = LOGITS.clone().requires_grad_()
    one_hot_loss(z).backward()
    assert_close(z.grad, (p - F.one_hot(choice, 4)) / 6, rtol=1e-9, atol=1e-14)


def test_the_statistics_loss_changes_nothing_in_the_layer() -> None:
    layer = layer_of(MAPS[:3])
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    batchnorm_statistics_loss(MAPS, layer)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_each_loss_compiles_to_one_graph() -> None:
    for loss in OF_LOGITS.values():
        checks.check_compiles(loss, LOGITS.float())
    checks.check_compiles(zero_shot_generator_loss, STUDENT.float(), LOGITS.float())
    checks.check_compiles(activation_loss, MAPS.float())
    checks.check_compiles(total_variation_loss, MAPS.float())
    layer = layer_of(MAPS[:3].float())
    checks.check_compiles(lambda x: batchnorm_statistics_loss(x, layer), MAPS.float())


def test_images_are_drawn_from_a_teacher_that_never_shows_its_own() -> None:
    """Two Gaussian classes; from noise, the losses make inputs that the teacher takes for both, where its data were."""
    torch.manual_seed(3)
    y = torch.arange(400) % 2
    data = torch.randn(400, 3) * torch.tensor([0.5, 1.0, 2.0]) + torch.stack([y * 4.0, 5 + 0 * y, -3 + 0 * y], dim=1)
    norm, head = nn.BatchNorm1d(3, momentum=1.0), nn.Linear(3, 2)
    optimizer = torch.optim.Adam([*norm.parameters(), *head.parameters()], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(head(norm(data)), y).backward()
        optimizer.step()
    teacher = nn.Sequential(norm, head).eval().requires_grad_(False)
    made = torch.randn(64, 3, requires_grad=True)
    optimizer = torch.optim.Adam([made], lr=0.1)
    first = batchnorm_statistics_loss(made, norm).item()
    for _ in range(300):
        optimizer.zero_grad()
        z = teacher(made)
        (one_hot_loss(z) + 5 * information_entropy_loss(z) + batchnorm_statistics_loss(made, norm)).backward()
        optimizer.step()
    assert one_hot_loss(teacher(made)) < 0.2
    assert information_entropy_loss(teacher(made)) < 0.99 * -math.log(2)
    assert batchnorm_statistics_loss(made, norm) < first / 20
    assert (made.mean(dim=0) - data.mean(dim=0)).abs().max() < 0.1


def test_the_generator_of_zskt_looks_where_the_student_is_wrong() -> None:
    """Left of zero student and teacher agree; a point that starts near it moves right, to where they differ most."""
    point = torch.tensor([[0.1]], requires_grad=True)
    optimizer = torch.optim.Adam([point], lr=0.02)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        student, teacher = torch.cat([point, -point], 1), torch.cat([point + F.relu(2 * point), -point], 1)
        loss = zero_shot_generator_loss(student, teacher)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 10 * losses[0] < 0
    grid = torch.linspace(-3, 3, 601)[:, None]
    pairs = zip(torch.cat([grid, -grid], 1), torch.cat([grid + F.relu(2 * grid), -grid], 1), strict=True)
    best = min(
        (zero_shot_generator_loss(s[None], t[None]).item(), x) for x, (s, t) in zip(grid.flatten(), pairs, strict=True)
    )
    assert point.item() == pytest.approx(best[1].item(), abs=0.05)
