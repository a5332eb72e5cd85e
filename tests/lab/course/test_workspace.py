"""The learner's copies of the lessons, and the command that opens them."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from kdref.__main__ import main
from kdref.lab import course
from kdref.lab.course import workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tracked lessons."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name, head, measured in (
        ("00_start_here", ["# 00 · Start here\n", "\n", "*Does it work?*\n", "And then?\n"], {}),
        ("01_soft_targets", ["# 01\n\nWhat does a teacher know?\n\nMore."], {"minutes": 40, "seconds": 30}),
    ):
        notebook = {"cells": [{"cell_type": "markdown", "source": head}], "metadata": {"kdref": measured}}
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that is not this repository, with those lessons."""
    monkeypatch.setattr(workspace, "home_folder", lambda: folder.parent)
    monkeypatch.setattr(workspace, "_notebooks_folder", lambda: folder)
    return folder.parent


def test_copies_are_made_once_and_never_overwritten(home: Path) -> None:
    work = course.work_folder()
    assert [path.name for path in course.make_copies(work)] == ["00_start_here.ipynb", "01_soft_targets.ipynb"]
    (work / "01_soft_targets.ipynb").write_text("my answers")
    (work / "00_start_here.ipynb").unlink()
    assert [path.name for path in course.make_copies(work)] == ["00_start_here.ipynb"]
    assert (work / "01_soft_targets.ipynb").read_text() == "my answers"
    assert sorted(path.name for path in work.iterdir()) == ["00_start_here.ipynb", "01_soft_targets.ipynb"]


def test_solutions_lie_where_the_lesson_links_to_and_are_never_overwritten(home: Path, folder: Path) -> None:
    (folder / "solutions").mkdir()
    shutil.copyfile(folder / "01_soft_targets.ipynb", folder / "solutions" / "01_soft_targets.ipynb")
    work = course.work_folder()
    made = [path.relative_to(work).as_posix() for path in course.make_copies(work)]
    assert made == ["00_start_here.ipynb", "01_soft_targets.ipynb", "solutions/01_soft_targets.ipynb"]
    (work / "solutions" / "01_soft_targets.ipynb").write_text("tried")
    assert course.make_copies(work) == []
    assert (work / "solutions" / "01_soft_targets.ipynb").read_text() == "tried"


def test_the_glossary_lies_where_lessons_link_to_and_is_opened_to_be_read(home: Path, folder: Path) -> None:
    (folder / "GLOSSARY.md").write_text("# Glossary\n")
    work = course.work_folder()
    assert work / "GLOSSARY.md" in course.make_copies(work)
    (work / "GLOSSARY.md").write_text("my notes")
    assert course.make_copies(work) == []
    assert (work / "GLOSSARY.md").read_text() == "my notes"
    overrides = json.loads(
        (workspace.PACKAGE / "lab" / "course" / "jupyter" / "overrides.json").read_text(encoding="utf-8")
    )
    assert overrides["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]["markdown"] == "Markdown Preview"


def test_reset_restores_the_lesson_and_keeps_every_copy_of_mine(home: Path, folder: Path) -> None:
    course.make_copies(course.work_folder())
    mine = course.work_folder() / "01_soft_targets.ipynb"
    backups = []
    for answer in ("first", "second", "third"):  # within one second
        mine.write_text(answer)
        fresh, backup = course.reset("01")
        assert fresh == mine
        assert mine.read_bytes() == (folder / mine.name).read_bytes()
        backups.append(backup)
    assert [backup.read_text() for backup in backups] == ["first", "second", "third"]
    assert all(re.match(r"01_soft_targets_\d{4}-\d\d-\d\d_\d{6}(_\d)?\.ipynb", backup.name) for backup in backups)


def test_reset_loses_nothing_when_the_disk_is_full(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course.make_copies(course.work_folder())
    mine = course.work_folder() / "01_soft_targets.ipynb"
    mine.write_text("my answers")

    def full(source: object, target: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            course.reset("01")
    left = {path.name: path.read_text() for path in course.work_folder().iterdir()}
    assert left["01_soft_targets.ipynb"] == "my answers"
    assert not [name for name in left if name.startswith(".")], "a temporary file is left over"


def test_reset_of_a_lesson_without_a_copy_makes_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset", "soft_targets", "0"]) == 0
    assert len(list(course.work_folder().iterdir())) == 2
    assert "is as new\n" in capsys.readouterr().out


def test_reset_does_nothing_at_all_when_one_of_several_names_is_wrong(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    course.make_copies(course.work_folder())
    mine = course.work_folder() / "01_soft_targets.ipynb"
    mine.write_text("my answers")
    before = sorted(course.work_folder().iterdir())
    for names in (["01", "77", "soft_target"], ["77", "01", "soft_target"]):
        assert main(["reset", *names]) == 1
        assert "no lesson '77', 'soft_target': there are 00_start_here" in capsys.readouterr().err
        assert mine.read_text() == "my answers"
        assert sorted(course.work_folder().iterdir()) == before


@pytest.mark.parametrize("name", ["", " ", ".ipynb", "-1", "000", "1.5", "01_", "../01_soft_targets"])
def test_what_names_no_lesson_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "execv", lambda program, command: pytest.fail("started"))
    for call in (lambda: course.reset(name), lambda: course.start(lesson=name)):
        with pytest.raises(ValueError, match=re.escape(f"no lesson {name!r}: there are 00_start_here")):
            call()
    assert not course.work_folder().exists()


@pytest.mark.parametrize("name", ["1", "01", "soft_targets", "01_soft_targets", "01_soft_targets.ipynb"])
def test_a_lesson_has_a_number_and_names(home: Path, name: str) -> None:
    assert course.reset(name)[0].name == "01_soft_targets.ipynb"


def test_a_lesson_named_twice_is_reset_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    course.make_copies(course.work_folder())
    assert main(["reset", "01", "soft_targets", "1"]) == 0
    assert capsys.readouterr().out.count("is as new") == 1
    assert len(list(course.work_folder().glob("01_*"))) == 2


@pytest.mark.parametrize("other", ["has moved it", "is done"])
def test_two_that_reset_at_the_same_moment_lose_no_copy(
    home: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    course.make_copies(course.work_folder())
    mine = course.work_folder() / "01_soft_targets.ipynb"
    fresh = mine.read_text()
    mine.write_text("my answers")
    replace, calls = Path.replace, []

    def meanwhile(self: Path, target: Path) -> Path:
        """Another process resets just before this one moves the file."""
        calls.append(target)
        if len(calls) == 1:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 1)
                if other == "is done":
                    course.reset("01")
                else:
                    workspace._move_aside(mine)
        return replace(self, target)

    monkeypatch.setattr(time, "strftime", lambda form: "now")
    monkeypatch.setattr(Path, "replace", meanwhile)
    course.reset("01")
    assert mine.read_text() == fresh
    mine.unlink()
    kept = sorted(path.read_text() for path in course.work_folder().iterdir() if path.name.startswith("01"))
    assert kept == sorted(["my answers", *([fresh] if other == "is done" else [])])


def test_what_is_saved_while_reset_is_at_work_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course.make_copies(course.work_folder())
    mine = course.work_folder() / "01_soft_targets.ipynb"
    move = workspace._move_aside
    monkeypatch.setattr(workspace, "_move_aside", lambda path: (move(path), path.write_text("saved"))[0])
    course.reset("01")
    assert mine.read_text() == "saved"


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_while_a_copy_is_made_stays(home: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    mine = course.work_folder() / "01_soft_targets.ipynb"
    copyfile = shutil.copyfile

    def meanwhile(source: Path, target: Path) -> None:
        copyfile(source, target)
        if source.name == mine.name:
            mine.write_text("saved by JupyterLab")

    def no_links(source: Path, target: Path) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    assert [path.name for path in course.make_copies(course.work_folder())] == ["00_start_here.ipynb"]
    assert mine.read_text() == "saved by JupyterLab"
    assert len(list(course.work_folder().iterdir())) == 2


def test_what_a_killed_process_left_of_a_copy_is_cleared(home: Path) -> None:
    work = course.work_folder()
    work.mkdir()
    (work / ".01_soft_targets.ipynb.99999999.tmp").touch()
    course.make_copies(work)
    assert sorted(path.name for path in work.iterdir()) == ["00_start_here.ipynb", "01_soft_targets.ipynb"]


def test_reset_of_an_unknown_lesson_names_those_there_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset", "77"]) == 1
    assert "no lesson '77': there are 00_start_here, 01_soft_targets" in capsys.readouterr().err


def test_the_table_has_number_topic_question_and_measured_minutes(folder: Path) -> None:
    lines = course.lesson_table(folder).splitlines()
    assert lines[2].split() == ["00", "start_here", "-", "-", "Does", "it", "work?", "And", "then?"]
    assert re.search(r"^01  soft_targets\s+40 min\s+30 s\s+What does a teacher know\?$", lines[3])
    assert len(lines) == 4


def test_no_lessons_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="git checkout -- notebooks"):
        course.lessons(tmp_path)


def test_work_lies_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert course.work_folder() == Path(__file__).resolve().parents[3] / "work"


def test_work_lies_in_the_current_folder_when_installed_from_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    package = tmp_path / "site-packages" / "kdref"
    shutil.copytree(folder, package / "_notebooks")
    monkeypatch.setattr(workspace, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    assert course.work_folder() == tmp_path / "work"
    assert len(course.lessons()) == 2
