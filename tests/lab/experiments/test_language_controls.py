"""The controls of lesson 11 on a few sentences: parts that never mix, looks that change nothing, a stop in time."""

import functools
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
import torch

from kdref.lab.data.sentences import Part, Snippets, snippets
from kdref.lab.experiments import _language, language_distilbert_controls, language_distilbert_controls_tuning
from kdref.lab.experiments import _language_controls as controls
from kdref.lab.models.sentence_encoder import SentenceClassifier

RATE = 1e-3


def some(part: Part, count: int) -> Part:
    """Short sentences, and one that is not."""
    short = part.of("short")
    rows = [*short.nonzero().flatten().tolist()[:count], int((~short).nonzero()[0])]
    return Part(tuple(part.texts[row] for row in rows), part.y[rows], part.rating[rows])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few sentences, students of one layer and a teacher of two."""
    whole, whole_encoder = snippets(), _language.encoder
    few = Snippets(some(whole.train, 30), some(whole.validation, 10), some(whole.test, 12))
    for module in (_language, controls):
        monkeypatch.setattr(module, "snippets", lambda: few)
    monkeypatch.setattr(
        _language, "encoder", lambda layers, seed: whole_encoder(layers=(1,) if len(layers) == 3 else (0, 1), seed=seed)
    )
    monkeypatch.setattr(controls, "SENTENCES", 20)
    monkeypatch.setattr(language_distilbert_controls, "STOPPING", 8)
    monkeypatch.setattr(language_distilbert_controls, "chosen", lambda _: RATE)
    monkeypatch.setattr(language_distilbert_controls, "chosen_smoothing", lambda: 0.2)
    caches = (
        _language.numbered,
        controls.sentences,
        controls.teacher,
        controls.said,
        language_distilbert_controls.by_epoch,
        language_distilbert_controls_tuning.mean,
    )
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def weights(model: SentenceClassifier) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def rows(part: controls.Part) -> set[tuple[int, ...]]:
    return {tuple(row) for row in part.ids.tolist()}


def test_a_seed_draws_what_is_learned_from_and_what_chooses_and_all_test_on_the_same() -> None:
    one, other = controls.sentences(0), controls.sentences(1)
    assert [len(part.y) for part in one] == [20, 20, 12]
    assert rows(one.train).isdisjoint(rows(one.validation) | rows(one.test))
    assert rows(one.train) | rows(one.validation) == rows(other.train) | rows(other.validation)
    assert rows(one.train) != rows(other.train)
    assert one.test.ids.equal(other.test.ids)
    known = dict(
        zip(map(tuple, _language.numbered()["train"][0].tolist()), _language.numbered()["train"][1], strict=True)
    )
    width = _language.numbered()["train"][0].shape[1]
    for row, y in zip(one.train.ids.tolist(), one.train.y.tolist(), strict=True):
        assert known.get((*row, *[0] * (width - len(row))), y) == y


@functools.cache
def usual(name: str) -> torch.Tensor:
    """Weights of an arm's student that nobody looked at, trained once."""
    return weights(controls.trained(0, name, RATE, 0.2 if name == controls.SMOOTHED else 0.0))


def test_looking_after_each_of_three_epochs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, torch.Tensor]] = []
    steps, whole = [0], _language.train

    def train(model: object, step: Callable[[object], object], *tensors: object, **settings: object) -> float:
        def counted(batch: object) -> object:
            terms = step(batch)
            steps[0] += 1
            return terms

        return whole(model, counted, *tensors, **settings)

    def look(model: SentenceClassifier) -> None:
        seen.append((steps[0], weights(model)))
        controls.found(model, controls.sentences(0).test)

    before = usual(controls.LABELS)
    monkeypatch.setattr(_language, "train", train)
    looked = controls.trained(0, controls.LABELS, RATE, 0.0, after_epoch=look)
    assert [done for done, _ in seen] == [2, 4, 6]  # twenty sentences in batches of sixteen
    assert not seen[0][1].equal(seen[1][1])
    assert seen[-1][1].equal(weights(looked))
    assert weights(looked).equal(before)


def test_every_arm_learns_something_else_and_some_without_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, said = [0], controls.said

    def ask(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked[0] += 1
        return said(seed)

    usual.cache_clear()
    monkeypatch.setattr(controls, "said", ask)
    found, times = [], []
    for name in controls.TERMS:
        found.append(usual(name))
        times.append(asked[0])
    assert dict(zip(controls.TERMS, times, strict=True)) == {
        "labels only": 0,
        "label smoothing": 0,
        "triple loss": 1,
        "without soft targets": 2,
        "without hidden states": 3,
    }
    for number, one in enumerate(found):
        assert not any(one.equal(other) for other in found[:number])
    assert weights(controls.trained(0, controls.SMOOTHED, RATE, 0.0)).equal(found[0])


def test_the_validation_says_when_to_stop_and_the_test_what_that_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = [{"nll": 0.6, "accuracy": 0.7}, {"nll": 0.4, "accuracy": 0.8}, {"nll": 0.5, "accuracy": 0.9}]
    test = [{"nll": 0.1, "accuracy": 0.99}, {"nll": 0.2, "accuracy": 0.5}, {"nll": 0.3, "accuracy": 0.6}]
    end = {"accuracy": 1.0, "nll": 0.0}
    monkeypatch.setattr(language_distilbert_controls, "by_epoch", lambda seed, name: (stopping, test, end))
    run = language_distilbert_controls.run
    assert run(0, "early stopping") == {"nll": 0.2, "accuracy": 0.5, "epoch": 2}
    assert run(0, "early stopping, by accuracy") == {"nll": 0.3, "accuracy": 0.6, "epoch": 3}
    assert run(0, "labels only") == {"nll": 0.3, "accuracy": 0.6, "train_accuracy": 1.0, "train_nll": 0.0}


def test_a_run_of_each_arm_gives_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    one, heard = _language.network(0, layers=(0,)), []

    def trained(
        seed: int,
        name: str,
        learning_rate: float,
        smoothing: float,
        after_epoch: Callable[[SentenceClassifier], None] | None = None,
    ) -> SentenceClassifier:
        heard.append((name, smoothing))
        for _ in range(3 * (after_epoch is not None)):
            after_epoch(one)
        return one

    for module in (language_distilbert_controls, language_distilbert_controls_tuning):
        monkeypatch.setattr(module, "trained", trained)
    monkeypatch.setattr(language_distilbert_controls, "teacher", lambda _: one)
    for arm in language_distilbert_controls.ARMS:
        found = language_distilbert_controls.run(1, arm)
        assert {"accuracy", "nll", "calibration_error"} < set(found)
        assert ("epoch" in found) == ("stopping" in arm)
    assert sorted(heard) == sorted((name, 0.2 if name == "label smoothing" else 0.0) for name in controls.TERMS)
    tuned = language_distilbert_controls_tuning.run(1, "label smoothing | 0.001 | 0.4")
    assert {"accuracy", "nll"} < set(tuned)
    assert heard[-1] == ("label smoothing", 0.4)


def test_rates_are_chosen_by_accuracy_and_smoothing_by_the_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {"labels only | 0.0001 | 0", "label smoothing | 0.001 | 0.2", "triple loss | 0.0003 | 0"}
    assert best < set(language_distilbert_controls_tuning.ARMS)
    stored = [
        {"arm": arm, "accuracy": 0.8 + 0.1 * (arm in best), "nll": 0.4 + 0.1 * (not arm.endswith("| 0.4"))}
        for arm in language_distilbert_controls_tuning.ARMS
    ]
    monkeypatch.setattr(language_distilbert_controls_tuning, "load", lambda _: pd.DataFrame(stored))
    found = {name: language_distilbert_controls_tuning.chosen(name) for name in controls.TERMS}
    assert found == {
        "labels only": 1e-4,
        "label smoothing": 1e-3,
        "triple loss": 3e-4,
        "without soft targets": 3e-4,
        "without hidden states": 3e-4,
    }
    assert language_distilbert_controls_tuning.chosen_smoothing() == 0.4
