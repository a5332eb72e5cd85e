"""What pip installs: the package, its data and its lessons, and that they work from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel: what stands in site-packages after an installation."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = (folder / "dist").glob("kdref-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *words: str) -> str:
    """Run a command as in an environment that holds the wheel, from a folder that holds nothing."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path, pattern: str) -> set[str]:
    """Their names, but for locks and what else is hidden."""
    return {
        path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."
    }


def test_the_wheel_holds_package_data_and_lessons_and_nothing_else(installed: Path) -> None:
    assert files(installed / "kdref", "**/*.py") == files(ROOT / "kdref", "**/*.py")
    assert (installed / "kdref" / "lab" / "course" / "jupyter" / "overrides.json").is_file()
    assert files(installed / "kdref" / "_data", "**/*") == files(ROOT / "data", "**/*")
    lessons = files(ROOT / "notebooks", "**/*.ipynb") | files(ROOT / "notebooks", "*.md")
    assert lessons <= files(installed / "kdref" / "_notebooks", "**/*")
    assert not files(installed / "kdref" / "_notebooks", "src/*")
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"kdref"}


def test_the_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    where = (
        "import kdref; from kdref.lab import course, data; print(kdref.__file__, data.digits(), course.work_folder())"
    )
    found = run(installed, tmp_path, "-c", where)
    assert str(installed) in found
    assert "1000 train" in found
    assert str(tmp_path / "work") in found
    assert "05  relation_based" in run(installed, tmp_path, "-m", "kdref", "lessons")
    run(installed, tmp_path, "-m", "kdref", "copy", "relation")
    assert files(tmp_path, "*.py") == {path.name for path in (ROOT / "kdref" / "relation").glob("[a-z]*.py")}
    run(installed, tmp_path, "-c", "from kdref.lab import course; course.make_copies(course.work_folder())")
    assert files(tmp_path / "work", "0*.ipynb") == files(ROOT / "notebooks", "0*.ipynb")
