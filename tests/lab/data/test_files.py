"""Files are written as a whole or not at all, and what a killed writer left behind goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdref.lab.data.files import write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert write_whole(path, b"old") == path
    assert write_whole(path, b"new") == path
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_what_stops_the_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "a.json").write_bytes(b"old")

    def stopped(self: Path, content: bytes) -> int:
        self.touch()
        raise error

    monkeypatch.setattr(Path, "write_bytes", stopped)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_behind_is_cleared_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    script = "import os, sys; open(f'{sys.argv[1]}/.a.json.{os.getpid()}.tmp', 'w').close(); os._exit(9)"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 9
    assert len(names(tmp_path)) == 2
    others = [
        f".a.json.{os.getppid()}.tmp",
        ".a.json.notes.tmp",
        ".b.json.99999999.tmp",
        "a.json.99999999.tmp",
        "b.tmp",
    ]
    for name in others:  # of a process that is at work, of another file, somebody's own
        (tmp_path / name).touch()
    write_whole(tmp_path / "a.json", b"new")
    assert names(tmp_path) == sorted(["a.json", *others])
