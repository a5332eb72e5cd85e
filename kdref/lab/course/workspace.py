"""The learner's side of the course: their own copies of the lessons, and JupyterLab on top of them.

Lesson: notebooks/00_start_here.ipynb.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

__all__ = ["Lesson", "lesson_table", "lessons", "make_copies", "reset", "start", "work_folder"]

PACKAGE = Path(__file__).resolve().parents[2]
GLOSSARY = "GLOSSARY.md"  # beside the lessons


@dataclass(frozen=True)
class Lesson:
    """What a lesson's notebook says about itself."""

    path: Path  # the tracked notebook
    title: str
    question: str
    minutes: int | None  # to read, measured; None before it was built
    seconds: int | None  # to run

    @property
    def number(self) -> str:
        """The two digits that lead to everything of the lesson."""
        return self.path.stem[:2]

    @property
    def topic(self) -> str:
        """The name that the notebook shares with its heart file."""
        return self.path.stem[3:]


def lessons(folder: Path | None = None) -> list[Lesson]:
    """All lessons, in order.

    Args:
        folder: Where their notebooks are; by default what came with the package.

    Raises:
        FileNotFoundError: If there are none.
    """
    folder = folder or _notebooks_folder()
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise FileNotFoundError(f"no lessons in {folder}: restore them (git checkout -- notebooks) or reinstall kdref")
    return [_read(path) for path in paths]


def lesson_table(folder: Path | None = None) -> str:
    """List the lessons, one paragraph each, with the minutes measured.

    Args:
        folder: As in ``lessons``.
    """
    found = lessons(folder)
    width = max(len(lesson.topic) for lesson in found)
    head = f"NN  {'lesson':{width}}  read    run     the question it answers"
    lines = [head, "-" * len(head)]
    for lesson in found:
        read = "-" if lesson.minutes is None else f"{lesson.minutes} min"
        run = "-" if lesson.seconds is None else f"{lesson.seconds} s"
        start = f"{lesson.number}  {lesson.topic:{width}}  {read:7} {run:7} "
        lines += textwrap.wrap(start + lesson.question, width=120, subsequent_indent=" " * len(start))
    return "\n".join(lines)


def work_folder() -> Path:
    """The learner's folder: ``work`` in the repository, or in the current folder when kdref came as a wheel."""
    return _home() / "work"


def make_copies(work: Path, folder: Path | None = None) -> list[Path]:
    """Copy the lessons, solutions and glossary that the learner has not got yet; what is there is never touched.

    Args:
        work: The learner's folder; made if need be.
        folder: As in ``lessons``.

    Returns:
        The copies made now.
    """
    folder = folder or _notebooks_folder()
    lesson_names = [lesson.path.name for lesson in lessons(folder)]
    made = []
    linked = [*(f"solutions/{name}" for name in lesson_names), GLOSSARY]  # from the lessons
    for name in (*lesson_names, *linked):
        if (folder / name).is_file() and not (work / name).exists():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            made.append(_copy_whole(folder / name, work / name))
    return made


def reset(lesson: str, *, work: Path | None = None, folder: Path | None = None) -> tuple[Path, Path | None]:
    """Put a fresh copy of a lesson in the learner's folder, after moving theirs aside.

    Args:
        lesson: Its number or topic.
        work: The learner's folder; ``work_folder()`` by default.
        folder: As in ``lessons``.

    Returns:
        The fresh copy, and the backup of the old one (None if there was none).

    Raises:
        ValueError: If there is no such lesson.
    """
    work = work or work_folder()
    tracked = _find(lesson, lessons(folder)).path
    mine, backup = work / tracked.name, None
    work.mkdir(parents=True, exist_ok=True)
    if mine.exists():
        backup = _unused(work / f"{mine.stem}_{time.strftime('%Y-%m-%d_%H%M%S')}.ipynb")
        mine.rename(backup)
    return _copy_whole(tracked, mine), backup


def start(*, lesson: str = "00", browser: bool = True) -> int:
    """Open JupyterLab on the learner's copies, for this computer only, with Jupyter's token.

    Args:
        lesson: Number or topic of the lesson to open.
        browser: False prints the address instead; so does a Linux machine without a display.

    Returns:
        Jupyter's exit code.

    Raises:
        ImportError: If JupyterLab is not installed.
        ValueError: If there is no such lesson.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed")
    notebook = work_folder() / _find(lesson, lessons()).path.name
    made = make_copies(work_folder())
    print(f"Your copies of the lessons are in {work_folder()} ({len(made)} new). They are never overwritten.")
    command = _jupyter(notebook, browser=browser and _has_display())
    if "--no-browser" in command:
        print("Open the address with 127.0.0.1 that Jupyter prints below; the token in it is your key.", flush=True)
    if os.name == "posix":
        os.chdir(_home())
        os.execv(command[0], command)  # this process becomes the server, so that signals reach it
    return _wait(subprocess.Popen(command, cwd=_home()))


def _jupyter(notebook: Path, *, browser: bool) -> list[str]:
    address = "/lab/tree/" + quote(notebook.relative_to(_home()).as_posix())  # what it opens, or prints for you to open
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={_home()}", f"--LabApp.default_url={address}"]
    command += ["--ServerApp.ip=127.0.0.1"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # offline
    command += [
        f"--LabApp.app_settings_dir={Path(__file__).parent / 'jupyter'}"
    ]  # overrides.json: and don't ask about news
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers have no other user, and Jupyter refuses root otherwise
    return command if browser else [*command, "--no-browser"]


def _wait(server: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:  # Jupyter got it too, and asks whether to stop
            continue


def _has_display() -> bool:
    graphical = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) or not sys.platform.startswith("linux")


def _home() -> Path:
    repository = PACKAGE.parent
    return repository if (repository / "notebooks").is_dir() and (repository / "tasks.py").is_file() else Path.cwd()


def _notebooks_folder() -> Path:
    shipped = PACKAGE / "_notebooks"
    return shipped if shipped.is_dir() else PACKAGE.parent / "notebooks"


def _find(wanted: str, among: list[Lesson]) -> Lesson:
    for lesson in among:
        if wanted.removesuffix(".ipynb") in (lesson.topic, lesson.path.stem) or wanted.zfill(2) == lesson.number:
            return lesson
    raise ValueError(f"no lesson {wanted!r}: there are {', '.join(lesson.path.stem for lesson in among)}")


def _read(path: Path) -> Lesson:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    head = "".join(next((cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"), ""))
    paragraphs = [" ".join(part.split()).replace("*", "") for part in head.split("\n\n") if part.strip()]
    title, question = [*paragraphs, "", ""][:2]
    measured = notebook["metadata"].get("kdref", {})
    return Lesson(path, title.lstrip("# "), question, measured.get("minutes"), measured.get("seconds"))


def _unused(path: Path) -> Path:
    candidates = [path, *(path.with_stem(f"{path.stem}_{count}") for count in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())


def _copy_whole(source: Path, target: Path) -> Path:
    """Copy a file so that the target is there as a whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".copying_")
    os.close(handle)
    try:
        shutil.copyfile(source, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target
