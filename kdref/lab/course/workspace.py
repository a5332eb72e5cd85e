"""The learner's side of the course: their own copies of the lessons.

Lesson: notebooks/00_start_here.ipynb.
"""

import json
import os
import shutil
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Lesson",
    "find_all",
    "home_folder",
    "lesson_table",
    "lessons",
    "make_copies",
    "reset",
    "reset_all",
    "work_folder",
]

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


def find_all(wanted: Sequence[str], among: list[Lesson]) -> list[Lesson]:
    """Look lessons up by number or topic.

    Args:
        wanted: What to look up.
        among: The lessons there are.

    Raises:
        ValueError: If there is no such lesson; names all that are wrong.
    """
    names = {name: lesson for lesson in among for name in (lesson.number, lesson.topic, lesson.path.stem)}
    found = {word: names.get(word.removesuffix(".ipynb")) or names.get(word and word.zfill(2)) for word in wanted}
    if unknown := [word for word, lesson in found.items() if lesson is None]:
        there = ", ".join(lesson.path.stem for lesson in among)
        raise ValueError(f"no lesson {', '.join(map(repr, unknown))}: there are {there}")
    return [lesson for lesson in found.values() if lesson is not None]


def home_folder() -> Path:
    """What ``work`` lies in."""
    repository = PACKAGE.parent
    return repository if (repository / "notebooks").is_dir() and (repository / "tasks.py").is_file() else Path.cwd()


def work_folder() -> Path:
    """The learner's folder: ``work`` in the repository, or in the current folder when kdref came as a wheel."""
    return home_folder() / "work"


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
            with _copied(folder / name, work / name) as copy:
                made += [work / name] if _put(copy, work / name) else []
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
    (result,) = reset_all([lesson], work=work, folder=folder)
    return result


def reset_all(
    wanted: Sequence[str], *, work: Path | None = None, folder: Path | None = None
) -> Iterator[tuple[Path, Path | None]]:
    """Reset several lessons, each once and as it is asked for; none if there is no lesson of one of the names.

    Args:
        wanted: Their numbers or topics.
        work: As in ``reset``.
        folder: As in ``lessons``.

    Returns:
        What ``reset`` returns, lesson by lesson.

    Raises:
        ValueError: If there is no such lesson; names all that are wrong.
    """
    work, there = work or work_folder(), lessons(folder)
    tracked = dict.fromkeys(find_all(wanted, there))
    return ((work / lesson.path.name, _reset(lesson.path, work / lesson.path.name)) for lesson in tracked)


def _reset(tracked: Path, mine: Path) -> Path | None:
    """Move my copy aside and make a fresh one. Another process may be doing the same at this moment."""
    with _copied(tracked, mine) as fresh:  # before anything is moved, since the disk may be full
        backup = _move_aside(mine)
        _put(fresh, mine)
    return backup


def _notebooks_folder() -> Path:
    shipped = PACKAGE / "_notebooks"
    return shipped if shipped.is_dir() else PACKAGE.parent / "notebooks"


def _read(path: Path) -> Lesson:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    head = "".join(next((cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"), ""))
    paragraphs = [" ".join(part.split()).replace("*", "") for part in head.split("\n\n") if part.strip()]
    title, question = [*paragraphs, "", ""][:2]
    measured = notebook["metadata"].get("kdref", {})
    return Lesson(path, title.lstrip("# "), question, measured.get("minutes"), measured.get("seconds"))


def _move_aside(mine: Path) -> Path | None:
    """Give my copy a name that nothing else has, and say which; None if there is no copy."""
    if not mine.exists():
        return None
    stem = f"{mine.stem}_{time.strftime('%Y-%m-%d_%H%M%S')}"
    for count in range(1, 1000):
        backup = mine.with_name(f"{stem}{f'_{count}' if count > 1 else ''}{mine.suffix}")
        try:
            backup.open("x").close()  # from now on it is taken: a process that resets at the same time takes another
        except FileExistsError:
            continue
        try:
            return mine.replace(backup)
        except FileNotFoundError:  # the other process has moved it
            backup.unlink()
            return None
    raise FileExistsError(f"{mine} has a thousand backups of this second")


@contextmanager
def _copied(source: Path, target: Path) -> Iterator[Path]:
    """A copy beside the target, under a name of its own, for as long as it takes to put it there."""
    from kdref.lab.data.files import temporary_beside

    with temporary_beside(target) as temporary:
        shutil.copyfile(source, temporary)
        os.chmod(temporary, 0o644)
        yield temporary


def _put(temporary: Path, target: Path) -> bool:
    """Give a file its name, at one blow, unless another file has it: that one stays, and the answer is False."""
    try:
        os.link(temporary, target)
    except OSError:  # there is one, or this disk has no links
        if target.exists():
            return False
        temporary.replace(target)
    return True
