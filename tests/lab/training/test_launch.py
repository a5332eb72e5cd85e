"""torchrun from a notebook: it gives what was printed, says what failed, and leaves nothing behind."""

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from kdref.lab.training.launch import torchrun

SLEEPER = """
import os, pathlib, time
pathlib.Path(f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
time.sleep(300)
"""


def module(folder: Path, code: str) -> str:
    (folder / "mine_to_launch.py").write_text(code, encoding="utf-8")
    return "mine_to_launch"


def test_every_process_is_told_its_number_and_its_arguments(tmp_path: Path) -> None:
    names = "RANK", "WORLD_SIZE", "OMP_NUM_THREADS"
    code = f"import os, sys\nprint(*map(os.environ.get, {names}), *sys.argv[1:])"
    said = torchrun(module(tmp_path, code), "a", Path("b"), 3, processes=2, folder=tmp_path)
    assert sorted(said.split("\n")) == ["", "0 2 1 a b 3", "1 2 1 a b 3"]


def test_what_failed_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)mine_to_launch failed on 1 processes:.*ValueError: this one"):
        torchrun(module(tmp_path, "raise ValueError('this one')"), processes=1, folder=tmp_path)


def test_after_the_timeout_nothing_is_left(tmp_path: Path) -> None:
    name = module(tmp_path, SLEEPER)
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        torchrun(name, processes=2, folder=tmp_path, timeout=30)
    assert time.monotonic() - start < 60
    pids = [int(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    assert [pid for pid in pids if psutil.pid_exists(pid) and _alive(pid)] == []


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_no_process_is_refused() -> None:
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        torchrun("kdref", processes=0)
