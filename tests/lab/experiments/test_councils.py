"""Lesson 06: teachers are weighed on images that they were not trained on, and training is on the labels given."""

import pandas as pd
import pytest
import torch
from torch import nn

from kdref.lab import experiments
from kdref.lab.data import digits
from kdref.lab.experiments import _councils_live, store
from kdref.lab.experiments._councils import fitted, weights_of


def test_training_lowers_the_error_on_the_labels_given() -> None:
    torch.manual_seed(0)
    x, net = torch.randn(60, 4), nn.Linear(4, 2)
    y = (x[:, 0] > 0).long()
    start = (net(x).argmax(-1) == y).double().mean().item()
    same = fitted(net, x, y, batch_size=20, epochs=60, seed=0)
    assert same is net
    assert (net(x).argmax(-1) == y).double().mean().item() > max(start, 0.9)


def test_trust_is_given_for_new_images_only() -> None:
    split = digits(0)
    right = {part: 9.0 * torch.eye(10)[getattr(split, f"{part}_y")] for part in ("train", "validation")}
    liar = {"train": right["train"], "validation": right["validation"].roll(1, dims=-1)}
    half = dict(right, validation=torch.cat([right["validation"][:25], liar["validation"][25:]]))
    w = weights_of("trust from 50 labels", [right, liar, half], split)
    torch.testing.assert_close(w[:, 0], torch.tensor([0.9, 0.0, 0.4]) / 1.3)
    torch.testing.assert_close(w, w[:, :1].expand(3, 1000))
    torch.testing.assert_close(weights_of("probabilities", [right, liar], split), torch.full((2, 1000), 0.5))


def test_an_arm_has_one_name_at_both_budgets_and_no_run_is_lost() -> None:
    runs = _councils_live.by_budget()
    assert list(runs) == [10, 40]
    stored = [experiments.load(name) for name in ("multi_teacher_councils", "multi_teacher_longer")]
    assert sum(map(len, runs.values())) == sum(map(len, stored))
    assert set(runs[10]["arm"]) < set(runs[40]["arm"])
    for found in runs.values():
        assert not found.duplicated(["seed", "arm"]).any()
        assert not found["arm"].str.contains("longer").any()
    one = stored[0].query("seed == 3 and arm == 'pixels alone | logits, longer'")["accuracy"].item()
    assert runs[40].query("seed == 3 and arm == 'pixels alone | logits'")["accuracy"].item() == one


def test_differences_are_those_after_40_epochs_and_verdicts_those_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"a": 0.0, "b": 0.1, "b, longer": -0.1, "a, longer": 0.0, "c, longer": 0.001}
    rows = [
        {"seed": base + i, "arm": arm, "accuracy": 0.5 + gain + 1e-4 * (i % 3)}
        for base in (0, 1000, 2000)
        for i in range(8)
        for arm, gain in gains.items()
    ]
    frames = {"multi_teacher_councils": pd.DataFrame(rows[1:]), "multi_teacher_longer": pd.DataFrame(rows[:1])}
    monkeypatch.setattr(store, "load", frames.__getitem__)
    runs = _councils_live.by_budget()
    result, verdicts = _councils_live.against("a", ["b"], runs=runs)
    assert list(result.index) == ["a", "b"]
    assert result.loc["b", "difference"] == pytest.approx(-0.1)
    assert verdicts.loc["b"].tolist() == ["hurts"] * 4 + ["helps"]
    result, verdicts = _councils_live.against("a", ["c", "b"], runs=runs)  # c was not run for 10 epochs
    assert list(result.index) == ["a", "c", "b"]
    assert verdicts.shape == (2, 4)
    assert list(verdicts.index) == ["c", "b"]
