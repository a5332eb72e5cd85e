"""Stored experiments: resumed after any stop, never half written, and those we ship are whole."""

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdref.lab.experiments import __main__ as command
from kdref.lab.experiments import load, provenance, response_patience, store

ROOT = Path(__file__).resolve().parents[3]
SHARES = ("accuracy", "near", "obeys")  # near: points in the plane; obeys: problems under a new rule


def quick(seed: int, arm: str) -> dict[str, float]:
    return {"accuracy": seed + len(arm) / 100}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and an experiment that takes no time, under the name of a real one."""
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    monkeypatch.setattr(response_patience, "run", quick)
    monkeypatch.setattr(response_patience, "ARMS", ("a", "bb"))
    return tmp_path


def run(*arguments: str) -> int:
    return command.main(["response_patience", "--jobs", "1", *arguments])


def pairs() -> set[tuple[int, str]]:
    return {(run["seed"], run["arm"]) for run in (store.read("response_patience") or {"runs": []})["runs"]}


def test_every_arm_meets_every_seed_and_is_stored_with_what_made_it(folder: Path) -> None:
    assert run("--seeds", "0", "1000") == 0
    assert pairs() == {(base + i, arm) for base in (0, 1000) for i in range(8) for arm in ("a", "bb")}
    table = load("response_patience")
    assert table.query("seed == 1003 and arm == 'bb'")["accuracy"].item() == 1003.02
    made = provenance("response_patience")
    assert made["command"] == "python -m kdref.lab.experiments response_patience"
    assert set(made["versions"]) == {"python", "torch", "numpy"}
    assert "runs" not in made


def test_an_interrupted_experiment_loses_the_run_in_progress_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, str]] = []

    def interrupted(seed: int, arm: str) -> dict[str, float]:
        calls.append((seed, arm))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return quick(seed, arm)

    monkeypatch.setattr(response_patience, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("--seeds", "0")
    assert pairs() == set(calls[:5])
    assert run("--seeds", "0") == 0
    assert len(calls) == 16 + 1  # sixteen runs, and the one that was lost
    assert len(pairs()) == 16


def test_a_killed_process_leaves_a_whole_file(folder: Path) -> None:
    script = (
        "import time; from kdref.lab.experiments import __main__ as command, response_patience\n"
        "def slow(seed, arm):\n    time.sleep(0.01)\n    return {'accuracy': 0.5, 'padding': 'x' * 20_000}\n"
        "response_patience.run = slow; command.main(['response_patience', '--jobs', '1'])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = folder / "results" / "response_patience.json"
    deadline = time.monotonic() + 60
    while not (path.is_file() and len(json.loads(path.read_text(encoding="utf-8"))["runs"]) >= 5):
        assert time.monotonic() < deadline, "no runs appeared"
        time.sleep(0.02)
    process.kill()
    process.wait()
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert len(runs) >= 5
    assert all(len(run["padding"]) == 20_000 for run in runs)


def test_a_failed_write_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("response_patience", {"arm": "a", "seed": 0, "accuracy": 0.5}, code_sha256="this")

    def no_space(self: Path, *_: object, **__: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space left"):
        store.add("response_patience", {"arm": "a", "seed": 1, "accuracy": 0.5}, code_sha256="this")
    assert pairs() == {(0, "a")}


def test_other_code_is_refused_until_a_restart_sets_the_old_runs_aside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--seeds", "0") == 0
    monkeypatch.setattr(store, "code_hash", lambda name: "of other code")
    assert run("--seeds", "0") == 1
    assert "--restart" in capsys.readouterr().out
    assert run("--seeds", "1000", "--restart") == 0
    assert min(seed for seed, _ in pairs()) == 1000
    old = json.loads((folder / "results" / "response_patience.json.old").read_text(encoding="utf-8"))
    assert len(old["runs"]) == 16
    assert run("--seeds", "2000", "--restart") == 0  # and the oldest are not written over
    assert json.loads((folder / "results" / "response_patience.json.old").read_text(encoding="utf-8")) == old
    second = json.loads((folder / "results" / "response_patience.json.old2").read_text(encoding="utf-8"))
    assert {run["seed"] for run in second["runs"]} == set(range(1000, 1008))
    assert min(seed for seed, _ in pairs()) == 2000


def test_comments_and_docstrings_leave_the_hash_alone_and_a_constant_changes_it(tmp_path: Path) -> None:
    forms = {"plain": "X = 1\n", "talkative": '"""Why."""\n\nX = 1  # one\n', "other": "X = 2\n"}
    for name, text in forms.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    bare = {name: store._bare(tmp_path / f"{name}.py") for name in forms}
    assert bare["plain"] == bare["talkative"] != bare["other"]


def test_an_experiment_that_is_unknown_or_was_never_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no experiment is named 'patient': there are .*'response_patience'"):
        load("patient")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDREF_DATA", str(tmp_path))
        with pytest.raises(FileNotFoundError, match=r"python -m kdref\.lab\.experiments response_patience"):
            provenance("response_patience")


def test_without_a_name_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == store.names()
    assert all("runs stored" in line for line in lines)


def used_by_lessons() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "src").glob("*.py"))
    loaded = set(re.findall(r"experiments\.(?:load|provenance)\(\"(\w+)\"\)", text))
    return loaded | {f"{name}_tuning" for name in loaded if f"{name}_tuning" in store.names()}


def test_lessons_use_the_experiments_that_are_looked_at_below() -> None:
    expected = {"soft_targets_temperature", "response_losses", "response_losses_tuning", "response_patience"}
    assert {*expected, "response_balance"} <= used_by_lessons()


@pytest.mark.parametrize("name", store.names())
def test_stored_runs_are_finite_of_this_code_and_whole_where_a_lesson_uses_them(name: str) -> None:
    stored = store.read(name)
    if stored is None:
        assert name not in used_by_lessons(), f"python -m kdref.lab.experiments {name}"
        return
    found = [(run["seed"], run["arm"]) for run in stored["runs"]]
    wanted = store.wanted(name)
    assert len(found) == len(set(found))
    assert set(found) <= set(wanted)
    assert name not in used_by_lessons() or len(found) == len(wanted)
    assert stored["code_sha256"] == store.code_hash(name)
    seal = f'"runs_sha256": "{store._runs_hash(stored["runs"])}",'
    assert seal in store.results_file(name).read_text(encoding="utf-8"), f"made before runs had a hash; add: {seal}"
    numbers = [value for run in stored["runs"] for key, value in run.items() if key not in ("arm", "seed")]
    assert all(math.isfinite(value) for value in numbers)
    shares = [[value for key, value in run.items() if key in SHARES] for run in stored["runs"]]
    assert all(shares) or name.startswith("writing_tokenisers"), "what is measured is a share; of two tokenisers, bits"
    assert all(0 <= share <= 1 for run in shares for share in run)
    assert os.path.getsize(store.results_file(name)) < 500_000
