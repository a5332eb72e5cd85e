"""What storing a teacher's outputs refuses: mixtures, other people's files, empty data, and numbers that are none."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdref.lab.training.stored import HEAD, StoredOutputs
from kdref.lab.training.storing import store
from kdref.language import sparse_teacher
from tests.lab import stored_mine as mine

TOP = functools.partial(sparse_teacher, k=3)
NAMES = ("indices", "log_probs", "tail_log_mass")
SMALL = {"batch_size": 4, "shard_size": 8}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Other(nn.Sequential):
    """The same weights in another class."""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": mine.teacher(1)}, "another teacher"),
        ({"teacher": Other(*mine.teacher())}, "another teacher"),
        ({"data": list(mine.X)}, "other data"),
        ({"data": mine.X[:-1]}, "another examples .*other data"),
        ({"tokenizer": "another"}, "another tokeniser"),
        ({"pack": TOP, "names": NAMES}, "another pack"),
        ({"dtype": torch.float16}, "another dtype"),
        ({"shard_size": 9}, "another shard_size"),
        ({"seed": 1}, "another seed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_nothing_is_mixed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    usual = {"teacher": mine.teacher(), "data": mine.X, **SMALL}
    store(folder=tmp_path, **usual, rank=0, count=2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"holds outputs of {words}.*: choose another folder"):
        store(folder=tmp_path, **usual | change, rank=1, count=2)
    assert files(tmp_path) == before


def test_a_shard_of_another_run_is_refused_by_reader_and_writer(tmp_path: Path) -> None:
    for seed in (0, 1):
        store(mine.teacher(seed), mine.data(), tmp_path / str(seed), **SMALL)
    name = "00003-of-00007.safetensors"
    (tmp_path / "0" / name).write_bytes((tmp_path / "1" / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} is of another teacher"):
        StoredOutputs(tmp_path / "0")
    with pytest.raises(ValueError, match=f"{name} is of another teacher: choose another folder"):
        store(mine.teacher(), mine.data(), tmp_path / "0", **SMALL)


def test_a_reader_refuses_other_data_teachers_and_tokenisers(tmp_path: Path) -> None:
    store(mine.teacher(), mine.data(), tmp_path, tokenizer="mine", **SMALL)
    StoredOutputs(tmp_path, teacher=mine.teacher(), data=mine.data(), tokenizer="mine")
    for given, words in (
        ({"teacher": mine.teacher(1)}, "another teacher"),
        ({"data": mine.X}, "other data"),
        ({"tokenizer": "yours"}, "another tokeniser"),
    ):
        with pytest.raises(ValueError, match=f"holds outputs of {words} than what is given"):
            StoredOutputs(tmp_path, **given)


def test_files_of_something_else_are_left_alone(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds files of something else: choose an empty folder"):
        store(mine.teacher(), mine.data(), tmp_path, **SMALL)
    (tmp_path / HEAD).write_text("{")
    with pytest.raises(ValueError, match=r"provenance\.json is damaged"):
        store(mine.teacher(), mine.data(), tmp_path, **SMALL)


@pytest.mark.parametrize("data", [mine.X[:0], []], ids=["a tensor", "a list"])
def test_empty_data_are_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(ValueError, match="data are empty: there is nothing to run the teacher on"):
        store(mine.teacher(), data, tmp_path)
    assert files(tmp_path) == {}


def test_data_without_numbers_or_that_change_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="examples by number, got generator: list them first"):
        store(mine.teacher(), (x for x in mine.X), tmp_path)

    class Augmented(mine.Images):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return mine.X[index] + torch.randn(4), 0

    with pytest.raises(ValueError, match=r"not the same when it is read again: store .* without aug"):
        store(mine.teacher(), Augmented(), tmp_path)


class Spoilt(nn.Module):
    """Says something wrong of one example."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill((x == mine.X[21]).all(dim=1, keepdim=True), self.value)


def test_nan_is_named_by_its_example_and_not_stored(tmp_path: Path) -> None:
    for pack, names in ((None, ()), (TOP, NAMES)):
        folder = tmp_path / str(len(names))
        with pytest.raises(ValueError, match="the teacher says NaN for example 21: nothing is stored"):
            store(Spoilt(torch.nan), mine.X, folder, pack=pack, names=names, **SMALL)
        assert list(files(folder)) == ["00000-of-00007.safetensors", "00001-of-00007.safetensors", HEAD]


def test_infinity_and_what_half_precision_can_t_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN or inf in logits, for examples from 20 on"):
        store(Spoilt(torch.inf), mine.X, tmp_path / "inf", **SMALL)
    with pytest.raises(ValueError, match=r"logits reaches 100000, which torch\.float16 can't hold: 00002"):
        store(Spoilt(1e5), mine.X, tmp_path / "large", dtype=torch.float16, **SMALL)
    store(Spoilt(-torch.inf), mine.X, tmp_path / "never", dtype=torch.float16, **SMALL)  # a word that can't come
    assert StoredOutputs(tmp_path / "never")[21]["logits"].tolist() == [-torch.inf] * 4


@pytest.mark.parametrize(
    ("pack", "names", "words"),
    [
        (lambda z: z.sum(), (), "must give 4 rows"),
        (lambda z: z[:2], (), "must give 4 rows"),
        (lambda z: {"offsets": z}, (), "no 'offsets'"),
        (lambda z: (z, z), ("one",), "gives 2 tensors, and there are 1 names"),
        (lambda z: 3, (), "must give tensors, got {'output_0': 'int'}"),
    ],
    ids=["a number", "too few", "a name that is taken", "too few names", "no tensor"],
)
def test_a_packing_that_gives_something_else_is_named(tmp_path: Path, pack: Any, names: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        store(mine.teacher(), mine.data(), tmp_path, pack=pack, names=names, **SMALL)
