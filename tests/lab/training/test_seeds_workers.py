"""Worker processes: how many are asked for, and that none outlives the process that started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kdref.lab.training import seeds
from kdref.lab.training.seeds import replicate, run_many

SCRIPT = """
import os, sys, time
from kdref.lab.training.seeds import run_many
def run(seed, arm):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    time.sleep(600)
    return {}
list(run_many(run, [(seed, "a") for seed in range(6)], jobs=2))
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # whether anybody asks for its exit code or not
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a signal")
def test_workers_end_soon_after_the_process_that_started_them_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT.replace("sys.argv[1]", repr(str(tmp_path)))])
    try:
        end = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert len(workers) == 2
        assert all(map(alive, workers))
        time.sleep(1.5)
        assert all(map(alive, workers))  # while it lives, they do
    finally:
        parent.kill()  # not waited for: a zombie still has its number
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    parent.wait()


def test_threads_of_this_process_do_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(seeds.threading, "Thread", lambda **options: started.append(options))
    seeds._end_with.cache_clear()
    seeds._end_with(os.getpid())
    assert started == []


@pytest.mark.parametrize("posix", [True, False])
def test_who_is_alive_is_known_on_every_system(monkeypatch: pytest.MonkeyPatch, posix: bool) -> None:
    monkeypatch.setattr(seeds.os, "name", "posix" if posix else "nt")
    assert seeds._alive(os.getppid())
    assert not seeds._alive(99_999_999)


@pytest.mark.parametrize("jobs", [0, -1, 10_001])
def test_a_number_of_workers_that_makes_no_sense_is_refused(jobs: int) -> None:
    with pytest.raises(ValueError, match=rf"^jobs must be a whole number from 1 to 10,000, got '{jobs}'"):
        replicate(lambda seed, arm: {}, arms=["a"], seeds=[0], jobs=jobs)
    with pytest.raises(ValueError, match="whole number"):
        run_many(lambda seed, arm: {}, [(0, "a")], jobs=jobs)
