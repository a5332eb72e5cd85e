"""The budget explorer says and draws what the published law gives, for each size, budget and payer."""

import pytest

from kdref.lab.experiments._scaling_splits import PAYERS, alone, best_split
from kdref.lab.widgets.scaling import EXPONENTS, SIZES, START, budget_explorer, budget_figure

STORED, *_, OWN = PAYERS


def test_controls_move_the_picture_and_the_words() -> None:
    panel = budget_explorer()
    size, budget, payer, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (size.value, budget.value) == START
    assert payer.value == STORED
    assert line.value == "alone 2.282 nats · taught 2.263, by a teacher of 1.5 billion and 2.08 nats · distil"
    first = bytes(chart.value)
    payer.value = OWN
    assert line.value.endswith("· train")
    assert bytes(chart.value) != first
    payer.value, budget.value = STORED, 22.0
    assert line.value.endswith("· much the same")
    size.value, budget.value, payer.value = "143 million", 19.0, OWN
    assert line.value.startswith("alone 2.757 nats · taught 2.881")


@pytest.mark.parametrize("payer", [STORED, OWN])
def test_the_static_figure_draws_both_curves_and_the_split(payer: str) -> None:
    curves, bars = budget_figure("546 million", 21.0, payer).axes
    learned, taught, marked = curves.lines
    budgets = [10**exponent for exponent in EXPONENTS]
    assert list(learned.get_xdata()) == pytest.approx(budgets)
    assert list(learned.get_ydata()) == pytest.approx([alone(SIZES["546 million"], budget) for budget in budgets])
    splits = [best_split(SIZES["546 million"], budget, payer) for budget in budgets]
    assert list(taught.get_ydata()) == pytest.approx([split.loss for split in splits if split])
    assert float(marked.get_xdata()[0]) == 1e21
    best = best_split(SIZES["546 million"], 1e21, payer)
    assert best is not None
    assert [patch.get_height() for patch in bars.patches] == pytest.approx(list(best.shares))
