"""Lesson 18's table of all losses: one arm for each method and mode, marks from all seeds, and what carries over."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from kdref.lab.experiments import choose_side_by_side
from kdref.lab.experiments._choose_grids import Climb
from kdref.lab.experiments.choose_side_by_side import (
    STUDENTS,
    all_tables,
    carried_over,
    columns,
    ends,
    figure,
    fitted,
    helping,
    kinds,
    longer,
    runs,
    settings,
    verdicts_of,
)
from kdref.lab.experiments.choose_tuning import Choice, Search

GAINS = {  # over cross-entropy's 60 %, by group of seeds
    "cross-entropy | alone": (0, 0, 0),
    "soft targets | alone": (5, 5, 5),
    "label smoothing | alone": (-2, -2, -2),
    "hint (FitNets) | alone": (3, 3, 0),
    "hint (FitNets) | with soft targets": (9, 9, 9),
    "similarity (SP) | alone": (3, 0, 0),
}
SCALES = {"cnn1d-8": 1, "mlp-100x100": 0, "cnn2d-8": -1}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds a group, for all students; the gains are those of cnn1d-8, and the other way round for cnn2d-8."""

    def load(name: str) -> pd.DataFrame:
        students = {"choose_signals": ("cnn1d-8", "mlp-100x100"), "choose_images": ("cnn2d-8",)}[name]
        rows = [
            {
                "arm": f"{student} | {arm}",
                "seed": 1000 * group + seed,
                "accuracy": 0.6 + SCALES[student] * gain / 100 + seed / 1e4,
            }
            for student in students
            for arm, gains in GAINS.items()
            for group, gain in enumerate(gains)
            for seed in (0, 1)
        ]
        return pd.DataFrame(rows)

    monkeypatch.setattr(choose_side_by_side, "load", load)


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
    left, middle, right = drawn.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == list(kinds())[1:]
    assert left.get_xlabel() == "points against cross-entropy"
    titles = [ax.get_title(loc="left") for ax in (left, middle, right)]
    assert titles == [f"{student}\n{setting}" for student, setting in STUDENTS.items()]
    assert titles[1:] == ["mlp-100x100\nsignals, cross family", "cnn2d-8\nimages, same family"]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["soft targets", "alone", "with soft targets"]
    places = {container.lines[0].get_xydata()[0].round(2).tolist()[0]: container for container in left.containers}
    assert set(places) == {5.0, -2.0, 2.0, 9.0, 1.0}
    y = places[9.0].lines[0].get_ydata()[0]
    assert names[round(y)] == "hint (FitNets)"
    plt.close(drawn)


@pytest.mark.usefixtures("stored")
def test_the_page_gets_a_line_per_loss_and_a_column_per_student_and_mode() -> None:
    head, rule, *lines = all_tables().splitlines()
    assert {line.count("|") for line in (head, rule, *lines)} == {9}
    assert len(lines) == len(kinds())
    assert "| soft targets | logits | 65.0 % ↑/= | - | 60.0 % ·/= | - | 55.0 % ↓/= | - |" in lines


@pytest.mark.usefixtures("stored")
def test_in_how_many_settings_a_loss_helps_is_counted_where_it_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "cnn1d-8": {"logit matching": "helps", "similarity (SP), alone": "helps", "attention (AT), alone": "undecided"},
        "mlp-100x100": {"logit matching": "hurts", "similarity (SP), alone": "helps"},
        "cnn2d-8": {"logit matching": "hurts", "similarity (SP), alone": "helps", "attention (AT), alone": "helps"},
    }
    monkeypatch.setattr(choose_side_by_side, "verdicts_of", lambda student, baseline: said[student])
    found = helping()
    assert list(found.columns) == ["helps", "hurts", "settings", *STUDENTS]
    assert list(found.index) == ["similarity (SP), alone", "attention (AT), alone", "logit matching"]
    assert found.loc["similarity (SP), alone"].tolist() == [3, 0, 3, "helps", "helps", "helps"]
    assert found.loc["attention (AT), alone"].tolist() == [1, 0, 2, "undecided", "-", "helps"]
    assert found.loc["logit matching"].tolist() == [1, 2, 3, "helps", "hurts", "hurts"]


def test_baselines_that_learned_longer_stand_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"arm": f"{student} | {name} | alone", "seed": seed, "accuracy": 0.5}
        for student in STUDENTS
        for name in ("cross-entropy", "soft targets")
        for seed in (0, 1)
    ]
    loaded = []
    monkeypatch.setattr(choose_side_by_side, "load", lambda name: loaded.append(name) or pd.DataFrame(rows))
    found = longer("mlp-100x100")
    assert loaded == ["choose_longer", "choose_signals"]
    both = ["cross-entropy", "soft targets"]
    assert found["arm"].unique().tolist() == [*both, *(f"{name}, longer" for name in both)]
    assert len(found) == 2 * 4


@pytest.mark.usefixtures("stored")
def test_a_ranking_carries_over_or_turns_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCALES, "mlp-100x100", 0.5)
    found = carried_over()
    assert list(found.index) == ["cnn1d-8 and mlp-100x100", "cnn1d-8 and cnn2d-8", "mlp-100x100 and cnn2d-8"]
    assert found["arms"].tolist() == [5, 5, 5]
    assert found["correlation"].tolist() == pytest.approx([1, -1, -1])


def test_where_the_chosen_settings_lie_is_counted_for_each_student(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"logit matching": ("inside", "border"), "similarity (SP)": ("flat",), "correlation (CC)": ("end",)}

    def searched(pair: object, means: object) -> Search:
        found = places.get(pair.name, ("inside",))  # type: ignore[attr-defined]
        return Search((), tuple(Climb((), 1.0, where) for where in found), Choice(1.0, 0.0))

    monkeypatch.setattr(choose_side_by_side, "searched", searched)
    found = ends()
    assert found.loc["mlp-100x100"].to_dict() == {
        "inside": 25,
        "flat": 2,
        "border": 1,
        "end": 2,
    }  # of 29 arms, one has two
    assert found.loc["all"].to_dict() == {"inside": 39 + 25 + 39, "flat": 6, "border": 3, "end": 6}


def test_budget_and_choices_are_read_from_the_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"arm": f"{student} | cross-entropy | alone | 0 | {decay}", "training_accuracy": share}
        for student in STUDENTS
        for decay, share in (("0", 0.9), ("0", 1.0), ("0.1", 0.5))
    ]
    monkeypatch.setattr(choose_side_by_side, "load", lambda _: pd.DataFrame(rows))
    assert fitted() == pytest.approx(dict.fromkeys(STUDENTS, 0.95))
    monkeypatch.setattr(choose_side_by_side, "chosen", lambda pair: Choice(len(pair.name), 0.1))
    found = settings("mlp-100x100")
    assert len(found) == 29
    assert found.loc["similarity (SP), with soft targets"].tolist() == [15, 0.1]
