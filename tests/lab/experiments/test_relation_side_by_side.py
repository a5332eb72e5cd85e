"""The table of all losses: one arm for each method and mode, and marks from all seeds at once."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from kdref.lab.experiments import relation_side_by_side
from kdref.lab.experiments.relation_side_by_side import both_tables, columns, figure, kinds, runs, verdicts_of

GAINS = {  # over cross-entropy's 60 %, by group of seeds
    "cross-entropy | alone": (0, 0, 0),
    "soft targets | alone": (5, 5, 5),
    "label smoothing | alone": (-2, -2, -2),
    "hint (FitNets) | alone": (3, 3, 0),
    "hint (FitNets) | with soft targets": (9, 9, 9),
    "similarity (SP) | alone": (3, 0, 0),
}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds a group, for both students; the gains are those of cnn1d-8."""

    def load(name: str) -> pd.DataFrame:
        assert name == "relation_few_labels"
        rows = [
            {
                "arm": f"{student} | {arm}",
                "seed": 1000 * group + seed,
                "accuracy": 0.6 + scale * gain / 100 + seed / 1e4,
            }
            for student, scale in (("cnn1d-8", 1), ("mlp-100x100", 0))
            for arm, gains in GAINS.items()
            for group, gain in enumerate(gains)
            for seed in (0, 1)
        ]
        return pd.DataFrame(rows)

    monkeypatch.setattr(relation_side_by_side, "load", load)


@pytest.mark.usefixtures("stored")
def test_runs_of_one_student_are_paired_by_seed() -> None:
    found = runs("cnn1d-8")
    assert sorted(found["arm"].unique()) == [
        "cross-entropy",
        "hint (FitNets), alone",
        "hint (FitNets), with soft targets",
        "label smoothing",
        "similarity (SP), alone",
        "soft targets",
    ]
    assert (found.groupby("arm")["seed"].apply(sorted).map(tuple) == (0, 1, 1000, 1001, 2000, 2001)).all()


@pytest.mark.usefixtures("stored")
def test_a_mark_is_the_verdict_over_all_seeds() -> None:
    table = columns("cnn1d-8")
    assert table.loc["soft targets", "alone"] == "65.0 % ↑/="
    assert table.loc["cross-entropy", "alone"] == "60.0 % =/↓"
    assert table.loc["label smoothing", "alone"] == "58.0 % ↓/↓"
    assert table.loc["hint (FitNets)"].tolist() == ["62.0 % ↑/↓", "69.0 % ↑/↑"]
    assert table.loc["similarity (SP)"].tolist() == ["61.0 % ·/↓", "-"]
    assert table.loc["correlation (CC)"].tolist() == ["-", "-"]  # never run


def test_every_loss_has_its_kind() -> None:
    assert len(kinds()) == 11 + 10 + 6
    assert kinds()["soft targets"] == "logits"
    assert kinds()["attention (AT)"] == "attention"


@pytest.mark.usefixtures("stored")
def test_a_verdict_is_that_of_all_seeds_though_one_group_is_undecided() -> None:
    found = verdicts_of("cnn1d-8", "cross-entropy")
    assert found["soft targets"] == "helps"
    assert found["label smoothing"] == "hurts"
    assert found["hint (FitNets), alone"] == "helps"  # 3, 3 and 0 points in the groups
    assert found["similarity (SP), alone"] == "undecided"  # 3, 0 and 0


@pytest.mark.usefixtures("stored")
def test_groups_that_contradict_each_other_give_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GAINS, "similarity (SP) | alone", (3, -3, 3))
    with pytest.raises(ValueError, match="opposite"):
        verdicts_of("cnn1d-8", "cross-entropy")


@pytest.mark.usefixtures("stored")
def test_the_figure_shows_every_loss_and_each_arm_where_it_belongs() -> None:
    drawn = figure()
    left, right = drawn.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == list(kinds())[1:]
    assert (left.get_title(loc="left"), left.get_xlabel()) == ("cnn1d-8, same family", "points against cross-entropy")
    assert right.get_title(loc="left") == "mlp-100x100, cross family"
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["soft targets", "alone", "with soft targets"]
    places = {container.lines[0].get_xydata()[0].round(2).tolist()[0]: container for container in left.containers}
    assert set(places) == {5.0, -2.0, 2.0, 9.0, 1.0}
    y = places[9.0].lines[0].get_ydata()[0]
    assert names[round(y)] == "hint (FitNets)"
    plt.close(drawn)


@pytest.mark.usefixtures("stored")
def test_the_readme_gets_a_line_per_loss_and_a_column_per_student_and_mode() -> None:
    head, rule, *lines = both_tables().splitlines()
    assert {line.count("|") for line in (head, rule, *lines)} == {7}
    assert len(lines) == len(kinds())
    assert "| soft targets | logits | 65.0 % ↑/= | - | 60.0 % ·/= | - |" in lines
