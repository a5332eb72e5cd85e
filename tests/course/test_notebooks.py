"""Every notebook keeps the rules of tests/course/notebook_rules.py, and the rules notice notebooks that don't."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdref.lab.course.check import exercises_of
from kdref.lab.course.notebooks import FOLDER, differences
from tests.course.notebook_rules import (
    RULES,
    closing_faults,
    code_of,
    exercise_faults,
    has,
    head_faults,
    ignored_without_a_check,
    images_without_alt,
    not_clean,
    not_executed,
    texts,
    too_few_compared,
    traps,
)

LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted(FOLDER.glob("solutions/[0-9][0-9]_*.ipynb"))

# The rules on our notebooks -------------------------------------------------------------------------------------------

named = pytest.mark.parametrize
later = [path for path in LESSONS if not path.name.startswith("00")]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def test_notebooks_are_what_their_sources_say() -> None:
    assert differences(FOLDER) == []
    assert LESSONS


@named("rule", RULES, ids=lambda rule: rule.__name__)
@named("path", [*LESSONS, *SOLUTIONS], ids=name)
def test_notebook_keeps_the_rule(path: Path, rule: Callable[[NotebookNode], list[str]]) -> None:
    assert rule(read(path)) == []


@named("path", later, ids=name)
def test_lesson_has_the_shape_that_all_share(path: Path) -> None:
    lesson = read(path)
    faults = [
        *head_faults(lesson),
        *exercise_faults(lesson, list(exercises_of(path.name[:2]))),
        *closing_faults(lesson),
    ]
    assert [*faults, *too_few_compared(lesson)] == []


@named("path", LESSONS, ids=name)
def test_lesson_takes_an_hour_and_a_quarter_to_read_and_a_minute_to_run_at_most(path: Path) -> None:
    measured = read(path).metadata["kdref"]
    assert 0 < measured["minutes"] <= 75
    assert 0 < measured["seconds"] <= 60
    head = read(path).cells[0].source
    assert ("in_depth" in measured) == ("*in depth*" in head), "the head tells the minutes of what can be skipped"


@named("path", SOLUTIONS, ids=name)
def test_every_solution_is_right_and_every_stub_is_not_attempted(path: Path) -> None:
    for notebook, said in ((read(path), ": right."), (read(FOLDER / path.name), ": not attempted yet.")):
        checks = [cell for cell in code_of(notebook) if has(cell, "check")]
        assert len(checks) >= 3
        assert [cell.id for cell in checks if said not in "".join(texts(cell))] == []
    assert read(path).metadata["kdref"]["seconds"] <= 10


# The rules on bad notebooks -------------------------------------------------------------------------------------------


def printed(text: str, stream: str = "stdout") -> NotebookNode:
    return new_output("stream", name=stream, text=text)


def shown(*, alt: str | None = None, **data: str) -> NotebookNode:
    about = {} if alt is None else {"image/png": {"alt": alt}}
    contents = {kind.replace("_", "/"): value for kind, value in data.items()}
    return new_output("display_data", data=contents, metadata=about)


def notebook_of(*cells: tuple[str, list[NotebookNode], list[str]], **metadata: object) -> NotebookNode:
    made = [
        new_code_cell(source, outputs=outputs, execution_count=count, metadata={"tags": tags})
        for count, (source, outputs, tags) in enumerate(cells, 1)
    ]
    return new_notebook(cells=made, metadata=metadata)


IGNORED = ["nbval-ignore-output"]
ERROR = new_output("error", ename="ValueError", evalue="", traceback=[])
VIEW = new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "a slider"})

BAD = {
    "counts that do not run": (not_executed, new_notebook(cells=[new_code_cell("1", execution_count=2)]), "counts [2]"),
    "a cell never run": (not_executed, new_notebook(cells=[new_code_cell("1")]), "counts [None]"),
    "an error": (not_executed, notebook_of(("1 / 0", [ERROR], [])), "an error"),
    "a warning": (not_executed, notebook_of(("f()", [printed("UserWarning", "stderr")], [])), "a warning"),
    "a path": (not_clean, notebook_of(("f()", [printed("in /root/x/y.py")], [])), "an absolute path"),
    "a path in a frame": (not_clean, notebook_of(("f()", [shown(text_html="<p>/tmp/a</p>")], [])), "an absolute path"),
    "widget state": (not_clean, notebook_of(widgets={}), "widget state"),
    "a widget view": (not_clean, notebook_of(("w", [VIEW], [])), "a widget view"),
    "half a megabyte": (not_clean, notebook_of(("f()", [printed("x" * 500_000)], [])), "bytes"),
    "an ignored cell at the end": (ignored_without_a_check, notebook_of(("f()", [printed("1")], IGNORED)), "ignored"),
    "an ignored cell before a silent one": (
        ignored_without_a_check,
        notebook_of(("f()", [printed("1")], IGNORED), ("a = 1", [], [])),
        "ignored",
    ),
    "an ignored cell before an ignored one": (
        ignored_without_a_check,
        notebook_of(("f()", [printed("1")], IGNORED), ("f()", [printed("1")], IGNORED), ("assert a", [], [])),
        "ignored",
    ),
    "pixels only": (too_few_compared, notebook_of(*[("f", [shown(image_png="AA=="), ERROR], [])] * 9), "0 compared"),
    "objects only": (
        too_few_compared,
        notebook_of(*[("f", [shown(text_plain="<IPython.core.display.Image object>")], [])] * 9),
        "0 compared",
    ),
    "ignored cells only": (too_few_compared, notebook_of(*[("f", [printed("1")], IGNORED)] * 9), "0 compared"),
    "a bare figure": (
        images_without_alt,
        notebook_of(("fig", [shown(image_png="AA==", text_plain="<Figure size 640x480>")], [])),
        "report.figure",
    ),
    "a figure without alternative text": (
        images_without_alt,
        notebook_of(("fig", [shown(image_png="AA==", text_plain="Figure: a line that rises")], [])),
        "report.figure",
    ),
    "a figure of few words": (
        images_without_alt,
        notebook_of(("fig", [shown(image_png="AA==", text_plain="Figure: a line", alt="a line")], [])),
        "report.figure",
    ),
    "a bare picture": (images_without_alt, new_notebook(cells=[new_markdown_cell("![](a.png)")]), "alternative"),
    "a semicolon": (traps, notebook_of(("f();", [], [])), ";"),
    "interact": (traps, notebook_of(("widgets.interact(f)", [], [])), "interact"),
    "the Output widget": (traps, notebook_of(("widgets.Output()", [], [])), "Output"),
    "display_id": (traps, notebook_of(("display(a, display_id=True)", [], [])), "display_id"),
    "a magic": (traps, notebook_of(("a = 1\n%time f()", [], [])), "magic"),
    "no title": (head_faults, new_notebook(cells=[new_markdown_cell("Soft targets\n\nWhy?")]), "# NN title"),
    "no question": (head_faults, new_notebook(cells=[new_markdown_cell("# 01 Soft targets\n\nA text.")]), "question"),
    "a head out of order": (
        head_faults,
        new_notebook(
            cells=[new_markdown_cell("# 01 A\n\nB?\n\n**You will be able to** **Time** **Needs** **Files** **Papers**")]
        ),
        "expected in bold",
    ),
    "no closing": (closing_faults, new_notebook(cells=[new_markdown_cell("# When to stop")]), "When to use"),
    "no cost": (closing_faults, new_notebook(cells=[new_markdown_cell("## When to use it, when not")]), "'cost'"),
    "two exercises": (
        lambda notebook: exercise_faults(notebook, ["01.1", "01.2"]),
        notebook_of(('lab.check("01.1", a)\nlab.check("01.2", a)\nlab.quiz("01")', [], [])),
        "fewer than three",
    ),
    "an exercise left out": (
        lambda notebook: exercise_faults(notebook, ["01.1", "01.2"]),
        notebook_of(('lab.check("01.2", a)\nlab.quiz("01")', [], [])),
        "expected ['01.1', '01.2']",
    ),
    "no quiz": (
        lambda notebook: exercise_faults(notebook, ["01.1"]),
        notebook_of(('lab.check("01.1", a)', [], [])),
        "quiz",
    ),
}


@named(("rule", "notebook", "fault"), BAD.values(), ids=BAD)
def test_rule_finds(rule: Callable[[NotebookNode], list[str]], notebook: NotebookNode, fault: str) -> None:
    assert fault in "\n".join(rule(notebook))


def test_rules_let_a_good_notebook_pass() -> None:
    figure = shown(image_png="AA==", text_plain="Figure: a line that rises slowly", alt="a line that rises slowly")
    good = notebook_of(
        ("a = f('x;y')  # 100 % of it;", [printed("see kdref/soft_targets.py and https://arxiv.org/tmp/1")], []),
        ("report.figure(fig, alt)", [figure], IGNORED),
        ("assert a", [], []),
        *[("print(1)", [printed("1")], [])] * 8,
    )
    assert [fault for rule in (*RULES, too_few_compared) for fault in rule(good)] == []
