"""What the README, its neighbours and the map in lesson 00 say is so: links, commands, minutes, picture, weights."""

import contextlib
import importlib.util
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kdref.__main__
import tasks
from kdref import soft_targets
from kdref.lab import bench
from kdref.lab.bench.__main__ import names
from kdref.lab.course import notebooks
from kdref.lab.course.copying import copyable
from kdref.lab.experiments import relation_side_by_side
from tests import rules

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
NOTEBOOKS = {path.stem: path for path in sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))}
COURSE = [f"{number:02}" for number in range(19)]
LIBRARIES = ["torchdistill", "RepDistiller", "mdistiller", "KD_Lib", "TextBrewer", "TRL", "Liger-Kernel", "modelopt"]
LIBRARIES += ["torchtune", "Keras", "PyTorch tutorial"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(path: Path) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
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
    assert rules.dead_links(text, ROOT) == []
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


def heart_of(stem: str) -> list[str]:
    """The heart files that name a lesson as theirs."""
    files = (path for path in sorted(ROOT.glob("kdref/[a-z]*.py")))
    return [path.stem for path in files if f"notebooks/{stem}.ipynb" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_lesson_has_a_row_that_says_what_is_so(stem: str) -> None:
    rows = [row for row in table(README, "## Lessons") if row[0].startswith(stem[:2])]
    assert len(rows) == 1, f"lesson {stem} needs a row in the README"
    _, notebook, modules, tests, papers, minutes, helps = rows[0]
    assert links(notebook) == [f"notebooks/{stem}.ipynb"]
    assert sorted(links(modules)) == [f"kdref/{name}.py" for name in heart_of(stem)]
    assert {f"tests/test_{name}.py" for name in heart_of(stem)} <= set(links(tests))
    assert bool(links(papers)) == bool(heart_of(stem))
    assert minutes == str(read(NOTEBOOKS[stem])["metadata"]["kdref"]["minutes"])
    assert helps


def test_every_number_is_a_lesson_or_planned_and_never_both() -> None:
    there = [row[0][:2] for row in table(README, "## Lessons")]
    planned = README[README.index("Planned: ") : README.index("## Copy a method")]
    assert sorted([*there, *re.findall(r"\b\d\d\b", planned)]) == COURSE
    assert there == [stem[:2] for stem in NOTEBOOKS]


def test_the_map_of_lesson_00_links_every_lesson_there_is_and_no_other() -> None:
    rows = table(markdown(NOTEBOOKS["00_start_here"]), "## 3. The map")
    assert [row[0] for row in rows] == COURSE
    linked = [link for row in rows for link in links(row[1])]
    assert linked == [f"{stem}.ipynb" for stem in NOTEBOOKS if stem != "00_start_here"]


def test_the_times_printed_in_lesson_00_are_those_measured() -> None:
    outputs = [output for cell in read(NOTEBOOKS["00_start_here"])["cells"] for output in cell.get("outputs", [])]
    printed = "".join(line for output in outputs for line in output.get("data", {}).get("text/markdown", []))
    measured = {stem: read(path)["metadata"]["kdref"] for stem, path in NOTEBOOKS.items()}
    rows = [f"| {stem} | {of['minutes']} | {of['seconds']} |" for stem, of in measured.items()]
    assert [row for row in rows if row not in printed] == [], "build it again: make notebooks LESSONS=00"


# Methods and their weights --------------------------------------------------------------------------------------------


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["student_logits"].grad.abs().sum() > 0


ROWS = table(README, "## Weights: our convention, and everyone else's")


def test_the_table_names_every_library_once() -> None:
    assert [next((name for name in LIBRARIES if row[0].startswith(name)), row[0]) for row in ROWS] == LIBRARIES
    assert {len(row) for row in ROWS} == {6}


A, H, W, TAU = 0.3, 0.2, 0.6, 4.0


def kl(s: Tensor, t: Tensor, tau: float) -> Tensor:
    p, q = torch.softmax(t / tau, dim=1), torch.softmax(s / tau, dim=1)
    return (p * (p.log() - q.log())).sum() / len(s)


def cross_entropy(s: Tensor, t: Tensor, tau: float) -> Tensor:
    return -(torch.softmax(t / tau, dim=1) * torch.log_softmax(s / tau, dim=1)).sum(dim=1).mean()


def kl_div(s: Tensor, t: Tensor, tau: float, reduction: str) -> Tensor:
    return F.kl_div(torch.log_softmax(s / tau, dim=-1), torch.softmax(t / tau, dim=-1), reduction=reduction)


ce = F.cross_entropy
THEIRS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {  # what each library computes, written out
    "torchdistill": lambda s, t, y: A * ce(s, y) + (1 - A) * TAU**2 * kl_div(s, t, TAU, "batchmean"),
    "RepDistiller": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "sum") * TAU**2 / len(s),
    "mdistiller": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "none").sum(1).mean() * TAU**2,
    "KD_Lib": lambda s, t, y: (1 - W) * ce(s, y) + W * TAU**2 * kl(s, t, TAU),  # not theirs, but the paper's
    "TextBrewer": lambda s, t, y: W * cross_entropy(s, t, TAU) + H * ce(s, y),
    "TRL": lambda s, t, y: kl_div(s, t, TAU, "sum") / len(s),
    "Liger-Kernel": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "none").sum(-1).sum() / len(s),
    "modelopt": lambda s, t, y: W * TAU**2 * kl_div(s, t, TAU, "batchmean") + (1 - W) * ce(s, y),
    "torchtune": lambda s, t, y: (1 - W) * ce(s, y) + W * cross_entropy(s, t, 1.0),
    "Keras": lambda s, t, y: A * ce(s, y) + (1 - A) * TAU**2 * kl(s, t, TAU),
    "PyTorch tutorial": lambda s, t, y: W * kl(s, t, TAU) * TAU**2 + H * ce(s, y),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_translation_gives_what_the_library_computes(library: str) -> None:
    (cell,) = [row[5] for row in ROWS if row[0].startswith(library)]
    (code,) = re.findall(r"`([^`]+)`", cell)
    generator = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    y = torch.randint(5, (6,), generator=generator)
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    value = eval(code, {**vars(soft_targets), "CE": ce, "s": ours, "t": t, "y": y, "a": A, "h": H, "w": W, "τ": TAU})
    expected = THEIRS[library](theirs, t, y)
    if "same gradient" not in cell:
        torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_table_of_accuracies_is_that_of_the_stored_runs() -> None:
    assert f"\n\n{relation_side_by_side.readme_table()}\n\n" in README
