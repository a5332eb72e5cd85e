"""LETTER: that it is UCI's, that it is split as said, and that its builder reads R's file and no other."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdata
import torch

from kdref.lab import data
from kdref.lab.data import build, build_letter
from kdref.lab.data.letters import ATTRIBUTES, LETTERS, NAME, SIZES

ROOT = Path(__file__).resolve().parents[3]
# the first two letters of UCI's file
FIRST = "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8 I,5,12,3,7,2,10,5,5,4,13,3,9,2,8,4,10"


def whole(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    split = data.letter(seed)
    x, y = (torch.cat([getattr(split, f"{part}_{name}") for part in ("train", "validation", "test")]) for name in "xy")
    return x, y


def test_the_embedded_file_is_that_of_uci() -> None:
    rows = np.load(ROOT / "data" / NAME)
    assert rows.shape == (20_000, 9)
    for row, line in zip(rows, FIRST.split(), strict=False):
        letter, *attributes = line.split(",")
        assert [value for byte in row[:8].tolist() for value in divmod(byte, 16)] == list(map(int, attributes))
        assert LETTERS[row[8]] == letter
    x, y = whole()
    assert x.shape == (20_000, len(ATTRIBUTES))
    assert (x.min(), x.max(), x.dtype) == (0, 1, torch.float32)
    assert torch.equal(x, (15 * x).round() / 15)
    counts = y.bincount()
    assert (len(counts), int(counts.min()), int(counts.max())) == (26, 734, 813)


def test_the_split_is_as_said_and_the_seed_picks_it() -> None:
    split = data.letter(3)
    assert repr(split) == "letter: 4000 train, 1000 validation, 15000 test; inputs (16,), 26 classes"
    assert tuple(map(len, (split.train_y, split.validation_y, split.test_y))) == SIZES
    assert torch.equal(data.letter(3).train_x, split.train_x)
    assert not torch.equal(data.letter(4).train_x, split.train_x)
    for one, other in zip(whole(3), whole(4), strict=True):  # the same letters in another order
        assert torch.equal(one.sort(dim=0).values, other.sort(dim=0).values)
    split.train_x.zero_()
    assert data.letter(3).train_x.any()


def test_as_many_rows_stand_twice_as_the_datasheet_says() -> None:
    x, y = whole()
    assert len(torch.cat([x, y[:, None] / 100], dim=1).unique(dim=0)) == 18_668


def rda(path: Path, labels: list[str], levels: list[str]) -> str:
    """A data frame in R's file: a factor, and sixteen columns of numbers. Its hash."""
    columns = {f"x{i}": [float((i + k) % 16) for k in range(3)] for i in range(16)}
    frame = pd.DataFrame({"letter": pd.Categorical(labels, categories=levels), **columns})
    rdata.write_rda(path, {"LetterRecognition": frame}, compression="xz")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_builder_reads_the_package_in_the_folder_and_only_the_file_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build_letter, "INSTALLED", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"On Debian: apt-get download r-cran-mlbench, then dpkg-deb -x"):
        build_letter.letter()
    path = tmp_path / build_letter.INSIDE
    path.parent.mkdir(parents=True)
    found = rda(path, ["A", "Z", "B"], list(LETTERS))
    with pytest.raises(ValueError, match=r"expected .*: take mlbench 2\.1"):
        build_letter.letter()
    monkeypatch.setattr(build_letter, "SOURCE_SHA256", found)
    built = np.load(io.BytesIO(build_letter.letter()))
    assert built[:, 8].tolist() == [0, 25, 1]
    assert [value for byte in built[1, :8].tolist() for value in divmod(byte, 16)] == [(i + 1) % 16 for i in range(16)]
    with pytest.raises(ValueError, match="source package has changed"):
        build.build("letter", tmp_path)
    monkeypatch.setattr(build_letter, "SOURCE_SHA256", rda(path, ["yes", "no", "yes"], ["yes", "no"]))
    with pytest.raises(ValueError, match=r"the classes are \['yes', 'no'\], expected the letters from A to Z"):
        build_letter.letter()


def test_values_that_do_not_fit_are_refused() -> None:
    attributes, labels = np.zeros((2, 16)), np.array([0, 25])
    assert len(np.load(io.BytesIO(build_letter.encode(attributes, labels)))) == 2
    with pytest.raises(ValueError, match="whole numbers from 0 to 15"):
        build_letter.encode(attributes + 0.5, labels)
    with pytest.raises(ValueError, match="whole numbers from 0 to 25"):
        build_letter.encode(attributes, labels + 1)


def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"letter\.npy is missing.*apt-get download r-cran-mlbench.*build letter"
    ):
        data.letter()
    copied = Path(shutil.copy(ROOT / "data" / NAME, tmp_path))
    copied.write_bytes(copied.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ValueError, match=r"letter\.npy is damaged"):
        data.letter()
