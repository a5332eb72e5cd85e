"""The sentences: which are embedded, that the split is fixed and shares none, what their kinds mean."""

import bz2
import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kdref.lab import data
from kdref.lab.data import build, build_snippets
from kdref.lab.data import sentences as module
from kdref.lab.data.sentences import KINDS, NAME, Part, snippets

ROOT = Path(__file__).resolve().parents[3]
TABLE = (
    "1\t2.26666666667\tA film to love.\r\n"
    "2\t-0.5\t Not for me. \r\n"
    "3\t0.48\tWell.\r\n"
    "4\t-0.49999\tHm.\r\n"
    "5\t0.5\tNice 'n' easy – enough.\r\n"
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """The file is read anew, and is forgotten afterwards."""
    module._rows.cache_clear()
    yield
    module._rows.cache_clear()


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_clear_ratings_are_kept_and_nothing_else() -> None:
    lines = bz2.decompress(build_snippets.encode(TABLE)).decode("utf-8").split("\n")
    assert lines == ["2.27\tA film to love.", "-0.50\tNot for me.", "0.50\tNice 'n' easy – enough.", ""]


def test_the_builder_reads_two_archives_deep_and_only_the_archive_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"pip download --no-deps --no-binary :all: vaderSentiment==2\.5"):
        build_snippets.snippets()
    inner = archive({build_snippets.SENTENCES: TABLE.encode("utf-8")})
    content = archive({build_snippets.INNER: inner})
    Path(build_snippets.SOURCE).write_bytes(content)
    with pytest.raises(ValueError, match="expected b960c954"):
        build_snippets.snippets()
    monkeypatch.setattr(build_snippets, "SOURCE_SHA256", hashlib.sha256(content).hexdigest())
    assert build_snippets.snippets() == build_snippets.encode(TABLE)
    with pytest.raises(ValueError, match="source package has changed"):
        build.build("snippets", tmp_path)


def test_there_are_as_many_as_the_datasheet_says() -> None:
    known = snippets()
    assert repr(known) == "snippets: 6000 train, 1000 validation, 3072 test sentences, 2 classes"
    y = torch.cat([part.y for part in (known.train, known.validation, known.test)])
    assert (len(y), int(y.sum())) == (10_072, 4_996)
    for part in (known.train, known.validation, known.test):
        assert len(part.texts) == len(part.y) == len(part.rating)
        assert abs(part.y.double().mean() - 0.5) < 0.02
        assert part.rating.abs().min() >= 0.5
        assert part.y.equal((part.rating > 0).long())
    words = [len(text.split()) for part in (known.train, known.validation, known.test) for text in part.texts]
    assert (min(words), sorted(words)[len(words) // 2], max(words)) == (1, 18, 51)
    assert (ROOT / "data" / NAME).stat().st_size < 700_000
    assert "cjhutto" in (ROOT / "data" / "snippets-LICENSE.txt").read_text(encoding="utf-8")


def test_no_sentence_is_in_two_parts_and_the_order_is_that_of_the_hashes() -> None:
    known = snippets()
    parts = [set(part.texts) for part in (known.train, known.validation, known.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 10_070  # two sentences stand in it twice
    digests = [
        hashlib.sha256(t.encode()).hexdigest() for p in (known.train, known.validation, known.test) for t in p[0]
    ]
    assert digests == sorted(digests)


def test_kinds_of_sentences() -> None:
    texts = (
        "It isn't funny.",
        "Slow, but a joy.",
        "Notable.",
        "Nobody will care, though it is short.",
        " ".join(["long"] * 26),
        " ".join(["butter"] * 11),
    )
    rating = torch.tensor([-2.5, 1.24, 1.25, -1.3, 2.25, 2.26])
    part = Part(texts, (rating > 0).long(), rating)
    found = {kind: part.of(kind).nonzero().flatten().tolist() for kind in KINDS}
    assert found == {
        "short": [0, 1, 2, 3],
        "long": [4],
        "negation": [0, 3],
        "contrast": [1, 3],
        "mild": [1],
        "strong": [0, 5],
    }
    with pytest.raises(ValueError, match=r"named 'sad': there are \['short', 'long'"):
        part.of("sad")


def test_each_kind_has_enough_test_sentences_to_measure() -> None:
    test = snippets().test
    for kind in KINDS:
        assert 400 < int(test.of(kind).sum()) < 1000


def test_what_a_user_does_to_the_tensors_spoils_nothing() -> None:
    before = snippets()
    snippets().test.y.zero_()
    snippets().train.rating.zero_()
    assert snippets().test.y.equal(before.test.y)
    assert snippets().train.rating.equal(before.train.rating)


@pytest.mark.usefixtures("fresh")
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"snippets\.tsv\.bz2 is missing.*data.build snippets"):
        snippets()
    copied = Path(shutil.copy(ROOT / "data" / NAME, tmp_path))
    content = bytearray(copied.read_bytes())
    content[100_000] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*data.build snippets"):
        snippets()


def test_the_builder_gives_the_embedded_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(build_snippets.SOURCE).is_file():
        pytest.skip(f"{build_snippets.SOURCE} is not in this folder")
    assert hashlib.sha256(build_snippets.snippets()).hexdigest() == data.FILES[NAME].sha256
