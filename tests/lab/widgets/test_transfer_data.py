"""The MUNGE explorer follows its two sliders, in its picture and in words."""

import pytest
import torch
from torch import Tensor

from kdref.lab.widgets.transfer_data import astray, made_explorer, made_figure, made_of
from tests import checks

POINTS = torch.stack([torch.arange(5.0), torch.arange(5.0)], dim=1)  # neighbours are √2 apart
ALONE = torch.tensor([[0.0, 4.0], [4.0, 0.0], [1.0, 1.0], [2.0, 2.5]])


def make(
    points: Tensor, *, copies: int, swap_probability: float, local_variance: float, generator: torch.Generator
) -> Tensor:
    assert (copies, generator.initial_seed()) == (5, 1)
    return points + torch.tensor([3 * swap_probability, -local_variance])


def test_the_share_astray_is_counted_from_the_widest_gap() -> None:
    assert astray(POINTS, POINTS) == 0
    assert astray(ALONE, POINTS) == 0.5  # two corners are 2.83 from the middle
    assert astray(POINTS + 1.0, POINTS) == 0  # the last one is √2 away, just as far as neighbours are


def test_sliders_move_the_picture_and_the_words() -> None:
    panel = made_explorer(POINTS, make, ALONE)
    swap, variance, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (swap.value, variance.value) == (0.5, 1.0)
    # moved by (1.5, -1): the nearest example of (1.5, -1) is (0, 0), 1.8 away; the others are nearer
    assert line.value.endswith("of attributes drawn alone 50 %")
    assert line.value.startswith("p = 0.5, s = 1: ")
    checks.check_sliders_answer(panel, {0: 1.0, 1: 4.0})


def test_the_static_figure_shows_all_three_on_one_scale() -> None:
    figure = made_figure(POINTS, make, ALONE, swap_probability=1.0, local_variance=0.5)
    axes = figure.axes
    assert [ax.get_title(loc="left") for ax in axes] == ["5 examples", "MUNGE", "each attribute alone"]
    shown = [ax.collections[-1].get_offsets() for ax in axes]
    for found, expected in zip(
        shown, (POINTS, made_of(POINTS, make, swap_probability=1.0, local_variance=0.5), ALONE), strict=True
    ):
        assert torch.equal(torch.as_tensor(found), expected.to(torch.as_tensor(found).dtype))
    assert {ax.get_xlim() for ax in axes} == {axes[0].get_xlim()}
    for ax in axes[1:]:
        assert ax.collections[0].get_offsets().tolist() == POINTS.tolist()  # in grey, behind


def test_shows_the_same_words_everywhere_and_refuses_what_can_not_be_drawn() -> None:
    bundle, _ = made_explorer(POINTS, make, ALONE)._repr_mimebundle_()
    assert bundle["text/plain"] == "MUNGE explorer: run this cell, then move p and s."
    with pytest.raises(ValueError, match=r"points must be \(N, 2\), to be drawn, got \(5,\)"):
        made_explorer(torch.arange(5.0), make, ALONE)
