"""Gather what the site shows in one folder, laid out as the repository is, so that links need no change.

Notebooks keep their stored outputs; nothing is executed.
"""

import csv
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
import reference
from address import REPOSITORY, launch_links
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "data/README.md", "docs/*.md", "notebooks/*.md"]
FILES = ["LICENSE", "CITATION.cff", "data/museum.csv", "notebooks/readme.png", "examples/*.py"]
CODE = ["kdref/**/*.py", "tests/**/*.py"]
WIDGET = re.compile(r"^(.*[Ee]xplorer.*|.*[Pp]icker): run this cell, then (.*)$")

_v4: Any = nbformat.v4  # its functions carry no types


def gather(target: Path) -> None:
    """Write everything that Sphinx reads into an empty folder."""
    for pattern in [*PAGES, *FILES, *CODE]:
        for path in sorted(ROOT.glob(pattern)):
            _copy(path, target / path.relative_to(ROOT))
    lessons = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
    for path in lessons:
        _copy(path, target / "originals" / path.name)
        solved = ROOT / "notebooks" / "solutions" / path.name
        solutions = _read(solved) if solved.exists() else None
        _write(lesson_page(_read(path), path.stem, solutions), target / "notebooks" / path.name)
        if solutions is not None:
            _write(solutions_page(solutions), target / "notebooks" / "solutions" / path.name)
    found = reference.topics()
    for topic, files in found.items():
        _put(target / "reference" / f"{topic}.rst", reference.page(topic, files))
    _put(target / "reference" / "index.rst", reference.index(found))
    _put(target / "museum.md", museum_page(ROOT / "data" / "museum.csv"))
    _put(target / "index.md", front_page(lessons, found))
    lessons_md = target / "docs" / "lessons.md"  # methods lead to their pages of the reference
    _put(lessons_md, re.sub(r"\(\.\./kdref/(\w+)[\w/]*\.py\)", r"(../reference/\1.rst)", lessons_md.read_text("utf-8")))


def lesson_page(notebook: NotebookNode, name: str, solutions: NotebookNode | None) -> NotebookNode:
    """A lesson with a line that says how to run it, its widgets explained, and each solution folded under its check."""
    number = name[:2]
    cells = []
    for cell in notebook.cells:
        cells.append(_without_widgets(cell, number))
        if "check" in cell.metadata.get("tags", []) and solutions is not None:
            cells += _solutions_before(solutions, cell.source)
    text = (
        f"{{download}}`Download this notebook </originals/{name}.ipynb>`, or open your own copy of it with "
        f"`python -m kdref start {number}`. Its outputs are shown as stored."
    )
    text = "; ".join([text, *launch_links(REPOSITORY, name)])
    cells.insert(1, _v4.new_markdown_cell(f":::{{admonition}} To run it\n:class: tip\n{text}\n:::", id=f"{number}-run"))
    return _like(notebook, cells)


def solutions_page(notebook: NotebookNode) -> NotebookNode:
    """The solutions, each folded; in no table of contents."""
    page = _like(notebook, [_folded(cell) if _is_solution(cell) else cell for cell in notebook.cells])
    page.metadata["orphan"] = True
    return page


def front_page(lessons: list[Path], found: reference.Topics) -> str:
    """The first page: every lesson with its question, every topic with its methods."""
    heads = [(path, _read(path).cells[0].source.split("\n\n")) for path in lessons]
    rows = [
        f"| [{head[0].lstrip('# ')}](notebooks/{path.name}) | {' '.join(head[1].strip('*').split())} |"
        for path, head in heads
    ]
    topics = [
        f"| [{reference.title(topic)}](reference/{topic}.rst) | "
        + ", ".join(f"{{py:obj}}`{name} <kdref.{file}.{name}>`" for file in files for name in files[file])
        for topic, files in found.items()
    ]
    text = Path(__file__).with_name("front_page.txt").read_text(encoding="utf-8")
    text = text.replace("LESSONS", "\n".join(["| lesson | question |", "|:---|:---|", *rows]))
    text = text.replace("PAGES", "\n".join(f"notebooks/{path.stem}" for path in lessons))
    return text.replace("TOPICS", "\n".join(["| topic | methods |", "|:---|:---|", *topics]))


def museum_page(table: Path) -> str:
    """The museum of bugs as tables, one for each topic."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ours = re.compile("a likely slip|kdref|our own|a planted")  # as lesson 15 counts
    seen = sum(ours.search(row["seen in"]) is None for row in rows)
    parts = [
        "# The museum of bugs",
        f"{len(rows)} wrong versions of the methods in this repository: {seen} were seen elsewhere, in code, papers or "
        f"issues, {len(rows) - seen} are slips that a writer may well make, or our own. The tests run every one and "
        "demand that it is noticed. [Lesson 15]"
        "(notebooks/15_fidelity.ipynb) walks through some; {download}`the whole table as CSV </data/museum.csv>`.",
    ]
    for topic, group in groupby(rows, key=lambda row: row["topic"]):
        parts.append(f"## {reference.title(topic)}")
        lines = ["| in place of | what is wrong | seen in |", "|:---|:---|:---|"]
        for row in group:
            shown = [f"`{row['replaces']}`", row["what is wrong"], row["seen in"]]
            lines.append("| " + " | ".join(text.replace("|", "\\|").replace("$", "\\$") for text in shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _without_widgets(cell: NotebookNode, number: str) -> NotebookNode:
    """A widget as its picture at rest and its words, with how to move it: without a kernel nothing moves."""
    outputs = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = data.get("text/plain", "")
        moved, quiz = WIDGET.match(text), text.startswith("Quiz of lesson")
        if output.output_type != "execute_result" or not (moved or quiz):
            outputs.append(output)
            continue
        start = f"In your own copy (`python -m kdref start {number}`)"
        if moved:
            title, said = "Something to move", f"**{moved[1]}.** {start} run this cell, then {moved[2]}"
        else:
            questions = re.sub(r"(?m)^ +\( \) ", "   - ", text.partition("\n")[2])
            title = "Questions"
            said = f"**Quiz.** {start} this cell takes your answers and explains them.\n\n{questions}"
        if "image/png" in data:
            shown = {"image/png": data["image/png"], "text/plain": text}
            outputs.append(_v4.new_output("display_data", data=shown, metadata=output.metadata))
        box = f":::{{admonition}} {title}\n:class: note\n{said}\n:::"
        outputs.append(_v4.new_output("display_data", data={"text/markdown": box, "text/plain": text}))
    if cell.cell_type == "code":
        cell.outputs = outputs
    return cell


def _solutions_before(solutions: NotebookNode, check: str) -> list[NotebookNode]:
    """The cells that solve what a check looks at, folded."""
    found: list[NotebookNode] = []
    for cell in solutions.cells:
        if _is_solution(cell):
            found.append(_folded(cell))
        elif cell.cell_type == "code" and cell.source == check:
            return found
        else:
            found = []
    return []


def _is_solution(cell: NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


def _folded(cell: NotebookNode) -> NotebookNode:
    new = _v4.new_code_cell(cell.source, id=f"{cell.id}-s", outputs=cell.outputs)
    new.metadata = {"tags": ["hide-input"], "mystnb": {"code_prompt_show": "A solution", "code_prompt_hide": "Fold it"}}
    return new


def _like(notebook: NotebookNode, cells: list[NotebookNode]) -> NotebookNode:
    new: NotebookNode = _v4.new_notebook(cells=cells, metadata={**notebook.metadata})
    new.metadata.pop("kdref", None)
    return new


def _read(path: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def _write(notebook: NotebookNode, path: Path) -> None:
    _put(path, nbformat.writes(notebook))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
