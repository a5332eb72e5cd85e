"""Figures, tables and verdicts: what is drawn is what was measured, and what is displayed is the same everywhere."""

import io
from typing import Any

import IPython.display
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from kdref.lab import report

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
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What was displayed: MIME type to content, and the metadata."""
    bundles: list[tuple[dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, metadata, raw: bundles.append((bundle, metadata)))
    return bundles


def cells(bundle: dict[str, Any]) -> list[list[str]]:
    lines = [line for line in bundle["text/markdown"].split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


# Display --------------------------------------------------------------------------------------------------------------


def test_figure_comes_with_its_alternative_text_and_a_size(shown: list[Any]) -> None:
    report.figure(report.bars({"a": [1.0, 2.0]}), "two bars, the second one higher")
    (picture, about), (caption, _) = shown
    assert picture["text/plain"] == caption["text/plain"] == "Figure: two bars, the second one higher"
    assert caption["text/markdown"] == "*Figure: two bars, the second one higher*"
    assert about["image/png"] == {"alt": "two bars, the second one higher", "width": 768, "height": 365}
    assert Image.open(io.BytesIO(picture["image/png"])).format == "PNG"


def test_figure_is_closed_so_that_it_is_not_shown_twice(shown: list[Any]) -> None:
    fig = plt.figure()
    report.figure(fig, "an empty figure made by pyplot")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("alt", ["", "loss curve"])
def test_figure_demands_alternative_text(alt: str) -> None:
    with pytest.raises(ValueError, match="must say what the figure shows"):
        report.figure(Figure(), alt)


def test_png_is_small_and_looks_like_the_figure() -> None:
    fig = report.matrix({"a": torch.rand(10, 10, generator=torch.Generator().manual_seed(0))})
    small, raw = report.png(fig), io.BytesIO()
    fig.savefig(raw, format="png", dpi=144)
    assert len(small) < 0.6 * len(raw.getvalue())
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float) for data in (small, raw.getvalue())]
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.5
    assert report.png(fig) == small


def test_table_formats_numbers_and_aligns_them(shown: list[Any]) -> None:
    frame = pd.DataFrame(
        {
            "accuracy": [0.7049, float("nan"), -0.0001],
            "loss": [1.23456, -0.0001, 0],
            "seeds": [8, 9, 10],
            "note": ["a|b", "", "c"],
        }
    )
    report.table(
        frame.set_index(pd.Index(["one", "two", "three"], name="arm")), caption="What came out", percent=["accuracy"]
    )
    text = shown[0][0]["text/markdown"]
    assert text.startswith("**What came out**\n\n| arm | accuracy |")
    assert text == shown[0][0]["text/plain"]
    assert cells(shown[0][0])[1:] == [
        [":---", "---:", "---:", "---:", ":---"],
        ["one", "70.5 %", "1.235", "8", "a\\|b"],
        ["two", "-", "0.000", "9", ""],
        ["three", "0.0 %", "0.000", "10", "c"],
    ]


def test_table_hides_an_index_that_only_counts(shown: list[Any]) -> None:
    report.table(pd.DataFrame({"a": [1]}))
    assert cells(shown[0][0]) == [["a"], ["---:"], ["1"]]


def test_table_refuses_an_unknown_column() -> None:
    with pytest.raises(ValueError, match=r"no columns \['b'\] .* there are \['a'\]"):
        report.table(pd.DataFrame({"a": [1]}), percent=["b"])


def test_comparison_shows_points_and_leaves_the_baseline_without_a_difference(shown: list[Any]) -> None:
    report.comparison(RESULT)
    assert cells(shown[0][0]) == [
        ["arm", "accuracy", "difference, points [95 % interval]", "seeds", "verdict"],
        [":---", "---:", ":---", "---:", ":---"],
        ["labels only", "66.3 %", "", "8", "baseline"],
        ["soft targets", "70.5 %", "+4.2 [+3.8, +4.6]", "8", "helps"],
        ["smoothing", "66.0 %", "-0.3 [-0.9, +0.0]", "8", "no useful difference"],
    ]


def test_comparison_of_a_loss_is_not_in_per_cent(shown: list[Any]) -> None:
    report.comparison(RESULT, metric="nll", percent=False)
    assert cells(shown[0][0])[3][1:3] == ["0.705", "+0.042 [+0.038, +0.046]"]


def test_interval_and_verdict_are_words() -> None:
    assert report.interval(0.705, 0.701, 0.709) == "70.5 % [70.1, 70.9]"
    assert report.interval(-0.00001, -1, 1, percent=False) == "0.000 [-1.000, 1.000]"
    assert report.verdict(RESULT, "smoothing") == "smoothing: no useful difference"


@pytest.mark.parametrize(("caption", "expected"), [("Results", "**Results; "), (None, "**")])
def test_comparison_says_where_intervals_are_widened(caption: str | None, expected: str, shown: list[Any]) -> None:
    report.comparison(RESULT.assign(comparisons=7), caption=caption)
    text = shown[0][0]["text/markdown"]
    assert text.startswith(f"{expected}intervals widened for 7 comparisons**\n")
    report.comparison(RESULT.assign(comparisons=1))
    assert shown[1][0]["text/markdown"].startswith("| arm |")
    label = report.intervals(RESULT.assign(comparisons=7), x_label="points").axes[0].get_xlabel()
    assert label == "points\nintervals widened for 7 comparisons"
    assert report.intervals(RESULT.assign(comparisons=1), x_label="points").axes[0].get_xlabel() == "points"


GROUPS = ["seeds 0 to 7", "seeds 1000 to 1007", "seeds 2000 to 2007"]


def grouped(**gains: tuple[float, ...]) -> pd.DataFrame:
    """Runs whose gains over the baseline are given by group of eight seeds, in points; within one they differ a bit."""
    rows = [("plain", 1000 * group + seed, 0.5) for group in range(3) for seed in range(8)]
    for arm, by_group in gains.items():
        for group, gain in enumerate(by_group):
            rows += [(arm, 1000 * group + seed, 0.5 + gain / 100 + 0.01 * (-1) ** seed) for seed in range(8)]
    return pd.DataFrame(rows, columns=["arm", "seed", "accuracy"])


def test_the_verdict_is_over_all_seeds_and_the_groups_stand_beside_it() -> None:
    # half an interval: t · 0.01 · sqrt(8/7)/sqrt(8) = 0.89 points for a group of eight (t 2.36); for all 24, a small
    # gain of 0.7 points in each, 2.07 · 0.0102/sqrt(24) = 0.43 points
    found = report.verdicts(grouped(good=(5, 5, 5), small=(0.7, 0.7, 0.7), bad=(-4, -4, 0)), baseline="plain")
    assert list(found.columns) == [*GROUPS, "all seeds"]
    assert found.T.to_dict("list") == {
        "good": ["helps"] * 4,
        "small": [*["undecided"] * 3, "helps"],
        "bad": ["hurts", "hurts", "no useful difference", "hurts"],
    }
    counted = {"good": "helps ×3", "small": "undecided ×3", "bad": "hurts ×2, no useful difference"}
    assert report.tally(found).to_dict() == counted
    lower = report.verdicts(grouped(good=(5, 5, 5)), baseline="plain", higher_is_better=False)
    assert lower.loc["good"].tolist() == ["hurts"] * 4


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ((5, 0, -5), r"helps for seeds 0 to 7 and hurts for seeds 2000 to 2007\. The opposite"),
        ((5, 5, -2), r"helps for seeds 0 to 7, seeds 1000 to 1007, all seeds and hurts for seeds 2000 to 2007\."),
        ((-5, -5, 2), r"helps for seeds 2000 to 2007 and hurts for seeds 0 to 7, seeds 1000 to 1007, all seeds\."),
    ],
)
def test_groups_that_say_the_opposite_are_refused_by_name(gains: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"'torn' against 'plain', accuracy: {message}"):
        report.verdicts(grouped(good=(5, 5, 5), torn=gains), baseline="plain")


def test_of_many_arms_one_group_may_say_the_opposite_by_luck() -> None:
    many = {f"arm {i}": (0.0, 0.0, 0.0) for i in range(9)}  # with ten arms half an interval is 1.5 points, alone 0.9
    found = report.verdicts(grouped(torn=(1.2, 0, -1.2), **many), baseline="plain")
    assert found.loc["torn"].tolist() == ["helps", "no useful difference", "hurts", "no useful difference"]
    with pytest.raises(ValueError, match="'torn' against 'plain'"):
        report.verdicts(grouped(torn=(2, 0, -2), **many), baseline="plain")


def test_the_verdict_over_all_seeds_is_that_of_compare_with_many_arms() -> None:
    runs = grouped(small=(0.5, 0.5, 0.5), **{f"arm {i}": (0.0, 0.0, 0.0) for i in range(9)})
    assert report.verdicts(runs, baseline="plain").loc["small", "all seeds"] == "undecided"  # half: 0.63 points
    few = runs[runs["arm"].isin(["plain", "small"])]
    assert report.verdicts(few, baseline="plain").loc["small", "all seeds"] == "helps"
