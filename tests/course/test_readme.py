"""What the README, its neighbours and the map in lesson 00 say is so: links, commands, minutes, picture."""

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import kdref.__main__
import tasks
from kdref.lab import bench
from kdref.lab.bench.__main__ import names
from kdref.lab.course import notebooks
from kdref.lab.course.copying import copyable
from tests import rules

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
NOTEBOOKS = {path.stem: path for path in sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))}
COURSE = [f"{number:02}" for number in range(20)]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(path: Path) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    text = f"\n{text}"
    lines = text[text.index(f"\n{heading}\n") :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("| "):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


def links(cell: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", cell)


# Links and the picture ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert rules.dead_links(text, (ROOT / page).parent) == []
    assert rules.dead_links("![a](nowhere.png) [b](README.md)", ROOT) == ["links to nowhere.png"]


def test_the_picture_is_the_tagged_figure_of_lesson_01_as_committed() -> None:
    import nbformat

    shown = notebooks.picture(nbformat.read(NOTEBOOKS["01_soft_targets"], as_version=4))
    assert shown is not None
    assert (ROOT / "notebooks" / notebooks.PICTURE).read_bytes() == shown
    ((alt, path),) = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", README)
    assert path == f"notebooks/{notebooks.PICTURE}"
    assert len(alt.split()) >= 5


# Commands -------------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[str]:
    """Lines of code blocks, and code spans, that run something of this project."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = (" ".join(code.split()) for code in [*lines, *spans])
    return [code for code in found if re.match(r"make \w|(py|python3?) (tasks\.py|-m kdref)", code) and "<" not in code]


def fault(command: str) -> str | None:
    """What is wrong with a command; None if it would be understood."""
    words = command.split("#")[0].replace('"', "").split()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return _make(words[1:]) if words[0] == "make" else _python(words[1:])
    except SystemExit:
        return f"not understood: {command}"


def _make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = re.findall(r"^(\w+):", makefile, re.MULTILINE) + re.findall(r"(?:\$\()?\b([A-Z]+)\b", makefile)
    unknown = [word for word in words if re.match(r"[A-Za-z]", word) and word.split("=")[0] not in known]
    return f"make knows no {unknown}" if unknown else None


def _python(words: list[str]) -> str | None:
    if words[0] == "tasks.py":
        tasks.parser().parse_args(words[1:])
        return None
    module, rest = words[1], words[2:]
    if module != "kdref":
        if importlib.util.find_spec(module) is None:
            return f"no module {module}"
        return f"no benchmark {rest}" if module == bench.__name__ and rest[0] not in names() else None
    if not rest:
        return None
    options = kdref.__main__._parser().parse_args(rest)
    if rest[0] != "copy":
        return None
    files = copyable()
    there = {part for file in files for part in (file, *file.split("."))}.union(*files.values())
    return None if options.name in there else f"nothing to copy is named {options.name}"


SAID = {page: commands((ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
SAID |= {stem: commands(markdown(path)) for stem, path in NOTEBOOKS.items()}


@pytest.mark.parametrize("page", SAID)
def test_commands_exist(page: str) -> None:
    assert [problem for command in SAID[page] if (problem := fault(command))] == []


def test_the_commands_that_everyone_needs_are_there() -> None:
    wanted = {"make course", "make test", "python3 tasks.py course", "py tasks.py course", "python -m kdref doctor"}
    assert wanted <= set(SAID["README.md"])
    assert "conda env create -f environment.yml" in README


@pytest.mark.parametrize(
    "command",
    [
        "make tea",
        "make notebooks LESSON=03",
        "py tasks.py tea",
        "python -m kdref tea",
        "python -m kdref copy tea",
        "python -m kdref doctor --tea",
        "python -m kdref.lab.tea",
        "python -m kdref.lab.bench tea",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert commands(f"Say `{command}`.\n\n```\n{command}   # now\n```") == [command, command]
    assert fault(command)


# Lessons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_lesson_has_a_line_with_its_minutes(stem: str) -> None:
    rows = [row for row in table(README, "## Lessons") if row[0].startswith(f"[{stem[:2]} ")]
    assert len(rows) == 1, f"lesson {stem} needs a line in the README"
    notebook, seen, minutes = rows[0]
    assert links(notebook) == [f"notebooks/{stem}.ipynb"]
    assert len(seen.split()) >= 5
    assert minutes == str(read(NOTEBOOKS[stem])["metadata"]["kdref"]["minutes"])


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 150


def test_every_number_is_a_lesson_or_planned_and_never_both() -> None:
    there = [row[0][1:3] for row in table(README, "## Lessons")]
    planned = README[README.index("Minutes are estimated") : README.index("[Every lesson")]
    assert sorted([*there, *re.findall(r"\b\d\d\b", planned)]) == COURSE
    assert there == [stem[:2] for stem in NOTEBOOKS]


def test_the_map_of_lesson_00_links_every_lesson_there_is_and_no_other() -> None:
    rows = table(markdown(NOTEBOOKS["00_start_here"]), "## 3. The map")
    numbers = [row[0] for row in rows]
    assert sorted(numbers) == COURSE
    assert [number for number in numbers if number != "19"] == COURSE[:-1]
    assert numbers.index("19") == numbers.index("11") + 1, (
        "writing models come after the encoders, whatever their number"
    )
    linked = [link for row in rows for link in links(row[1])]
    assert sorted(linked) == [f"{stem}.ipynb" for stem in NOTEBOOKS if stem != "00_start_here"]


def test_the_times_printed_in_lesson_00_are_those_measured() -> None:
    outputs = [output for cell in read(NOTEBOOKS["00_start_here"])["cells"] for output in cell.get("outputs", [])]
    printed = "".join(line for output in outputs for line in output.get("data", {}).get("text/markdown", []))
    measured = {stem: read(path)["metadata"]["kdref"] for stem, path in NOTEBOOKS.items()}
    rows = [f"| {stem} | {of['minutes']} | {of['seconds']} |" for stem, of in measured.items()]
    assert [row for row in rows if row not in printed] == [], "build it again: make notebooks LESSONS=00"


# The example ---------------------------------------------------------------------------------------------------------


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["student_logits"].grad.abs().sum() > 0
