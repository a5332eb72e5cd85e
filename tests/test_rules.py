"""The rules that keep the project simple (CONTRIBUTING.md). Each checker is also shown what breaks its rule."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdref.lab import course
from tests import rules

ROOT = Path(__file__).resolve().parents[1]
HEART = sorted(path for path in ROOT.glob("kdref/**/*.py") if "lab" not in path.parts and not path.name.startswith("_"))
HEART_MODULES = {path.relative_to(ROOT / "kdref").parts[0].removesuffix(".py") for path in HEART}
TOPICS = sorted(path.parent for path in ROOT.glob("kdref/*/__init__.py") if path.parent.name != "lab")
LAB = sorted(ROOT.glob("kdref/lab/**/*.py"))
CORE = [path for path in LAB if not set(rules.APPLICATIONS) & set(path.relative_to(ROOT).parts)]
LESSONS = sorted(ROOT.glob("notebooks/src/*.py"))
PYTHON = sorted(path for folder in ("kdref", "tests", "examples") for path in ROOT.glob(f"{folder}/**/*.py"))
HOSTS = (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "(org|com)"), ("debian", "org"), ("crates", "io"))
HOSTS += (("golang", "org"), ("anaconda", "(org|com)"), ("download", "pytorch"), ("rubygems", "org"))
FORBIDDEN = {
    "a package registry's host": re.compile("|".join(rf"\b{name}\.{end}\b" for name, end in HOSTS)),
    "work left undone": re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b"])),
}

FUNCTION = '''
def f(student_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """One sentence.

    Args:
        student_logits: Raw scores.

    Returns:
        A number.

    Example:
        >>> 1
        1

    Source: A paper.
    """
    _check(student_logits)

def _check(x):
    pass
'''
CELL = "# %%\n"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> Iterator[tuple[Path, str]]:
    """Text files of the repository; where there is no git, those of the source tree."""
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = git.stdout.split("\0")[:-1] if git.returncode == 0 else map(name, [*PYTHON, *LESSONS, *ROOT.glob("*.*")])
    for path in map(ROOT.joinpath, names):
        if path.is_file() and b"\0" not in path.read_bytes()[:1024]:
            yield path, path.read_text(encoding="utf-8", errors="replace")


def run_python(code: str, *arguments: str) -> str:
    """Run code in a clean process that can import nothing of this folder but what the code adds."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, cwd=Path(sys.prefix), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", HEART, ids=name)
@pytest.mark.parametrize(
    "checker",
    [rules.heart_imports, rules.heart_form, rules.heart_docstrings, rules.heart_signatures],
    ids=lambda checker: checker.__name__,
)
def test_heart_file_keeps_the_rule(checker, path: Path) -> None:
    assert checker(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in HEART if path.name != "fused.py"], ids=name)
def test_autograd_does_the_gradient(path: Path) -> None:
    assert rules.heart_gradients(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", HEART, ids=name)
def test_heart_file_has_its_test(path: Path) -> None:
    assert (ROOT / "tests" / "heart" / path.relative_to(ROOT / "kdref").with_name(f"test_{path.name}")).is_file()


def test_every_test_stands_in_the_room_of_what_it_tests() -> None:
    for room, source in (("heart", ROOT / "kdref"), ("lab", ROOT / "kdref" / "lab")):
        for path in ROOT.glob(f"tests/{room}/**/test_*.py"):
            folder = source / path.parent.relative_to(ROOT / "tests" / room)
            assert folder.is_dir(), f"{name(path)} stands in a room that {name(source)} has not"


@pytest.mark.parametrize("folder", TOPICS, ids=name)
def test_a_topic_hands_on_the_names_of_its_files_and_does_nothing_else(folder: Path) -> None:
    source = (folder / "__init__.py").read_text(encoding="utf-8")
    files = {path.stem: path.read_text(encoding="utf-8") for path in HEART if path.parent == folder}
    assert rules.hands_on(source, files) == []


def test_no_module_of_the_lab_is_hidden_by_a_name_that_its_room_hands_on() -> None:
    for init in [path for path in LAB if path.name == "__init__.py"]:
        modules = {path.stem for path in init.parent.iterdir()}
        assert modules & set(rules.public_names(init.read_text(encoding="utf-8"))) == set(), name(init)


def test_heart_files_run_when_copied_alone_under_another_name(tmp_path: Path) -> None:
    for number, path in enumerate(HEART):
        (tmp_path / str(number)).mkdir()
        shutil.copy(path, tmp_path / str(number) / f"copied_{path.name}")
    code = """
import glob, importlib, os, sys
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*", "*.py"))):
    sys.path.insert(0, os.path.dirname(path))
    module = importlib.import_module(os.path.basename(path)[:-3])
    print([getattr(module, name) for name in module.__all__])
    sys.path.pop(0)
assert not [name for name in sys.modules if name.split(".")[0] == "kdref"]
"""
    assert len(run_python(code, str(tmp_path)).splitlines()) == len(HEART) > 0


def test_repeated_helpers_are_identical_and_short() -> None:
    assert rules.unequal_helpers({name(path): path.read_text(encoding="utf-8") for path in HEART}) == []


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_labs_core_stays_apart_from_heart_and_applications(path: Path) -> None:
    assert rules.core_imports(path.read_text(encoding="utf-8"), HEART_MODULES) == []


def test_the_package_imports_nothing_heavy_and_the_lab_no_library_but_torch() -> None:
    libraries = ["matplotlib", "pandas", "scipy", "sklearn", "torchvision", "torchmetrics", "joblib", "tqdm"]
    libraries += ["ipywidgets", "anywidget", "IPython", "jupytext"]
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import kdref
assert "torch" not in sys.modules and "numpy" not in sys.modules
import torch
before = set(sys.modules)
import kdref.lab
print([name for name in sys.argv[2:] if name in set(sys.modules) - before])
"""
    assert run_python(code, str(ROOT), *libraries) == "[]"


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_notebook_defines_only_steps_runs_and_exercises(path: Path) -> None:
    assert rules.notebook_definitions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [*PYTHON, ROOT / "tasks.py"], ids=name)
def test_file_is_short(path: Path) -> None:
    assert rules.at_most_300_lines(path.read_text(encoding="utf-8")) == []


def test_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert listed == project["dependencies"] + extras["lab"] + extras["test"]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    texts = list(tracked())
    assert len(texts) > 10
    assert [name(path) for path, text in texts if FORBIDDEN[what].search(text)] == []


def test_relative_links_lead_somewhere() -> None:
    dead = {name(path): rules.dead_links(text, path.parent) for path, text in tracked() if path.suffix == ".md"}
    assert {path: links for path, links in dead.items() if links} == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/**/*.ipynb")), ids=name)
def test_links_of_a_notebook_work_in_the_learners_copy_too(path: Path, tmp_path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert rules.dead_links(text, path.parent) == []
    course.make_copies(tmp_path, ROOT / "notebooks")
    inside = path.parent.relative_to(ROOT / "notebooks")
    out = "../" * (1 + len(inside.parts))  # leads to the repository, from the copy as from the notebook
    assert [link for link in rules.dead_links(text, tmp_path / inside) if f"links to {out}" not in link] == []


@pytest.mark.parametrize(
    ("checker", "bad", "complaint"),
    [
        (rules.heart_imports, "import numpy", "imports numpy"),
        (rules.heart_imports, "from kdref.soft_targets import kl_divergence", "imports kdref"),
        (rules.heart_imports, "def f():\n    from . import response", r"imports \.\."),
        (rules.heart_form, "'''No origin.'''\n__all__ = []", "Source"),
        (rules.heart_form, "'''Source: A paper.'''\n__all__ = []", "lesson"),
        (rules.heart_form, "'''x'''\n__all__ = []\ndef f(): pass", "__all__"),
        (rules.heart_form, "'''x'''\ndef f(): pass", "__all__"),
        (rules.at_most_300_lines, "x = 1\n" * 301, "301 lines"),
        (rules.heart_docstrings, FUNCTION.replace("Source:", "From"), "document Source"),
        (rules.heart_docstrings, FUNCTION.replace("Args:", "Takes:"), "document Args"),
        (rules.heart_docstrings, FUNCTION.replace("    pass", "    raise ValueError"), "document Raises"),
        (rules.heart_docstrings, FUNCTION.replace(">>>", "$"), "does not run"),
        (rules.heart_docstrings, "class C:\n    'x'\n    def __init__(self, n): pass", "Args, Example, Source"),
        (rules.heart_signatures, FUNCTION.replace("*, ", ""), "temperature is not keyword-only"),
        (rules.heart_signatures, "def f(x: Tensor, weight: float): pass", "weight is not keyword-only"),
        (rules.heart_signatures, "def f(x: Tensor, *, alpha: float): pass", "alpha"),
        (rules.heart_signatures, "def f(teacher: Tensor, student: Tensor): pass", "student comes first"),
        (rules.heart_signatures, "class C:\n    def __init__(self, n: int, eps: float = 1): pass", "eps is not"),
        (rules.heart_gradients, "class F(torch.autograd.Function): pass", "custom gradient"),
        (rules.heart_gradients, "def f(x):\n    return x.add_(1)", "in place"),
        (rules.heart_gradients, "def f(x):\n    torch.mm(x, x, out=x)", "in place"),
        (rules.heart_gradients, "def f(x):\n    x -= 1", "in place"),
        (rules.heart_gradients, "def f(x):\n    x[0] = 1", "in place"),
        (rules.notebook_definitions, CELL + "class Distiller: pass", "class Distiller"),
        (rules.notebook_definitions, CELL + "def train(): pass", "function train"),
        (rules.notebook_definitions, CELL + "def step(x, y): pass", "one batch"),
        (rules.notebook_definitions, CELL + "def run(seed, arm):\n" + "    x = 1\n" * 25, "26 lines"),
        (rules.notebook_definitions, CELL + "def run(seed): pass", r"not \(seed, arm\)"),
        (rules.notebook_definitions, '# %% tags=["exercise"]\ndef my_kl(s, t): return 0', "more than a stub"),
    ],
)
def test_checker_notices(checker, bad: str, complaint: str) -> None:
    assert re.search(complaint, "\n".join(checker(bad)))


def test_checkers_accept_what_is_right() -> None:
    assert rules.heart_docstrings(FUNCTION) == rules.heart_signatures(FUNCTION) == []
    stub = '# %% tags=["exercise"]\ndef my_kl(s, t):\n    raise NotImplementedError\n\n'
    solution = '# %% tags=["solution"]\ndef my_kl(s, t):\n    return 0\n\n'
    assert rules.notebook_definitions(stub + solution + CELL + "def step_soft(batch):\n    return {}") == []


def test_the_checker_of_the_core_notices_heart_and_applications() -> None:
    for bad in ("import kdref.response", "def f():\n    from kdref.response import x", "from kdref import response"):
        assert rules.core_imports(bad, {"response"}), bad
    assert rules.core_imports("from kdref.lab.exercises import lesson_01", set())
    assert rules.core_imports("def f():\n    from kdref.lab.exercises import x\nfrom kdref import lab", set()) == []


def test_the_checker_of_topics_notices_what_is_missing_or_too_much() -> None:
    file = {"rkd": '__all__ = ["a", "b"]'}
    right = '"""A topic."""\nfrom kdref.t.rkd import a, b\n__all__ = ["a", "b"]'
    assert rules.hands_on(right, file) == []
    assert rules.hands_on(right.replace("a, b\n", "a\n"), file)
    assert rules.hands_on(right.replace("a, b\n", "a, b, c\n"), file)
    assert rules.hands_on(right.replace('"a", "b"', '"a"'), file)
    assert rules.hands_on(right + "\nx = 1", file)


def test_the_checker_of_helpers_notices_a_difference_and_a_long_one() -> None:
    long = "def _check(x):\n" + "    x = 1\n" * 15
    assert rules.unequal_helpers({"a": "def _check(x): return 1", "b": "def _check(x): return 2"})
    assert rules.unequal_helpers({"a": long, "b": long})
    assert rules.unequal_helpers({"a": long, "b": "def _other(x): return 2"}) == []


def test_the_checker_of_links_notices_a_dead_one(tmp_path: Path) -> None:
    (tmp_path / "there.md").touch()
    text = "[a](there.md#part) [b](gone.md) ![c](gone.png) [d](https://example.com) $E[x](y)$ `[e](code.md)`"
    assert rules.dead_links(text, tmp_path) == ["links to gone.md", "links to gone.png"]


@pytest.mark.parametrize(
    ("what", "bad"),
    [("a package registry's host", "https://pypi" + ".org/simple"), ("work left undone", "# TO" + "DO: finish")],
)
def test_forbidden_text_is_noticed(what: str, bad: str) -> None:
    assert FORBIDDEN[what].search(bad)
    assert not FORBIDDEN[what].search("the tests of pytest on Debian, to do later")
