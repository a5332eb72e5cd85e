"""Paired seeds and verdicts."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.seeds import compare, replicate


def table(**arms: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "score": value}
            for arm, values in arms.items()
            for seed, value in enumerate(values)
        ]
    )


def train_a_little(seed: int, arm: str) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 3, generator=generator)
    model = nn.Linear(3, 1)
    nn.init.normal_(model.weight, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=float(arm))
    nn.init.zeros_(model.bias)

    def step(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        return {"loss": ((model(batch[0]) - batch[0].sum(-1, keepdim=True)) ** 2).mean()}

    return {"loss": fit(step, model, Batches(x, batch_size=5, seed=seed), optimizer, epochs=3)[-1]["loss"]}


def test_same_seed_same_result_whatever_the_number_of_workers() -> None:
    tables = [replicate(train_a_little, arms=["0.1", "0.01"], seeds=[3, 1, 2], jobs=jobs) for jobs in (1, 2)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert list(tables[0]["seed"]) == [3, 3, 1, 1, 2, 2]
    assert list(tables[0]["arm"]) == ["0.1", "0.01"] * 3


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_every_run_gets_the_seed_and_the_arm_that_its_row_names(jobs: int) -> None:
    result = replicate(lambda s, a: {"used": s, "as": a}, arms=["a", "b"], seeds=[3, 1], jobs=jobs)
    assert result["used"].tolist() == result["seed"].tolist() == [3, 3, 1, 1]
    assert result["as"].tolist() == result["arm"].tolist() == ["a", "b"] * 2


@pytest.mark.parametrize(("runs", "jobs", "workers"), [(3, 64, 3), (3, 2, 2), (2, None, 2)])
def test_no_more_workers_are_started_than_there_are_runs(
    runs: int, jobs: int | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import joblib

    asked = []

    def parallel(*, n_jobs: int, return_as: str):  # type: ignore[no-untyped-def]
        asked.append(n_jobs)
        return lambda tasks: [function(*args, **kwargs) for function, args, kwargs in tasks]

    monkeypatch.setattr(joblib, "Parallel", parallel)
    monkeypatch.setenv("KDREF_JOBS", "64")
    result = replicate(lambda seed, arm: {"used": seed}, arms=["a"], seeds=range(runs), jobs=jobs)
    assert asked == [workers]
    assert result["used"].tolist() == list(range(runs))


def test_workers_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("KDREF_JOBS", "1")
    result = replicate(lambda seed, arm: {"process": float(os.getpid())}, arms=["a"], seeds=[0, 1])
    assert set(result["process"]) == {float(os.getpid())}


def test_the_interval_is_students_t_over_paired_differences() -> None:
    # differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3), t(0.975; 2) = 4.302653
    result = compare(table(base=[10, 20, 30], new=[11, 22, 33]), baseline="base", metric="score")
    half = 4.302652729911275 / math.sqrt(3)
    assert result.loc["new", ["mean", "difference", "low", "high"]].tolist() == pytest.approx(
        [22, 2, 2 - half, 2 + half]
    )
    assert result.loc["new", "seeds"] == 3
    assert result.index.tolist() == ["base", "new"]


def quantile(comparisons: int) -> float:
    """Student's t with two degrees of freedom has a closed form: of a chance of 5 % shared by so many comparisons."""
    inside = 1 - 0.05 / comparisons
    return inside * math.sqrt(2 / (1 - inside**2))


@pytest.mark.parametrize(
    ("arms", "corrected", "comparisons"),
    [(1, None, 1), (5, None, 1), (6, None, 6), (7, None, 7), (2, True, 2), (1, True, 1), (6, False, 1)],
)
def test_intervals_are_widened_for_the_number_of_arms(arms: int, corrected: bool | None, comparisons: int) -> None:
    # differences 1, 2, 3: mean 2, standard error 1/sqrt(3); all arms are alike, and the baseline is not one of them
    runs = table(base=[10, 20, 30], **{f"arm {i}": [11, 22, 33] for i in range(arms)})
    result = compare(runs, baseline="base", metric="score", corrected=corrected)
    half = quantile(comparisons) / math.sqrt(3)
    for arm in range(arms):
        assert result.loc[f"arm {arm}", ["low", "high"]].tolist() == pytest.approx([2 - half, 2 + half])
    assert set(result["comparisons"]) == {comparisons}


def test_what_helps_by_itself_may_be_undecided_among_many() -> None:
    # mean 2, standard error 1/sqrt(10): 2.36 of them on either side alone (t of 7 degrees), 4.03 among ten; zero is 6.3
    # away. With a tenth of the mean it is 0.63, with 1.1 it is 3.48: between the two
    base = [float(i) for i in range(8)]
    spread = [math.sqrt(0.7) * sign for sign in (1, -1) * 4]  # sd² is 0.7 · 8/7, its eighth the square of 1/sqrt(10)
    helped = {f"arm {i}": [b + 1.1 + e for b, e in zip(base, spread, strict=True)] for i in range(10)}
    few, many = table(base=base, new=helped["arm 0"]), table(base=base, **helped)
    assert compare(few, baseline="base", metric="score").loc["new", "verdict"] == "helps"
    assert compare(many, baseline="base", metric="score").loc["arm 0", "verdict"] == "undecided"
    assert compare(many, baseline="base", metric="score", corrected=False).loc["arm 0", "verdict"] == "helps"


def test_pairing_removes_what_the_seeds_share() -> None:
    result = compare(table(base=[10, 500, -90], new=[11, 501, -89.001]), baseline="base", metric="score")
    assert result.loc["new", "verdict"] == "helps"


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([0.05, 0.06, 0.07], 0.01, "helps"),
        ([-0.05, -0.06, -0.07], 0.01, "hurts"),
        ([0.001, -0.001, 0.0], 0.01, "no useful difference"),
        ([0.001, -0.001, 0.0], 0.0001, "undecided"),
        ([0.2, -0.1, 0.1], 0.01, "undecided"),
    ],
)
def test_verdicts(differences: list[float], margin: float, verdict: str) -> None:
    runs = table(base=[0.5, 0.6, 0.7], new=[b + d for b, d in zip((0.5, 0.6, 0.7), differences, strict=True)])
    assert compare(runs, baseline="base", metric="score", margin=margin).loc["new", "verdict"] == verdict


def test_where_lower_is_better_the_verdict_turns_round_and_the_numbers_stay() -> None:
    runs = table(base=[1.0, 1.1, 1.2], new=[0.5, 0.61, 0.7])
    result = compare(runs, baseline="base", metric="score", higher_is_better=False)
    assert result.loc["new", "verdict"] == "helps"
    assert result.loc["new", "difference"] < 0
    assert result.loc["base", "verdict"] == "baseline"


def test_the_order_of_rows_does_not_matter() -> None:
    runs = table(base=[1, 2, 3], new=[2, 2.5, 4.5])
    shuffled = runs.iloc[[5, 0, 3, 1, 4, 2]]
    first, second = (compare(r, baseline="base", metric="score").loc["new", "low"] for r in (runs, shuffled))
    assert first == second


def test_bad_tables_are_named() -> None:
    runs = table(base=[1, 2], new=[2, 3])
    with pytest.raises(ValueError, match=r"no arm named 'x': there are \['base', 'new'\]"):
        compare(runs, baseline="x", metric="score")
    with pytest.raises(ValueError, match=r"no metric named 'nll': there are \['score'\]"):
        compare(runs, baseline="base", metric="nll")
    with pytest.raises(ValueError, match=r"arm 'new' has no finite score for seeds \[1\]"):
        compare(runs.iloc[:3], baseline="base", metric="score")
    with pytest.raises(ValueError, match=r"stored twice: \[\['new', 1\]\]"):
        compare(pd.concat([runs, runs.iloc[3:]]), baseline="base", metric="score")
    with pytest.raises(ValueError, match="at least 2 seeds"):
        compare(runs[runs["seed"] == 0], baseline="base", metric="score")
    with pytest.raises(ValueError, match="margin must not be negative, got -1"):
        compare(runs, baseline="base", metric="score", margin=-1)
    with pytest.raises(ValueError, match=r"seeds must be given, each once, got \[1, 1\]"):
        replicate(train_a_little, arms=["0.1"], seeds=[1, 1])
    with pytest.raises(ValueError, match="must be a whole number from 1 to"):
        replicate(train_a_little, arms=["0.1"], seeds=[1, 2], jobs=0)
    with pytest.raises(ValueError, match=r"a run must not return \['seed'\]"):
        replicate(lambda seed, arm: {"seed": 7, "score": 1.0}, arms=["0.1"], seeds=[1, 2], jobs=1)
    with pytest.raises(ValueError, match=r"arms must be given, each once, got \[\]"):
        replicate(train_a_little, arms=[], seeds=[1])
