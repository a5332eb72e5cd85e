"""The map of the balance between labels and teacher."""

import pandas as pd
import pytest

from kdref.lab import widgets

VIEW = "application/vnd.jupyter.widget-view+json"

MEANS = {(0, 1): 0.6, (0.5, 1): 0.61, (0.5, 4): 0.7, (1, 1): 0.62, (1, 4): 0.65}
RUNS = pd.DataFrame(
    [(f"{w:g} | {t:g}", seed, mean + 0.004 * (seed % 2) * w) for (w, t), mean in MEANS.items() for seed in range(8)],
    columns=["arm", "seed", "accuracy"],
)


def test_balance_grid_has_the_means_and_one_value_for_weight_zero() -> None:
    grid = widgets.balance_grid(RUNS)
    assert (list(grid.index), list(grid.columns)) == (["0", "0.5", "1"], ["1", "4"])
    assert grid.loc["0"].tolist() == pytest.approx([0.6, 0.6])
    assert grid.loc["0.5"].tolist() == pytest.approx([0.611, 0.701])


def test_choosing_a_cell_moves_the_mark_and_the_words() -> None:
    weight, temperature, chart, line = widgets.balance_explorer(RUNS).children
    weight.value, temperature.value = 0.5, 4.0
    best = bytes(chart.value)
    assert best.startswith(b"\x89PNG")
    # differences of 10.0 and 10.2 points by turns: the half width is 2.365 * 0.107 / sqrt(8) = 0.09 points
    assert (
        line.value
        == "soft weight 0.5, τ = 4: accuracy 70.1 %, +10.1 [+10.0, +10.2] points against labels alone (8 seeds)"
    )
    temperature.value = 1.0
    assert "τ = 1: accuracy 61.1 %, +1.1 [+1.0, +1.2] points" in line.value
    assert bytes(chart.value) != best
    weight.value = 0.0
    assert (
        line.value
        == "soft weight 0, τ = 1: accuracy 60.0 %, from labels alone; the temperature means nothing here (8 seeds)"
    )
    weight.value, temperature.value = 0.5, 4.0
    assert bytes(chart.value) == best


def test_balance_explorer_shows_the_same_words_everywhere() -> None:
    bundle, _ = widgets.balance_explorer(RUNS)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Loss-balance explorer: run this cell")
    assert set(bundle) == {"text/plain", "image/png", VIEW}


def test_balance_explorer_refuses_a_grid_with_holes() -> None:
    with pytest.raises(ValueError, match="missing: weight 0"):
        widgets.balance_explorer(RUNS[RUNS["arm"] != "0 | 1"])
    with pytest.raises(ValueError, match=r"missing: \[\(1.0, 4.0\)\]"):
        widgets.balance_explorer(RUNS[RUNS["arm"] != "1 | 4"])
