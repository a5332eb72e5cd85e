"""Flow matrices and neuron selectivity of extreme maps: large, silent, constant, far from zero, under autocast."""

import pytest
import torch
from torch.testing import assert_close

from kdref.feature import fsp_loss, neuron_selectivity_loss
from tests import checks

FIRST, SECOND, OTHER_FIRST = (checks.randn(3, c, 4, 5, seed=seed) for c, seed in ((2, 1), (6, 2), (2, 3)))
SELECTIVITY = {"few places": ((2, 7, 2, 3), (2, 9, 2, 3)), "few channels": ((2, 3, 5, 6), (2, 2, 5, 6))}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("way", SELECTIVITY)
def test_extreme_maps_stay_finite(way: str, scale: float) -> None:
    student, teacher = (checks.randn(*shape, seed=s) for s, shape in enumerate(SELECTIVITY[way]))
    student, teacher = (maps / maps.abs().max() * scale for maps in (student, teacher))
    zeros = torch.zeros_like(student)
    some_zero = student.clone()
    some_zero[:, 0] = 0
    for maps in (student, student[:1], zeros, some_zero, torch.ones_like(student), student[:1].expand_as(student)):
        checks.check_extremes(lambda s, t: neuron_selectivity_loss(s, t), maps, teacher[: len(maps)])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_extreme_flows_stay_finite(scale: float) -> None:
    first, second, other = (m / m.abs().max() * scale for m in (FIRST, SECOND, OTHER_FIRST))
    for maps in (first, first[:1], torch.zeros_like(first), torch.ones_like(first)):
        pair = second[: len(maps)]
        checks.check_extremes(lambda a, b, c: fsp_loss((a, b), (c, b[..., :3, :3])), maps, pair, other[: len(maps)])
    # a fourth power: float16 can't hold the gradient, its value it can
    large = (1e4 * FIRST).bfloat16().requires_grad_()
    fsp_loss((large, large), (OTHER_FIRST, OTHER_FIRST)).backward()
    assert large.grad.isfinite().all()
    assert fsp_loss((large.half(), large.half()), (OTHER_FIRST, OTHER_FIRST)).isfinite()


@pytest.mark.parametrize(
    ("kind", "apart", "of_value", "of_gradient"),
    [
        ("selectivity", 1, 4e-5, 2e-4),
        ("selectivity", 0.01, 0.11, 0.03),
        ("flow", 1, 1e-4, 6e-4),
        ("flow", 0.01, 0.12, 0.08),
    ],
)
def test_far_from_zero_float32_keeps_the_digits_that_the_docstrings_say(
    kind: str, apart: float, of_value: float, of_gradient: float
) -> None:
    maps = [checks.randn(16, 64, 8, 8, seed=seed) + 1000 for seed in range(4)]
    if apart < 1:
        maps[2:] = [m + apart * checks.randn(*m.shape, seed=9 + i) for i, m in enumerate(maps[:2])]
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf, second, *teacher = (m.float().to(dtype) for m in maps)
        leaf.requires_grad_()
        value = (
            fsp_loss((leaf, second), tuple(teacher)) if kind == "flow" else neuron_selectivity_loss(leaf, teacher[0])
        )
        value.backward()
        results.append((value.detach().double(), leaf.grad.double()))
    (value, gradient), (exact, exact_gradient) = results
    assert (value - exact).abs() < of_value * exact
    assert (gradient - exact_gradient).norm() < of_gradient * exact_gradient.norm()


def test_autocast_does_not_round_the_products() -> None:
    maps = [checks.randn(4, 8, 4, 4, seed=seed, dtype=torch.float32) for seed in range(4)]
    for loss in (lambda: neuron_selectivity_loss(*maps[:2]), lambda: fsp_loss((maps[0], maps[1]), (maps[2], maps[3]))):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss()
        assert_close(value, loss())
