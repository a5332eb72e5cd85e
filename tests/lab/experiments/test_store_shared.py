"""Stored runs that others write to, or that something has damaged: none is lost, and each fault is named."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import pytest

from kdref.lab.course import doctor
from kdref.lab.experiments import __main__ as command
from kdref.lab.experiments import load, provenance, response_losses, response_patience, store

NAME = "response_patience"
# 48 runs of 10 ms, begun when three processes are ready; every start of one is a line in the folder's log
SCRIPT = """
import os, sys, time
from pathlib import Path
from kdref.lab.experiments import __main__ as command, response_patience
def slow(seed, arm):
    with open(os.environ["KDREF_DATA"] + "/log", "a") as log:
        log.write(f"{seed} {arm}\\n")
    time.sleep(0.01)
    return {"accuracy": 0.5}
response_patience.run = slow
response_patience.ARMS = ("a", "b")
folder = Path(os.environ["KDREF_DATA"])
(folder / f"{os.getpid()}.ready").touch()
while len(list(folder.glob("*.ready"))) < 3:
    time.sleep(0.01)
sys.exit(command.main(["response_patience", "--jobs", "1"]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and an experiment that takes no time, under the name of a real one."""
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    monkeypatch.setattr(response_patience, "run", quick)
    monkeypatch.setattr(response_patience, "ARMS", ("a", "b"))
    return tmp_path


def quick(seed: int, arm: str) -> dict[str, float]:
    return {"accuracy": 0.5}


def run(*arguments: str) -> int:
    return command.main([NAME, "--jobs", "1", *arguments])


def stored_pairs() -> set[tuple[int, str]]:
    return store.pairs((store.read(NAME) or {"runs": []})["runs"])


# Several processes at once --------------------------------------------------------------------------------------------


def test_processes_on_one_experiment_lose_no_run_and_rarely_do_one_twice(folder: Path) -> None:
    command = [sys.executable, "-c", SCRIPT]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=120) for process in several]
    assert [process.returncode for process in several] == [0, 0, 0], outputs
    assert stored_pairs() == set(store.wanted(NAME))
    started = (folder / "log").read_text().splitlines()
    assert len(set(started)) == 48
    assert len(started) < 48 * 3 / 2  # each on its own would have started 144


def test_threads_that_add_at_once_lose_no_run(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rows = [{"arm": "a", "seed": seed, "accuracy": 0.5} for seed in range(40)]
        assert all(pool.map(lambda row: store.add(NAME, row, code_sha256="this"), rows))
    assert stored_pairs() == {(seed, "a") for seed in range(40)}


def test_a_run_that_is_there_stays(folder: Path) -> None:
    assert store.add(NAME, {"arm": "a", "seed": 0, "accuracy": 0.25}, code_sha256="this")
    assert not store.add(NAME, {"arm": "a", "seed": 0, "accuracy": 0.75}, code_sha256="this")
    assert load(NAME)["accuracy"].tolist() == [0.25]


def test_what_another_process_has_stored_meanwhile_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def meanwhile(seed: int, arm: str) -> dict[str, float]:
        ran.append((seed, arm))
        if len(ran) == 1:
            for other in store.wanted(NAME, [0])[1:11]:
                store.add(
                    NAME, {"seed": other[0], "arm": other[1], "accuracy": 0.25}, code_sha256=store.code_hash(NAME)
                )
        return quick(seed, arm)

    monkeypatch.setattr(response_patience, "run", meanwhile)
    assert run("--seeds", "0") == 0
    assert len(ran) == 16 - 10
    assert len(stored_pairs()) == 16
    assert (load(NAME)["accuracy"] == 0.25).sum() == 10


def test_a_run_that_was_not_done_is_not_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_many", lambda run, pairs, jobs: [{"seed": 0, "arm": "a"}])
    assert run() == 0
    assert not store.results_file(NAME).exists()  # the file it was in has been set aside meanwhile, say


def test_the_second_process_takes_another_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders: list[list[tuple[int, str]]] = []
    monkeypatch.setattr(command, "run_many", lambda run, pairs, jobs: orders.append(list(pairs)) or [])
    run()
    assert capsys.readouterr().out.count("another process") == 0
    with store.locked(NAME, "running"):
        run()
    assert capsys.readouterr().out.count("another process") == 1
    assert orders[0] == store.wanted(NAME)
    assert orders[1] != orders[0]
    assert sorted(orders[1]) == sorted(orders[0])


def test_runs_of_other_code_are_not_mixed_even_if_the_file_appears_or_the_code_changes_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began_with = store.code_hash(NAME)

    def edited(seed: int, arm: str) -> dict[str, float]:
        monkeypatch.setattr(store, "code_hash", lambda name: "of what stands in the file by now")
        return quick(seed, arm)

    monkeypatch.setattr(response_patience, "run", edited)
    assert run("--seeds", "0") == 0
    assert provenance(NAME)["code_sha256"] == began_with
    assert run("--seeds", "1000") == 1
    assert "--restart" in capsys.readouterr().out
    with pytest.raises(store.StoredRunsError, match="made by other code than this run"):
        store.add(NAME, {"arm": "a", "seed": 5000, "accuracy": 0.5}, code_sha256="other")
    assert len(stored_pairs()) == 16


def test_a_lock_that_is_held_makes_the_writer_wait(folder: Path) -> None:
    lock = filelock.FileLock(folder / "results" / f".{NAME}.writing.lock", thread_local=False)
    (folder / "results").mkdir()
    with ThreadPoolExecutor(1) as pool:
        with lock:
            added = pool.submit(store.add, NAME, {"arm": "a", "seed": 0, "accuracy": 0.5}, code_sha256="this")
            time.sleep(0.2)
            assert not added.done()
            assert not store.results_file(NAME).exists()
        assert added.result(timeout=20)


# Damaged files --------------------------------------------------------------------------------------------------------


def flip(text: str) -> str:
    return text.replace('"accuracy": 0.5', '"accuracy": 0.6', 1)


DAMAGES = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "not UTF-8": lambda text: text[:20] + "\udcff",
    "no object": lambda text: "[1, 2]",
    "another experiment's": lambda text: text.replace(NAME, "response_losses"),
    "a digit flipped": flip,
    "a run taken out": lambda text: "".join(line for line in text.splitlines(True) if '"seed": 3,' not in line),
    "without runs": lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "runs"}),
    "without what made it": lambda text: text.replace("code_sha256", "code"),
    "a run twice": lambda text: text.replace('"seed": 1,', '"seed": 0,'),
    "runs that are no runs": lambda text: json.dumps({"experiment": NAME, "code_sha256": "", "runs": [1, 2]}),
}


def results() -> doctor.Finding:
    """What the doctor finds of the stored runs."""
    return next(finding for finding in doctor.examine() if finding.name == "results")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_by_the_error_the_list_and_the_doctor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    monkeypatch.setattr(store, "names", lambda: ["response_losses", NAME])
    monkeypatch.setattr(response_losses, "ARMS", ("a",))
    monkeypatch.setattr(response_losses, "run", quick)
    assert run() == 0
    assert command.main(["response_losses", "--jobs", "1"]) == 0
    assert results() == doctor.Finding("results", "2 experiments, all runs as stored")
    path = store.results_file(NAME)
    path.write_bytes(DAMAGES[damage](path.read_text(encoding="utf-8")).encode(errors="surrogateescape"))

    for function in (load, provenance):
        with pytest.raises(store.StoredRunsError) as caught:
            function(NAME)
        for words in (
            f"{path} is damaged",
            f"git checkout -- data/results/{NAME}.json",
            f"experiments {NAME} --restart",
        ):
            assert words in str(caught.value)
    finding = results()
    assert finding.value == f"missing or damaged: {NAME}"
    assert finding.remedy == str(caught.value)

    capsys.readouterr()
    assert command.main([]) == 1
    listed = capsys.readouterr()
    counts = {line.split()[0]: line.split()[1] for line in listed.out.splitlines()}
    assert counts == {"response_losses": "24", NAME: "no"}
    assert listed.err == f"{caught.value}\n"

    assert run() == 1  # it is not written over
    assert capsys.readouterr().err == f"{caught.value}\n"
    assert run("--restart") == 0
    assert store.verify(NAME) == ""


def test_a_missing_file_an_unfinished_one_and_one_of_other_code_are_named_by_the_doctor(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "names", lambda: [NAME])
    path = store.results_file(NAME)
    assert f"{path} is missing. Restore it (git checkout" in results().remedy
    assert run("--seeds", "0", "1000") == 0
    remedy = results().remedy
    assert f"{path} lacks 16 of 48 runs. Make them with: python -m kdref.lab.experiments {NAME}" in remedy
    assert run("--seeds", "2000", "3000") == 0  # more than wanted is no fault
    assert results().remedy == ""
    with monkeypatch.context() as patch:
        patch.setattr(store, "code_hash", lambda name: "of other code")
        assert f"{path} was made by other code than what is here" in results().remedy


def test_a_file_from_before_there_was_a_hash_of_the_runs_is_read(folder: Path) -> None:
    assert run() == 0
    path = store.results_file(NAME)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    del content["runs_sha256"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert store.verify(NAME) == ""
    assert len(load(NAME)) == 48


def test_numbers_read_back_have_the_hash_they_were_written_with(folder: Path) -> None:
    awkward = {"tiny": 1e-7 / 3, "whole": 3, "third": 1 / 3, "nan": float("nan"), "infinite": float("inf"), "text": "τ"}
    store.add(NAME, {"arm": "a", "seed": 0, **awkward}, code_sha256="this")
    read = store.read(NAME)
    assert read is not None
    assert read["runs"][0]["third"] == 0.333333


@pytest.mark.parametrize("words", [["--jobs", "0"], ["--jobs", "many"], ["--seeds", "-1"], ["--seeds", "0", "x"]])
def test_a_number_that_makes_no_sense_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([NAME, *words])
    assert end.value.code == 2
    assert f"error: argument {words[0]}: must be a whole number from" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "results").exists()


def test_a_variable_that_makes_no_sense_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KDREF_JOBS", "0")
    with pytest.raises(SystemExit):
        command.main([NAME])
    assert "KDREF_JOBS must be a whole number from 1" in capsys.readouterr().err.splitlines()[-1]
    assert command.main([NAME, "--jobs", "1"]) == 0  # what is asked for comes first
