"""From a lesson's source to what its notebooks must hold: the lesson, and its solutions.

``notebooks/src/NN_topic.py`` (jupytext's percent format) is what we edit. The lesson is every cell but those tagged
"solution"; the solutions notebook is the cells tagged "setup", and the exercises with "solution" cells in place of the
stubs. Tags: setup, exercise (text and stub), solution, check (the ``lab.check`` call), nbval-ignore-output,
readme-picture (the one figure that the README shows). In the first cell, ``{minutes}`` and ``{seconds}`` stand for what
the builder estimates and measures. A section whose heading ends in "(in depth)" can be skipped on a first reading; its
minutes are counted apart, and the first cell tells them in place of ``{in_depth}``.

Lesson: notebooks/00_start_here.ipynb.
"""

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

__all__ = ["METADATA", "lesson_of", "minutes_in_depth", "minutes_to_read", "read_source", "round_up", "solutions_of"]

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TAGS = {"setup", "exercise", "solution", "check", "nbval-ignore-output", "readme-picture"}

# Newcomers who read lessons 01 to 08 and did the exercises needed 60 to 115 minutes; these rates give about as much.
WORDS_PER_MINUTE = 120  # of prose with formulas in it
CODE_LINES_PER_MINUTE = 13
MINUTES_PER_EXERCISE = 6
MINUTES_PER_QUIZ = 3

_v4: Any = nbformat.v4  # its functions carry no types


def read_source(path: Path) -> NotebookNode:
    """Read a source file, and give its cells their ids: number of the lesson, number of the cell.

    Raises:
        ValueError: If a tag is unknown, or an exercise lacks its stub, solution or check.
    """
    cells = []
    for index, cell in enumerate(jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent").cells, 1):
        tags = cell.metadata.get("tags", [])
        new = _v4.new_code_cell if cell.cell_type == "code" else _v4.new_markdown_cell
        cells.append(new(cell.source, id=f"{path.stem[:2]}-{index:03}", metadata={"tags": tags} if tags else {}))
    _check_exercises(path.name, cells)
    return _notebook(cells)


def lesson_of(source: NotebookNode) -> NotebookNode:
    """The lesson: every cell but the solutions."""
    return _notebook([cell for cell in source.cells if not _has(cell, "solution")])


def solutions_of(source: NotebookNode, name: str) -> NotebookNode | None:
    """The solutions notebook: set-up, and exercises with the solution where the stub was; None without exercises.

    Args:
        source: From ``read_source``.
        name: Of the lesson, such as ``"01_soft_targets"``.
    """
    cells = [
        cell
        for cell in source.cells
        if _has(cell, "setup", "solution", "check") or (_has(cell, "exercise") and cell.cell_type == "markdown")
    ]
    if not any(_has(cell, "solution") for cell in cells):
        return None
    text = (
        f"# Solutions of lesson {name[:2]}, {name[3:].replace('_', ' ')}\n\n"
        f"Try the exercises in [the lesson](../{name}.ipynb) first: a solution teaches most to who has looked for one."
    )
    return _notebook([_v4.new_markdown_cell(text, id=f"{name[:2]}-000"), *cells])


def minutes_to_read(notebook: NotebookNode) -> int:
    """Estimate the minutes that a notebook takes without what is marked "in depth", rounded up to a multiple of 5.

    120 words of prose a minute, 13 lines of code, 6 minutes for each exercise and 3 for the quiz.
    """
    return round_up(_minutes([cell for cell, deep in _with_depth(notebook) if not deep]))


def minutes_in_depth(notebook: NotebookNode) -> int:
    """Estimate the minutes of the sections marked "in depth", rounded up to a multiple of 5; 0 without one."""
    cells = [cell for cell, deep in _with_depth(notebook) if deep]
    return round_up(_minutes(cells)) if cells else 0


def round_up(value: float) -> int:
    """Round up to a positive multiple of 5, so that small changes make no diff."""
    return max(5, 5 * math.ceil(value / 5))


def _with_depth(notebook: NotebookNode) -> list[tuple[NotebookNode, bool]]:
    """Each cell, and whether it belongs to a section "in depth", which ends at the next heading that is no deeper."""
    found, level = [], 0
    for cell in notebook.cells:
        heading = re.match(r"(#+) (.*)", cell.source) if cell.cell_type == "markdown" else None
        if heading and (not level or len(heading[1]) <= level):
            level = len(heading[1]) if heading[2].strip().endswith("(in depth)") else 0
        found.append((cell, level > 0))
    return found


def _minutes(cells: Sequence[NotebookNode]) -> float:
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [cell for cell in cells if cell.cell_type == "code"]
    lines = sum(bool(line.strip()) for cell in code for line in cell.source.splitlines())
    exercises = sum(_has(cell, "check") for cell in code)
    quizzes = sum("lab.quiz(" in cell.source for cell in code)
    minutes = words / WORDS_PER_MINUTE + lines / CODE_LINES_PER_MINUTE
    return minutes + MINUTES_PER_EXERCISE * exercises + MINUTES_PER_QUIZ * quizzes


def _check_exercises(name: str, cells: Sequence[NotebookNode]) -> None:
    """Demand stub, solution, check, in this order, for every exercise; no unknown tag."""
    wanted = "exercise"
    for cell in cells:
        unknown = sorted(set(cell.metadata.get("tags", [])) - TAGS)
        if unknown:
            raise ValueError(f"{name}, cell {cell.id}: unknown tags {unknown}, there are {sorted(TAGS)}")
        tag = next((tag for tag in ("exercise", "solution", "check") if _has(cell, tag)), None)
        if tag is None or cell.cell_type != "code":
            continue
        if tag != wanted and not (tag == "solution" and wanted == "check"):
            raise ValueError(f"{name}, cell {cell.id}: code tagged {wanted!r} must come before this {tag!r}")
        wanted = {"exercise": "solution", "solution": "check", "check": "exercise"}[tag]
    if wanted != "exercise":
        raise ValueError(f"{name}: the last exercise has no code tagged {wanted!r}")


def _notebook(cells: Sequence[NotebookNode]) -> NotebookNode:
    notebook: NotebookNode = _v4.new_notebook(cells=copy.deepcopy(list(cells)), metadata=copy.deepcopy(METADATA))
    return notebook


def _has(cell: NotebookNode, *tags: str) -> bool:
    return not set(tags).isdisjoint(cell.metadata.get("tags", []))
