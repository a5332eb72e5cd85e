"""Figures as lessons draw them: what stands where, in colours and marks that everyone can tell apart."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from scipy import stats

from kdref.lab import report
from kdref.lab.report import style

RESULT = pd.DataFrame(
    {
        "mean": [0.663, 0.705, 0.66],
        "difference": [0.0, 0.042, -0.003],
        "low": [0.0, 0.038, -0.009],
        "high": [0.0, 0.046, 0.0004],
        "seeds": [8, 8, 8],
        "verdict": ["baseline", "helps", "no useful difference"],
    },
    index=["labels only", "soft targets", "smoothing"],
)


@pytest.fixture
def test_matrix_writes_every_value_that_does_not_round_to_zero() -> None:
    values = np.array([[0.9, 0.1], [0.004, 1.0]])
    left, right = report.matrix({"all": values, "off": torch.from_numpy(values)}, diagonal=False, class_names="ab").axes
    assert [text.get_text() for text in right.texts] == [".10"]
    assert [text.get_text() for text in report.matrix({"all": values}).axes[0].texts] == [".90", ".10", "1.00"]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["a", "b"]
    assert (left.get_title(loc="left"), left.get_ylabel()) == ("all", "true class")
    assert values[0, 0] == 0.9, "the caller's matrix was changed"


def test_curve_draws_the_mean_and_the_interval_over_seeds() -> None:
    rows = [("a", seed, tau, tau + seed) for seed in range(4) for tau in (1.0, 10.0)] + [("b", 0, 1.0, 0.0)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "tau", "score"])
    ax = report.curve(frame, x="tau", y="score", by="arm", log_x=True, levels={"teacher": 5.0}).axes[0]
    first, second, level = ax.get_lines()
    assert first.get_ydata().tolist() == [2.5, 11.5]
    band = ax.collections[0].get_paths()[0].vertices
    half = stats.t.ppf(0.975, 3) * np.std(range(4), ddof=1) / 2
    assert np.isclose(band[:, 1], 2.5 - half).any()
    assert np.isclose(band[:, 1], 11.5 + half).any()
    assert len(ax.collections) == 1, "a single measurement has no band"
    assert first.get_marker() != second.get_marker()
    assert first.get_color() != second.get_color()
    assert level.get_ydata() == [5.0, 5.0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "10"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_curve_of_one_group_needs_no_legend() -> None:
    frame = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    ax = report.curve(frame, x="epoch", y="loss", y_label="loss, nats", percent=True, log_y=True).axes[0]
    assert ax.get_legend() is None
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss, nats", "log")


def test_percent_axis_shows_per_cent_without_needless_decimals() -> None:
    fig = report.bars({"a": [0.5]}, percent=True)
    formatter = fig.axes[0].yaxis.get_major_formatter()
    assert [formatter(value) for value in (0.5, 0.075, 0.07)] == ["50 %", "7.5 %", "7 %"]


def test_intervals_stand_where_the_differences_are() -> None:
    ax = report.intervals(RESULT, margin=0.01).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["soft targets", "smoothing"]
    points = [line.get_xdata() for line in ax.get_lines() if line.get_marker() in style.MARKERS]
    assert np.allclose(np.ravel(points), [4.2, -0.3])
    ends = [collection.get_segments()[0][:, 0] for collection in ax.collections]
    assert np.allclose(ends, [[3.8, 4.6], [-0.9, 0.04]])
    band = ax.patches[0].get_extents().transformed(ax.transData.inverted())
    assert np.allclose((band.x0, band.x1), (-1, 1))


def test_intervals_of_several_comparisons_stand_side_by_side() -> None:
    other = RESULT.assign(difference=[0.0, 0.04, -0.002])
    left, right = report.intervals({"large": RESULT, "small": other}).axes
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("large", "small")
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["soft targets", "smoothing"]
    assert {tick.get_text() for tick in right.get_yticklabels()} == {""}
    points = [line.get_xdata() for line in right.get_lines() if line.get_marker() in style.MARKERS]
    assert np.allclose(np.ravel(points), [4, -0.2])
    with pytest.raises(ValueError, match="need the same arms in the same order"):
        report.intervals({"large": RESULT, "small": RESULT.iloc[::-1]})


def test_grid_writes_every_value_where_it_stands() -> None:
    values = pd.DataFrame([[0.5, 0.6], [0.7, 0.8], [0.75, 0.55]], index=["a", "b", "c"], columns=["1", "2"])
    ax = report.grid(values, x_label="τ", y_label="weight", percent=True).axes[0]
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written[(1, 0)] == "60.0 %"
    assert written[(0, 2)] == "75.0 %"
    assert ax.images[0].get_clim() == (0.5, 0.8)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in report.grid(values, x_label="", y_label="").axes[0].texts][:2] == [
        "0.50",
        "0.60",
    ]


def test_grid_of_differences_is_white_at_zero_and_writes_the_sign() -> None:
    values = pd.DataFrame([[0.1, 0.0], [-0.4, 0.3]], index=["a", "b"], columns=["1", "2"])
    ax = report.grid(values, x_label="", y_label="", differences=True).axes[0]
    image = ax.images[0]
    assert image.get_clim() == (-0.4, 0.4)
    red, _, blue, _ = image.cmap(image.norm(-0.4))
    assert red > blue
    red, _, blue, _ = image.cmap(image.norm(0.4))
    assert blue > red
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.95
    assert [text.get_text() for text in ax.texts] == ["+0.10", "+0.00", "-0.40", "+0.30"]
    assert [text.get_color() for text in ax.texts] == ["black", "black", "white", "white"]
    assert report.grid(values * 0, x_label="", y_label="", differences=True).axes[0].images[0].get_clim() == (-1, 1)


def test_bars_are_told_apart_by_colour_and_hatching() -> None:
    ax = report.bars({"τ = 1": torch.tensor([0.9, 0.1]), "τ = 4": [0.6, 0.4]}, names=["a", "b"]).axes[0]
    assert [patch.get_height() for patch in ax.patches] == pytest.approx([0.9, 0.1, 0.6, 0.4])
    assert len({patch.get_hatch() for patch in ax.patches}) == 2
    assert len({patch.get_facecolor() for patch in ax.patches}) == 2


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 1, 40)])
def test_examples_draw_images_and_signals(shape: tuple[int, ...]) -> None:
    inputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    axes = report.examples(inputs, titles=list("abcde"), columns=3).axes
    assert len(axes) == 6
    drawn = [ax.images[0].get_array() if ax.images else ax.lines[0].get_ydata() for ax in axes[:5]]
    assert np.array_equal(np.stack(drawn), inputs.squeeze(1).numpy())
    assert [ax.get_title() for ax in axes[:5]] == list("abcde")
    assert not axes[5].has_data()


def test_palette_can_be_told_apart_in_grey_or_by_marker() -> None:
    assert len(style.COLORS) == len(style.MARKERS) == len(set(style.MARKERS)) == len(set(style.HATCHES))
    contrast = [
        1.05 / (0.05 + sum(w * c**2.2 for w, c in zip((0.2126, 0.7152, 0.0722), to_rgb(color), strict=True)))
        for color in style.COLORS
    ]
    assert min(contrast) > 2, "too pale for a line on white"


def test_style_ends_with_the_figure() -> None:
    before = dict(plt.rcParams)
    with style.new_figure(2, 2):
        assert plt.rcParams["font.size"] == 12
    assert dict(plt.rcParams) == before
