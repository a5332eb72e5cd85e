"""Losses of data-free distillation at the extremes, and what they say of bad input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kdref.transfer_data import (
    activation_loss,
    batchnorm_statistics_loss,
    total_variation_loss,
    zero_shot_generator_loss,
)
from tests import checks
from tests.heart.transfer_data.test_data_free import LOGITS, MAPS, OF_LOGITS, STUDENT


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_input_stays_finite(scale: float) -> None:
    rows, others = (x / x.abs().max() * scale for x in (LOGITS, STUDENT))
    for z in (rows, rows * 0, rows[:1].expand_as(rows), rows[:1]):
        for loss in OF_LOGITS.values():
            checks.check_extremes(loss, z)
        for other in (others, others * 0, rows):
            checks.check_extremes(zero_shot_generator_loss, z, other[: len(z)])
            checks.check_extremes(lambda t, s: zero_shot_generator_loss(s, t), z, other[: len(z)])
    maps = MAPS / MAPS.abs().max() * min(scale, 100.0)
    layer = nn.BatchNorm2d(3)
    for x in (maps, maps * 0, maps[:1].expand_as(maps), maps[:1]):
        checks.check_extremes(activation_loss, x)
        checks.check_extremes(total_variation_loss, x)
        checks.check_extremes(lambda z: batchnorm_statistics_loss(z, layer), x)
    same = torch.ones(2, 3, 2, 2, requires_grad=True)  # exactly the running statistics: the norm's kink
    still = nn.BatchNorm2d(3)
    still.running_mean.fill_(1.0)
    still.running_var.zero_()
    batchnorm_statistics_loss(same, still).backward()
    assert torch.equal(same.grad, torch.zeros_like(same))


@pytest.mark.parametrize("name", OF_LOGITS)
def test_bad_logits_are_named(name: str) -> None:
    loss = OF_LOGITS[name]
    for bad, error, message in (
        ([[1.0, 2.0]], TypeError, r"logits must be a tensor, got list: use torch\.as_tensor"),
        (torch.ones(2, 3).long(), TypeError, r"floating point, got torch\.int64: pass raw scores"),
        (torch.ones(3), ValueError, r"logits must be \(\.\.\., C\), not empty, got \(3,\)"),
        (torch.ones(0, 3), ValueError, r"not empty, got \(0, 3\)"),
        (torch.ones(3, 1), ValueError, r"one class can only be right, got shape \(3, 1\)"),
    ):
        with pytest.raises(error, match=message):
            loss(bad)
        for pair in ((bad, torch.ones(2, 3)), (torch.ones(2, 3), bad)):
            with pytest.raises(error, match=message):
                zero_shot_generator_loss(*pair)


def test_bad_input_is_named() -> None:
    layer = nn.BatchNorm2d(3)
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: zero_shot_generator_loss(STUDENT, LOGITS[:5]), ValueError, r"same shape, got \(6, 4\) and \(5, 4\)"),
        (lambda: activation_loss([1.0]), TypeError, "features must be a tensor, got list"),
        (lambda: activation_loss(torch.ones(2).int()), TypeError, r"features must be floating point, got torch\.int32"),
        (lambda: activation_loss(torch.ones(0, 3)), ValueError, r"features must not be empty, got shape \(0, 3\)"),
        (lambda: total_variation_loss(MAPS[0]), ValueError, r"\(B, C, H, W\), 2 × 2 pixels or more, got \(3, 4, 6\)"),
        (lambda: total_variation_loss(MAPS[..., :1]), ValueError, r"2 × 2 pixels or more, got \(5, 3, 4, 1\)"),
        (lambda: total_variation_loss(MAPS.byte()), TypeError, r"images must be floating point, got torch\.uint8"),
        (lambda: batchnorm_statistics_loss(MAPS, nn.LayerNorm(6)), TypeError, "nn.BatchNorm1d, 2d or 3d, got LayerN"),
        (lambda: batchnorm_statistics_loss(MAPS[:, :2], layer), ValueError, r"\(B, 3, \.\.\.\), .*got \(5, 2, 4, 6\)"),
        (lambda: batchnorm_statistics_loss(torch.ones(3), layer), ValueError, r"the layer's channels, got \(3,\)"),
        (
            lambda: batchnorm_statistics_loss(MAPS, nn.BatchNorm2d(3, track_running_stats=False)),
            ValueError,
            "keeps no running statistics",
        ),
        (lambda: batchnorm_statistics_loss(MAPS[:1, :, :1, :1], layer), ValueError, "one value per channel has no var"),
        (lambda: batchnorm_statistics_loss("x", layer), TypeError, "layer_input must be a tensor, got str"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()
