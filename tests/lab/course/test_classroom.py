"""Twenty people on one server: kernels side by side on one installation that none of them may change."""

import compileall
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

from kdref.lab.course import classroom, notebooks, workspace

ROOT = Path(__file__).resolve().parents[3]
KERNELS = 8


class Class(NamedTuple):
    """What was there before and after, and what became of the learners."""

    installed: Path
    before: dict[str, str]
    after: dict[str, str]
    learners: list[classroom.Learner]


@pytest.fixture(scope="module")
def lesson_00(tmp_path_factory: pytest.TempPathFactory) -> Class:
    """Eight kernels run lesson 00 on an installation like that of a wheel, compiled and read-only."""
    folder = tmp_path_factory.mktemp("server")
    installed = folder / "site-packages"
    parts = {"kdref": "kdref", "data": "kdref/_data", "notebooks": "kdref/_notebooks"}
    for source, target in parts.items():
        shutil.copytree(ROOT / source, installed / target, ignore=shutil.ignore_patterns("__pycache__", "src"))
    doctor = installed / "kdref" / "lab" / "course" / "doctor.py"
    code = doctor.read_text(encoding="utf-8")
    assert code.count("\nBENCHMARK_SECONDS = 5.0\n") == 1
    doctor.write_text(code.replace("SECONDS = 5.0", "SECONDS = 0.1"), encoding="utf-8")  # or eight measure each other
    assert compileall.compile_dir(installed, quiet=1)
    for path in [*installed.rglob("*"), installed]:  # root may write all the same: hence the hashes
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = hashes(installed)
    environment = {**notebooks.environment(), "PYTHONPATH": str(installed)}
    learners = classroom.together("00", KERNELS, folder / "homes", environment, timeout=600)
    after = hashes(installed)
    for path in [installed, *installed.rglob("*")]:
        path.chmod(0o755)  # so that pytest can remove it
    return Class(installed, before, after, learners)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outputs(learner: classroom.Learner) -> list[Any]:
    """What the cells printed and drew, without the doctor's, who measures, and the last, which tells where it runs."""
    cells = [cell for cell in learner.notebook.cells[:-1] if cell.cell_type == "code"]
    found = [output for cell in cells if "doctor.examine" not in cell.source for output in cell.outputs]
    for output in found:
        output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # a number drawn at random
    return found


def test_eight_kernels_run_lesson_00_and_its_fits_at_once(lesson_00: Class) -> None:
    learners = lesson_00.learners
    assert [learner.error for learner in learners] == [""] * KERNELS
    assert max(learner.begin for learner in learners) < min(learner.end for learner in learners)
    package = str(lesson_00.installed / "kdref" / "__init__.py")
    assert [learner.package for learner in learners] == [package] * KERNELS
    assert any("lab.fit(" in cell.source for cell in learners[0].notebook.cells)
    assert all(0 < learner.own <= learner.resident for learner in learners)


def test_none_of_them_changes_the_installation_or_the_data(lesson_00: Class) -> None:
    assert lesson_00.before == lesson_00.after
    assert any(name.startswith("kdref/_data/") for name in lesson_00.before)


def test_none_of_them_disturbs_what_another_computes(lesson_00: Class) -> None:
    first, *others = map(outputs, lesson_00.learners)
    assert len(first) > 8
    assert any("image/png" in output.get("data", {}) for output in first)
    assert [number for number, other in enumerate(others, 2) if other != first] == []


def test_each_learner_keeps_to_a_folder_of_their_own(lesson_00: Class) -> None:
    homes = lesson_00.installed.parent / "homes"
    assert sorted(homes.iterdir()) == sorted(learner.folder for learner in lesson_00.learners)
    for learner in lesson_00.learners:
        assert {path.name for path in learner.folder.iterdir()} <= {"work", ".ipython", ".matplotlib", ".cache"}


@pytest.fixture
def short_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A course of one lesson, in which the first learner fails."""
    code = "import os; assert 'learner_1' not in os.getcwd(), 'not here'"
    lesson = new_notebook(cells=[new_markdown_cell("# 01 A\n\nB?"), new_code_cell(code)])
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_a.ipynb").write_text(writes(lesson), encoding="utf-8")
    monkeypatch.setattr(workspace, "_notebooks_folder", lambda: tmp_path / "notebooks")


def test_a_kernel_that_fails_is_reported_and_does_not_stop_the_others(
    short_lesson: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classroom.main(["--kernels", "2", "--lesson", "01"]) == 1
    failed, ran = capsys.readouterr().out.split("learner_2")
    assert "AssertionError: not here" in failed
    assert re.match(r" +\d+ s +\d+ MB, \d+ of them its own\ndata as published\n", ran)


def test_what_cannot_be_run_is_said(short_lesson: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert classroom.main(["--lesson", "77"]) == 1
    assert "no lesson '77'" in capsys.readouterr().err
    assert classroom.main(["--kernels", "0"]) == 1
    assert "at least one kernel is needed, got 0" in capsys.readouterr().err
