"""DistilBERT's stored experiment on a few sentences: paired arms, terms that count, a teacher that is kept."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from kdref.lab.data.sentences import KINDS, Part, Snippets, snippets
from kdref.lab.experiments import (
    _language,
    language_distilbert,
    language_distilbert_longer,
    language_distilbert_slice,
    language_distilbert_tuning,
)
from kdref.lab.experiments._language import STUDENTS, TERMS
from kdref.lab.models.sentence_encoder import Outputs, SentenceClassifier, outputs

RATE = 1e-3


def first(part: Part, count: int) -> Part:
    return Part(part.texts[:count], part.y[:count], part.rating[:count])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs the teacher leaves it for the others."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snippets]:
    """A few sentences, students of one layer and a teacher of two."""
    whole = snippets()
    few = Snippets(first(whole.train, 40), first(whole.validation, 8), first(whole.test, 30))
    whole_encoder = _language.encoder
    for module in (_language, language_distilbert):
        monkeypatch.setattr(module, "snippets", lambda: few)
    monkeypatch.setattr(
        _language, "encoder", lambda layers, seed: whole_encoder(layers=(1,) if layers else (0, 1), seed=seed)
    )
    monkeypatch.setattr(_language, "TEACHER", _language.TEACHER._replace(epochs=1))
    monkeypatch.setattr(_language.Path, "home", lambda: home)
    caches = (_language.numbered, _language.teacher, language_distilbert_tuning.chosen)
    for cache in caches:
        cache.cache_clear()
    yield few
    for cache in caches:
        cache.cache_clear()


def said(arm: str, seed: int = 0) -> torch.Tensor:
    model, _ = _language.taught(seed, STUDENTS[arm], learning_rate=RATE)
    return outputs(model, _language.numbered()["test"][0]).logits


@functools.cache
def usual(arm: str) -> torch.Tensor:
    """The same as long as a test has spoiled nothing, so it is computed once."""
    return said(arm)


def test_a_run_is_repeatable_and_seeds_differ() -> None:
    assert said("labels only").equal(usual("labels only"))
    assert not said("labels only", seed=1).equal(usual("labels only"))


@pytest.mark.parametrize(
    ("arm", "spoiled"),
    [
        ("without soft targets", {"logits"}),
        ("without hidden states", {"hidden"}),
        ("labels only", {"logits", "hidden"}),
        ("without labels", {"labels"}),
    ],
)
def test_what_an_arm_leaves_out_cannot_change_it(arm: str, spoiled: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before, known, teacher = usual(arm), dict(_language.numbered()), dict(_language.teacher())
    if "labels" in spoiled:
        known["train"] = (known["train"][0], 1 - known["train"][1])
    logits, hidden = teacher["train"]
    teacher["train"] = Outputs(-logits if "logits" in spoiled else logits, -hidden if "hidden" in spoiled else hidden)
    monkeypatch.setattr(_language, "numbered", lambda: known)
    monkeypatch.setattr(_language, "teacher", lambda: teacher)
    assert said(arm).equal(before)
    assert not said("triple loss").equal(before)


def test_every_term_of_the_whole_loss_counts() -> None:
    arms = ("labels only", "triple loss", "without soft targets", "without hidden states", "without labels")
    found = [usual(arm) for arm in arms]
    for number, one in enumerate(found):
        assert not any(one.equal(other) for other in found[:number])
    assert [STUDENTS[arm].terms for arm in arms[2:]] == [
        {**TERMS, name: 0.0} for name in ("soft_weight", "hidden_weight", "hard_weight")
    ]


def test_arms_of_a_seed_begin_alike_and_random_ones_without_what_was_learned_before() -> None:
    pretrained, random = (_language.network(3, layers=(0,), pretrained=flag) for flag in (True, False))
    assert pretrained.classifier.weight.equal(random.classifier.weight)
    again = _language.network(3, layers=(0,), pretrained=False)
    assert all(a.equal(b) for a, b in zip(random.parameters(), again.parameters(), strict=True))
    words = [model.encoder.get_submodule("embeddings.word_embeddings").weight for model in (pretrained, random)]
    assert words[0].shape == words[1].shape
    assert not words[0].equal(words[1])


def test_arms_of_a_seed_see_one_order_and_drop_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(step: object, model: object, batches: Iterator, optimizer: object, **_: object) -> None:
        seen.append(([ids for _ in range(2) for ids, *_ in batches], torch.random.get_rng_state()))

    teacher = _language.teacher()
    monkeypatch.setattr(_language, "teacher", lambda: teacher)
    monkeypatch.setattr(_language, "fit", look)
    for seed, arm in [*((3, arm) for arm in STUDENTS), (4, "labels only")]:
        _language.taught(seed, STUDENTS[arm], learning_rate=RATE)
    *arms, other = seen
    assert len(arms) == 7
    for shown, dropout in arms:
        assert all(a.equal(b) for a, b in zip(shown, arms[0][0], strict=True))
        assert dropout.equal(arms[0][1])
    assert not torch.cat([ids.flatten() for ids in other[0]]).equal(torch.cat([ids.flatten() for ids in arms[0][0]]))
    assert not other[1].equal(arms[0][1])


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    seen: list[float] = []
    model = _language.network(0, layers=(0,))

    def step(batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        seen.append(model.classifier.weight.detach().clone())
        return {"loss": model.classifier.weight.sum()}  # one gradient throughout: Adam's steps are the rate

    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(_language, "WEIGHT_DECAY", 0.0)
        _language.train(model, step, *_language.numbered()["train"], seed=0, epochs=10, learning_rate=RATE)
    seen.append(model.classifier.weight.detach())
    rates = [float((a - b).mean()) / RATE for a, b in itertools.pairwise(seen)]
    expected = [1 / 3, 2 / 3, *((30 - done) / 27 for done in range(3, 30))]  # 30 steps, of which 3 rise
    torch.testing.assert_close(rates, [*expected[:2], 1.0, *expected[2:]], rtol=1e-2, atol=1e-3)


def test_the_teacher_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_language.Path, "home", lambda: tmp_path)
    made = _language._make_teacher()
    first_time = _language.teacher()
    monkeypatch.setattr(_language, "_make_teacher", lambda: pytest.fail("made again"))
    _language.teacher.cache_clear()
    kept = _language.teacher()
    ids = _language.numbered()["train"][0]
    for part in ("train", "validation", "test"):
        assert kept[part].logits.equal(first_time[part].logits)
        assert kept[part].logits.equal(made[part].logits)
    assert kept["train"].hidden[ids != 0].equal(made["train"].hidden[ids != 0])
    assert kept["train"].hidden.shape == (*ids.shape, 384)
    assert [path.suffix for path in _language._cache_file().parent.iterdir()] == [".safetensors"]


def test_test_sentences_are_judged_by_kind(small: Snippets, monkeypatch: pytest.MonkeyPatch) -> None:
    y = small.test.y
    wrong = small.test.of("negation")
    own = torch.nn.functional.one_hot(y ^ wrong, 2).float()  # wrong on each negation, right elsewhere
    teacher = torch.nn.functional.one_hot(1 - y, 2).float()  # always wrong
    monkeypatch.setattr(language_distilbert, "teacher", lambda: {"test": Outputs(teacher, teacher)})
    found = language_distilbert.judged(own)
    assert found["accuracy_negation"] == 0
    assert found["agreement_negation"] == 1
    assert found["accuracy"] == pytest.approx(1 - wrong.double().mean().item())
    assert found["agreement"] == pytest.approx(wrong.double().mean().item())
    for kind in KINDS:
        rows = small.test.of(kind)
        assert found[f"accuracy_{kind}"] == pytest.approx((~wrong[rows]).double().mean().item())


def test_pruning_keeps_pieces_seen_often_enough() -> None:
    model = _language.network(0, layers=(0,))
    (ids, _), (test_ids, y) = _language.numbered()["train"], _language.numbered()["test"]
    logits = outputs(model, test_ids).logits
    found = language_distilbert.pruned(model, logits)
    counts = torch.bincount(ids.flatten(), minlength=30522)
    for least in language_distilbert.SEEN:
        kept = {*(counts >= least).nonzero().flatten().tolist(), 0, 100, 101, 102, 103}
        assert found[f"pieces_seen_{least}"] == len(kept)
    fresh = _language.network(0, layers=(0,))
    read = test_ids.where(torch.isin(test_ids, torch.tensor(sorted(kept))), torch.tensor(100))
    expected = (outputs(fresh, read).logits.argmax(dim=-1) == y).double().mean().item()
    assert found[f"accuracy_seen_{language_distilbert.SEEN[-1]}"] == pytest.approx(expected, abs=1.5 / len(y))


def test_word_counts_need_no_network() -> None:
    logits = language_distilbert.word_counts()
    assert logits.shape == (30, 2)
    assert logits[:, 0].count_nonzero() == 0
    assert len(set(logits[:, 1].tolist())) > 10


def test_an_arm_that_leaves_out_a_term_takes_the_rate_of_the_whole_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {
        "labels only | 0.0001",
        "triple loss | 0.0003",
        "random, labels only | 0.001",
        "random, triple loss | 0.0003",
    }
    assert best <= set(language_distilbert_tuning.ARMS)
    rows = [
        {"arm": arm, "seed": 5000, "accuracy": 0.8 + 0.1 * (arm in best)} for arm in language_distilbert_tuning.ARMS
    ]
    monkeypatch.setattr(language_distilbert_tuning, "load", lambda _: pd.DataFrame(rows))
    found = {arm: language_distilbert_tuning.chosen(arm) for arm in STUDENTS}
    assert found == {
        "labels only": 1e-4,
        "triple loss": 3e-4,
        "without soft targets": 3e-4,
        "without labels": 3e-4,
        "without hidden states": 3e-4,
        "random, labels only": 1e-3,
        "random, triple loss": 3e-4,
    }


def test_a_run_of_each_sort_gives_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_distilbert, "chosen", lambda _: RATE)
    rows = {arm: language_distilbert.run(0, arm) for arm in ("teacher", "word counts", "triple loss", "without labels")}
    common = {"accuracy", "nll", "calibration_error", "agreement", *(f"accuracy_{kind}" for kind in KINDS)}
    assert all(common <= set(row) for row in rows.values())
    assert rows["teacher"]["agreement"] == 1
    assert "accuracy_seen_1" in rows["triple loss"]
    assert "accuracy_seen_1" not in rows["without labels"]
    tuned = language_distilbert_tuning.run(0, "random, triple loss | 0.001")
    assert set(tuned) == {"accuracy", "nll"}


def test_the_slice_has_a_teacher_of_its_own_and_students_that_listen_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_distilbert_slice, "chosen", lambda _: RATE)
    monkeypatch.setattr(language_distilbert_slice, "SENTENCES", 20)
    monkeypatch.setattr(_language, "teacher", lambda: pytest.fail("the great teacher was asked"))
    monkeypatch.setattr(language_distilbert_slice, "snippets", _language.snippets)
    whole = language_distilbert_slice.teacher(0)
    ids, y = language_distilbert_slice.tested()
    assert 0 < len(ids) < 30
    whole_said = outputs(whole, ids).logits
    said_by = {arm: _slice_said(arm, whole) for arm in language_distilbert_slice.ARMS[1:3]}
    with torch.no_grad():
        whole.classifier.weight.neg_()
    for arm, before in said_by.items():
        assert _slice_said(arm, whole).equal(before) == (arm == "labels only")
    accuracy = (whole_said.argmax(-1) == y).double().mean().item()
    assert language_distilbert_slice.run(0, "teacher")["accuracy"] == pytest.approx(accuracy)


def _slice_said(arm: str, whole: SentenceClassifier) -> torch.Tensor:
    model = language_distilbert_slice.student(0, arm, language_distilbert_slice.lessons(whole))
    return outputs(model, language_distilbert_slice.tested()[0]).logits


def test_longer_training_is_longer_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (language_distilbert, language_distilbert_longer):
        monkeypatch.setattr(module, "chosen", lambda _: RATE)
    once = language_distilbert.run(1, "labels only")
    monkeypatch.setattr(language_distilbert_longer, "EPOCHS", 1)
    same = language_distilbert_longer.run(1, "labels only")
    assert {key: once[key] for key in same if key != "seconds"} == {k: v for k, v in same.items() if k != "seconds"}
    monkeypatch.setattr(language_distilbert_longer, "EPOCHS", 2)
    assert language_distilbert_longer.run(1, "labels only")["nll"] != once["nll"]
