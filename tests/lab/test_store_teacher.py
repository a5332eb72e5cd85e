"""The command that stores a teacher's outputs: killed in the middle, gone on with by other processes, and misused."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdref.lab import store_teacher
from kdref.lab.training.stored import HEAD, StoredOutputs
from kdref.lab.training.storing import store
from tests.lab import stored_mine as mine

ROOT = Path(__file__).parents[2]
WHAT = ["--teacher", "tests.lab.stored_mine:teacher", "--data", "tests.lab.stored_mine:data"]
WHAT += ["--batch-size", "4", "--shard-size", "8", "--device", "cpu"]


def run(folder: Path, *, rank: int = 0, count: int = 1, **variables: str) -> subprocess.CompletedProcess[str]:
    """One process of some, as torchrun starts them."""
    command = [sys.executable, "-m", "kdref.lab.store_teacher", *WHAT, "--to", str(folder)]
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(count), **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.skipif(os.name != "posix", reason="Windows kills otherwise")
def test_killed_in_the_middle_and_gone_on_with_by_others_it_gives_the_same_files(tmp_path: Path) -> None:
    store(mine.teacher(), mine.data(), tmp_path / "whole", batch_size=4, shard_size=8)
    folder, die_at = tmp_path / "killed", tmp_path / "die_at"
    die_at.write_text("27")  # in the fourth of seven shards
    killed = run(folder, DIE_AT=str(die_at))
    # every example is read once for the hash, so the first to be read again dies
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = [name for name in files(folder) if name != HEAD]
    assert done == [f"{number:05}-of-00007.safetensors" for number in range(3)]
    with pytest.raises(FileNotFoundError, match="lacks 4 of 7 shards"):
        StoredOutputs(folder)
    for rank in range(2):  # two processes go on
        went_on = run(folder, rank=rank, count=2)
        assert went_on.returncode == 0, went_on.stderr
        assert f"process {rank} of 2: 2 of its {4 - rank} shards written" in went_on.stdout
    assert files(folder) == files(tmp_path / "whole")
    torch.testing.assert_close(StoredOutputs(folder)[49], StoredOutputs(tmp_path / "whole")[49])


def test_torchrun_starts_it_on_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "kdref.lab.store_teacher", *WHAT, "--to", str(tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    store(mine.teacher(), mine.data(), tmp_path / "one", batch_size=4, shard_size=8)
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_top_words_packed_by_a_function_of_the_heart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--teacher", "tests.lab.stored_mine:language_model", "--data", "tests.lab.stored_mine:texts"]
    command += ["--pack", "kdref.language:sparse_teacher", "--pack-options", '{"k": 3}', "--dtype", "float16"]
    command += ["--names", "indices,log_probs,tail_log_mass", "--mask", "tests.lab.stored_mine:real_tokens"]
    command += ["--tokenizer", "tests.lab.stored_mine:tokenizer", "--to", str(tmp_path), "--shard-size", "20"]
    assert store_teacher.main(command) == 0
    said = capsys.readouterr().out
    assert "process 0 of 1: 3 of its 3 shards written\n" in said
    assert "log_probs in float16: largest difference" in said
    stored = StoredOutputs(tmp_path, tokenizer=mine.tokenizer(), data=mine.texts())
    assert stored[4]["indices"].shape == (5, 3)
    assert stored.provenance["pack"] == "kdref.language.sparse.sparse_teacher(k=3)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "mine"], "'mine' must be MODULE:NAME"),
        (["--teacher", "no_such_module:teacher"], "No module named 'no_such_module'"),
        (["--data", "tests.lab.stored_mine:nothing"], "has no attribute 'nothing'"),
        (["--shard-size", "0"], "need sizes of at least 1"),
        (["--tokenizer", "tests.lab.stored_mine:teacher"], "tokenizer must have get_vocab"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words, message) -> None:
    assert store_teacher.main([*WHAT, "--to", str(tmp_path), *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("store_teacher: ")
    assert message in said
    assert said.count("\n") == 1
