"""Lesson 07's experiment: what the teacher's first choice teaches, small batches, and the same seeds for all."""

import functools

import pandas as pd
import pytest
import torch

from kdref.lab.data.smartwatch import folds
from kdref.lab.experiments import _cross_modal_live, cross_modal_equal, load
from kdref.lab.experiments._cross_modal import METHODS, Outputs, people, train
from kdref.lab.experiments.cross_modal import ARMS
from kdref.lab.experiments.cross_modal_tuning import PAIRS, SEEDS, Choice, choices, chosen

SAID = Outputs(torch.zeros(2, 1), torch.tensor([[1.0, 9.0, 2.0], [5.0, 0.0, 4.0]]))


def test_argmax_asks_for_the_first_choice_and_not_how_sure_it_is() -> None:
    own = Outputs(torch.zeros(2, 1), torch.tensor([[0.0, 0.0, 0.0], [3.0, 1.0, 4.0]]))
    expected = (torch.tensor(3.0).log() - torch.log_softmax(torch.tensor([3.0, 1.0, 4.0]), 0)[0]) / 2
    for scale in (1.0, 10.0):
        found = METHODS["argmax"].term(own, Outputs(SAID.hidden, scale * SAID.logits), 3.0)
        assert found.item() == pytest.approx(3 * expected.item(), abs=1e-6)


@pytest.mark.parametrize(("method", "temperature"), [("selected", 2.0), ("selected, τ = 1", 1.0)])
def test_selection_has_its_temperature(method: str, temperature: float) -> None:
    own = torch.tensor([[3.0, 2.0, 1.0]])
    said = torch.tensor([[9.0, 1.0, 0.0]])  # ranked alike, so it is selected
    found = METHODS[method].term(Outputs(own, own), Outputs(said, said), 0.0)
    p, log_q = (said / temperature).softmax(-1), (own / temperature).log_softmax(-1)
    expected = temperature**2 * (p * (p.log() - log_q)).sum().item()
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_last_batch_without_labels_or_without_others_makes_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdref.lab.experiments._cross_modal.BATCH_SIZE", 2)
    monkeypatch.setattr("kdref.lab.experiments._cross_modal.EPOCHS", 1)
    fold = people(5000, 0, tuning=True)
    teacher = train("accelerometer", 0, fold, decay=0.5)
    taught = train("gyroscope", 0, fold, decay=0.5, guide=(teacher, "accelerometer", METHODS["soft targets"], 1.0))
    for model in (teacher, taught):
        assert all(weight.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("labels", [[-100, -100, -100], [2, 0, 1], [-100, 1, -100]])
def test_the_lessons_own_step_takes_batches_of_one_kind(labels: list[int]) -> None:
    own, said, y = (
        torch.sin(torch.arange(9.0)).view(3, 3),
        torch.cos(torch.arange(9.0)).view(3, 3),
        torch.tensor(labels),
    )
    found = _cross_modal_live.terms(torch.nn.Identity(), (own, y, said), taught=True)["loss"]
    known = [-torch.log_softmax(own[i], 0)[c] for i, c in enumerate(labels) if c >= 0]
    silent = [i for i, c in enumerate(labels) if c < 0]
    p, log_q = (said[silent] / 2).softmax(-1), (own[silent] / 2).log_softmax(-1)
    expected = sum(known) / max(1, len(known)) + 4 * (p * (p.log() - log_q)).sum() / max(1, len(silent))
    assert found.item() == pytest.approx(float(expected), abs=1e-5)


def test_every_arm_has_the_same_seeds_and_none_of_the_tuning() -> None:
    runs = load("cross_modal")
    assert sorted(runs["arm"].unique()) == sorted(ARMS)
    for _, frame in runs.groupby("arm"):
        assert sorted(frame["seed"]) == sorted(runs["seed"].unique())
    assert not set(runs["seed"]) & set(SEEDS)


def test_at_equal_settings_only_the_way_of_taking_the_answers_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def watched(sensor: str, seed: int, fold: object, *, decay: float, guide: tuple) -> torch.nn.Module:
        seen.setdefault(arm, []).append((sensor, seed, decay, guide[0], guide[1], guide[2:]))
        return guide[0]

    monkeypatch.setattr("kdref.lab.experiments._cross_modal.EPOCHS", 1)
    monkeypatch.setattr(cross_modal_equal, "train", watched)
    monkeypatch.setattr(cross_modal_equal, "by_person", lambda model, sensor, test: dict.fromkeys(test, 0.5))
    for arm in cross_modal_equal.ARMS:
        assert cross_modal_equal.run(0, arm) == {"accuracy": 0.5}
    common = [[call[:5] for call in calls] for calls in seen.values()]
    assert all(calls == common[0] for calls in common)
    assert {call[2] for call in common[0]} == {cross_modal_equal.DECAY}
    assert {arm: {call[5] for call in calls} for arm, calls in seen.items()} == {
        arm: {(METHODS[method], setting)} for arm, (method, setting) in cross_modal_equal.SETTINGS.items()
    }
    assert sorted(load("cross_modal_equal")["seed"].unique()) == sorted(load("cross_modal")["seed"].unique())


def test_labels_and_taught_students_are_tuned_over_the_same_weight_decays() -> None:
    decays = {pair: sorted({choice.decay for choice in choices(pair)}) for pair in PAIRS}
    assert len(set(map(tuple, decays.values()))) == 1
    assert {choice.setting for choice in choices("gyroscope | nobody | labels")} == {0.0}


def test_the_choice_is_the_best_over_folds_without_labels_of_the_test_people(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, test = "gyroscope | accelerometer | argmax", (3, 7)
    good, bad = Choice(1.0, 0.3), Choice(5.0, 3.0)  # bad is perfect, but where labels of 3 or 7 were seen
    rows = []
    for choice in choices(pair):
        for seed in SEEDS:
            row = {"arm": f"{pair} | {choice.decay:g} | {choice.setting:g}", "seed": seed}
            for number, fold in enumerate(folds(seed)):
                seen = bool(set(fold.labelled) & set(test))
                row[f"fold_{number}"] = 1.0 if choice == bad and seen else 0.6 if choice == good and not seen else 0.5
            rows.append(row)
    monkeypatch.setattr("kdref.lab.experiments.cross_modal_tuning.load", lambda _: pd.DataFrame(rows))
    assert functools.cache(chosen.__wrapped__)(pair, test) == good
