"""The writer: texts that come back as they were, rows and masks by hand, and the shipped teacher."""

import hashlib
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdref.lab import data
from kdref.lab.data.sentences import snippets
from kdref.lab.models import count_parameters, writer

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "data" / writer.NAME
# Of the numbers of all validation sentences: the teacher learnt these numbers and no others
PIECES = "27551d040759c8c828537da8526a014580af967f506a647bb296a6feea7d5641"
TEST_NLL = 3.1044


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_every_text_is_read_again_as_it_was(text: str) -> None:
    pieces = writer.tokeniser()
    ids = pieces.encode(text).ids
    assert pieces.decode(ids) == text
    assert writer.END not in ids


@pytest.mark.parametrize("text", ["<end>", "", "  Two  spaces ", "A ½ naïve 日本 film", "not SEEN\n\t!"])
def test_nothing_is_unknown_lower_cased_or_taken_for_the_end(text: str) -> None:
    for vocabulary in (300, writer.VOCABULARY):
        pieces = writer.tokeniser(vocabulary)
        ids = pieces.encode(text).ids
        assert pieces.decode(ids) == text
        assert all(0 < number < vocabulary for number in ids)


def test_the_vocabulary_is_as_large_as_asked_for_and_a_larger_one_writes_shorter() -> None:
    small, large = writer.tokeniser(300), writer.tokeniser()
    assert (small.get_vocab_size(), large.get_vocab_size()) == (300, writer.VOCABULARY)
    texts = snippets().test.texts[:50]
    assert sum(len(large.encode(text).ids) for text in texts) < sum(len(small.encode(text).ids) for text in texts)
    assert writer.tokeniser(300) is small
    with pytest.raises(ValueError, match="vocabulary must be more than the 256 bytes, got 256"):
        writer.tokeniser(256)


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"lesson 19 needs the package tokenizers.*kdref\[language\]"):
        writer.tokeniser(301)


def test_the_pieces_are_those_that_the_teacher_learnt() -> None:
    numbers = writer.rows("validation").numpy().astype("<i4").tobytes()
    assert hashlib.sha256(numbers).hexdigest() == PIECES


def test_rows_begin_and_end_with_the_end_and_hold_the_sentence() -> None:
    for part, count in (("train", 6000), ("validation", 1000), ("test", 3072)):
        rows = writer.rows(part)
        assert rows.shape == (count, writer.LENGTH)
        assert rows.dtype == torch.int64
        assert (rows[:, 0] == writer.END).all()
        sentences = getattr(snippets(), part).texts
        for row, text in zip(rows[:20].tolist(), sentences, strict=False):
            ids = writer.tokeniser().encode(text).ids[: writer.LENGTH - 1]
            assert row == [writer.END, *ids, *[writer.END] * (writer.LENGTH - 1 - len(ids))]
    with pytest.raises(ValueError, match="part must be 'train', 'validation' or 'test', got 'dev'"):
        writer.rows("dev")


def test_the_mask_holds_the_first_end_after_the_start_and_nothing_beyond() -> None:
    rows = torch.tensor([[0, 4, 5, 0, 0], [0, 4, 5, 6, 7], [0, 0, 0, 0, 0], [0, 4, 5, 6, 0]])
    expected = [[0, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 1, 1, 1, 1]]
    assert writer.mask(rows).long().tolist() == expected


def test_rows_become_the_sentences_again_as_far_as_they_go() -> None:
    for text, sentence in zip(writer.texts(writer.rows("test")[:50]), snippets().test.texts, strict=False):
        assert sentence.startswith(text.rstrip("\N{REPLACEMENT CHARACTER}"))
        assert len(text) > 5
    assert writer.texts(torch.zeros(1, 4, dtype=torch.int64)) == [""]


def test_nats_per_token_are_counted_over_the_tokens_that_are_learned() -> None:
    model, rows = writer.network(writer.STUDENT, seed=0), writer.rows("test")[:7]
    total = count = 0.0
    with torch.no_grad():
        for row in rows:
            log_q = model(row[None, :-1])[0].log_softmax(-1)
            for place, token in enumerate(row[1:].tolist()):
                total, count = total - log_q[place, token].item(), count + 1
                if token == writer.END:
                    break
    assert writer.nll(model, rows, batch_size=3) == pytest.approx(total / count, rel=1e-5)


def test_the_student_has_a_quarter_of_the_teachers_parameters_and_heads_of_its_size() -> None:
    teacher, student = (writer.network(size, seed=0) for size in (writer.TEACHER, writer.STUDENT))
    assert 0.24 < count_parameters(student) / count_parameters(teacher) < 0.26
    sizes = {size["width"] / size["heads"] for size in (writer.TEACHER, writer.STUDENT)}
    assert len(sizes) == 1


# What is shipped ------------------------------------------------------------------------------------------------------


def test_the_shipped_teacher_is_small_and_as_good_as_recorded() -> None:
    assert FILE.stat().st_size < 1_500_000
    teacher = writer.teacher()
    assert not teacher.training
    assert count_parameters(teacher) == count_parameters(writer.network(writer.TEACHER, seed=0))
    assert writer.nll(teacher, writer.rows("test")) == pytest.approx(TEST_NLL, abs=0.001)
    assert writer.teacher() is teacher


def test_the_teacher_foresees_far_more_than_how_often_pieces_come() -> None:
    train, test = writer.rows("train"), writer.rows("test")
    counts = torch.bincount(train[writer.mask(train)], minlength=writer.VOCABULARY) + 0.1
    unigram = -(counts / counts.sum()).log()[test[writer.mask(test)]].mean().item()
    assert unigram == pytest.approx(5.298, abs=0.001)
    assert unigram - 2 > TEST_NLL


def test_the_datasheet_states_the_recipe_and_how_good_it_is() -> None:
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    section = " ".join(datasheet[datasheet.index("\n## snippets-writer\n") :].split("\n## ")[1].split())
    parameters = count_parameters(writer.teacher())
    for words in (
        f"{parameters:,} parameters",
        f"{writer.EPOCHS} epochs",
        f"batches of {writer.BATCH_SIZE}",
        f"{TEST_NLL:.2f} nats",
        f"perplexity of {math.exp(TEST_NLL):.1f}",
        "`python -m kdref.lab.models.writer`",
    ):
        assert words in section


def test_a_damaged_file_says_how_to_restore_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = Path(shutil.copy(FILE, tmp_path))
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"damaged.* python -m kdref\.lab\.models\.writer"):
        data.data_file(writer.NAME)


def test_files_that_hold_other_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"mine\.safetensors holds no weights of the teacher: .+"):
        writer.load(path)
    state = load_file(FILE)
    state["scores.bias"][3] = torch.nan
    save_file(state, path)
    with pytest.raises(ValueError, match=r"holds weights that are not finite, in scores\.bias"):
        writer.load(path)


# Training anew --------------------------------------------------------------------------------------------------------


def few(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Sixty sentences to learn from, and twenty to validate on, whose numbers are other ones each time."""
    parts = {part: writer.rows(part)[:60].clone() for part in ("train", "validation", "test")}
    monkeypatch.setattr(writer, "rows", parts.__getitem__)
    monkeypatch.setattr(writer, "TEACHER", {"width": 16, "layers": 1, "heads": 2})
    monkeypatch.setattr(writer, "RATE", 0.02)
    return parts


def test_training_learns_and_keeps_the_epoch_that_is_best_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = few(monkeypatch)
    model, history = writer.train(epochs=12)
    assert history[-1]["loss"] < history[0]["loss"] - 1
    lowest = min(row["validation"] for row in history)
    assert writer.nll(model, parts["validation"]) == pytest.approx(lowest, rel=1e-6)
    again, _ = writer.train(epochs=12)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_test_sentences_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = few(monkeypatch)
    before, _ = writer.train(epochs=2)
    parts["test"] = torch.full_like(parts["test"], -1)
    after, _ = writer.train(epochs=2)
    assert torch.equal(before.scores.weight, after.scores.weight)


def test_the_same_teacher_trained_anew_is_the_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer, "train", lambda: (writer.load(FILE), []))
    writer.main(["--to", str(tmp_path)])
    assert (tmp_path / writer.NAME).read_bytes() == FILE.read_bytes()
    said = capsys.readouterr().out
    assert data.FILES[writer.NAME].sha256 in said
    assert f"test: {TEST_NLL:.4f} nats per token" in said
    assert "bit by bit" not in said


def test_another_teacher_is_written_beside_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = writer.load(FILE)
    with torch.no_grad():
        model.scores.bias += 0.5
    monkeypatch.setattr(writer, "train", lambda: (model, []))
    writer.main(["--to", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["snippets-writer.anew.safetensors"]
    assert "Not bit by bit the shipped one" in capsys.readouterr().out
