"""The levels explorer splits the error as the definition says, in picture and words."""

import pytest
import torch

from kdref.lab.widgets.quantization import SHARES, START, errors, levels_explorer, levels_figure
from kdref.quantization import calibrated_scale, fake_quantize
from tests import checks

WEIGHTS = checks.randn(40, 50, seed=1, scale=0.1, dtype=torch.float32)


def test_known_errors() -> None:
    # 2 bits reach -2 and 1 steps; the largest is 1. With a step of ½, 1 is clipped by ½ and -0.3 rounded by 0.2
    found = errors(fake_quantize, torch.tensor([1.0, -0.3, 0.0]), bits=2, share=0.5)
    assert found.clipping == pytest.approx(0.25 / 1.09)
    assert found.rounding == pytest.approx(0.04 / 1.09)
    assert found.total == pytest.approx(0.29 / 1.09)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_both_parts_make_the_error_and_nothing_is_clipped_at_the_largest(bits: int) -> None:
    largest = calibrated_scale(WEIGHTS, bits=bits)
    for share in (0.1, 0.4, 1.2):
        rounded = fake_quantize(WEIGHTS, share * largest, bits=bits)
        expected = ((rounded - WEIGHTS).square().sum() / WEIGHTS.square().sum()).item()
        assert errors(fake_quantize, WEIGHTS, bits=bits, share=share).total == pytest.approx(expected, rel=1e-5)
    assert errors(fake_quantize, WEIGHTS, bits=bits, share=1.0001).clipping == 0
    fine = [errors(fake_quantize, WEIGHTS, bits=bits, share=share) for share in (0.3, 0.6, 1.0)]
    assert fine[0].rounding < fine[1].rounding < fine[2].rounding
    assert fine[0].clipping > fine[1].clipping >= fine[2].clipping


def test_the_shares_have_room_below_the_best_one_and_above_the_largest() -> None:
    assert SHARES[0] == pytest.approx(0.02)
    assert SHARES[-1] == pytest.approx(1.2)
    for bits in (2, 3, 4, 8):
        totals = [errors(fake_quantize, WEIGHTS, bits=bits, share=share).total for share in SHARES]
        assert 0 < totals.index(min(totals)) < len(SHARES) - 1


def test_sliders_move_the_picture_and_the_words() -> None:
    panel = levels_explorer(fake_quantize, WEIGHTS)
    bits, share, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (bits.value, share.value) == START
    assert line.value.startswith("3 bits, 8 levels · 0.0 % of the weights clipped · error: rounding ")
    assert "+ clipping 0 % =" in line.value
    share.value = 0.3
    relative = WEIGHTS / WEIGHTS.abs().max()
    clipped = ((relative > 0.3) | (relative < -0.4)).float().mean().item()
    assert f"{100 * clipped:.1f} % of the weights clipped" in line.value
    bits.value = 8
    assert line.value.startswith("8 bits, 256 levels")
    checks.check_sliders_answer(levels_explorer(fake_quantize, WEIGHTS), {0: 4, 1: 0.5})


def test_the_static_figure_draws_levels_clip_and_errors() -> None:
    histogram, curves = levels_figure(fake_quantize, WEIGHTS.reshape(-1, 4), bits=3, share=0.5).axes
    step = 0.5 * WEIGHTS.abs().max().item() / 3
    places = [segment[0][0] for segment in histogram.collections[0].get_segments()]
    assert places == pytest.approx([k * step for k in range(-4, 4)])
    total, rounding, clipping, chosen = curves.lines
    sums = [a + b for a, b in zip(rounding.get_ydata(), clipping.get_ydata(), strict=True)]
    assert list(total.get_ydata()) == pytest.approx(sums)
    assert list(total.get_xdata()) == pytest.approx(list(SHARES))
    assert float(chosen.get_xdata()[0]) == 0.5
    assert float(chosen.get_ydata()[0]) == pytest.approx(errors(fake_quantize, WEIGHTS, bits=3, share=0.5).total)


def test_weights_that_are_all_zero_are_refused() -> None:
    for weights in (torch.zeros(3), torch.empty(0)):
        with pytest.raises(ValueError, match="weights must not all be zero, got shape"):
            levels_explorer(fake_quantize, weights)


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = levels_explorer(fake_quantize, WEIGHTS)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Levels explorer: run this cell, then choose")
