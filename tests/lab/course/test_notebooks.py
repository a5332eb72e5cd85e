"""Notebooks are built from their sources: what goes where, what is written, and when nothing is written at all."""

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from kdref.lab.course import notebooks
from kdref.lab.course.notebook_source import lesson_of, read_source, round_up, solutions_of

SOURCE = """\
# %% [markdown]
# # 01 Soft targets
#
# Takes {minutes} minutes and {seconds} seconds.

# %% tags=["setup"]
import os, sys
import ipywidgets
seed = os.environ.get("KDREF_SEED", "none")

# %%
print(seed, os.environ["OMP_NUM_THREADS"], os.environ["KDREF_JOBS"], os.environ["KDREF_PROGRESS"])
print(sys.executable == "EXECUTABLE", os.path.basename(os.getcwd()))

# %% tags=["nbval-ignore-output"]
ipywidgets.IntSlider()

# %% [markdown] tags=["exercise"]
# ## Exercise

# %% tags=["exercise"]
def double(x):
    raise NotImplementedError

# %% tags=["solution"]
def double(x):
    return 2 * x

# %% tags=["check"]
try:
    print(double(21))
except NotImplementedError:
    print("not attempted")
assert seed != "7", "holds for no seven"
""".replace("EXECUTABLE", sys.executable)


def folder_with(source: str, folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "01_soft_targets.py").write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with(SOURCE, tmp_path / "notebooks")


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = folder_with(SOURCE, tmp_path_factory.mktemp("built") / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDREF_SEED", "99")
        patch.setenv("OMP_NUM_THREADS", "3")
        assert notebooks.main(["build", "01"], folder=folder) == 0
    return folder


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A copy of a built folder, to be changed."""
    return shutil.copytree(built_once, tmp_path / "notebooks")


def outputs_of(path: Path) -> dict[str, str]:
    cells = nbformat.read(path, as_version=4).cells
    return {cell.id: "".join(o.get("text", "") for o in cell.outputs) for cell in cells if cell.cell_type == "code"}


# From source to notebooks ---------------------------------------------------------------------------------------------


def test_lesson_is_everything_but_the_solutions(folder: Path) -> None:
    lesson = lesson_of(read_source(folder / "src" / "01_soft_targets.py"))
    assert [cell.id for cell in lesson.cells] == [f"01-00{n}" for n in (1, 2, 3, 4, 5, 6, 8)]
    assert "NotImplementedError" in lesson.cells[5].source


def test_solutions_are_setup_and_exercises_with_the_stub_replaced(folder: Path) -> None:
    solutions = solutions_of(read_source(folder / "src" / "01_soft_targets.py"), "01_soft_targets")
    assert solutions is not None
    assert [cell.id for cell in solutions.cells] == [f"01-00{n}" for n in (0, 2, 5, 7, 8)]
    assert solutions.cells[0].source.startswith("# Solutions of lesson 01, soft targets\n")
    assert "return 2 * x" in solutions.cells[3].source


def test_lesson_without_exercises_has_no_solutions(tmp_path: Path) -> None:
    source = folder_with("# %%\n1\n", tmp_path / "n") / "src" / "01_soft_targets.py"
    assert solutions_of(read_source(source), "01_soft_targets") is None


def tagged(*tags: str) -> str:
    return "\n".join(f'# %% tags=["{tag}"]\n1\n' for tag in tags)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (("exercise", "check"), "code tagged 'solution' must come before this 'check'"),
        (("solution", "check"), "code tagged 'exercise' must come before this 'solution'"),
        (("exercise", "exercise"), "code tagged 'solution' must come before this 'exercise'"),
        (("exercise", "solution", "exercise"), "code tagged 'check' must come before this 'exercise'"),
        (("exercise", "solution"), "the last exercise has no code tagged 'check'"),
        (("solutions",), r"01-001: unknown tags \['solutions'\]"),
    ],
)
def test_incomplete_exercise_is_refused(tags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    folder = folder_with(tagged(*tags), tmp_path / "n")
    with pytest.raises(ValueError, match=message):
        read_source(folder / "src" / "01_soft_targets.py")


def test_solution_of_several_cells_is_accepted(tmp_path: Path) -> None:
    folder = folder_with(tagged("exercise", "solution", "solution", "check"), tmp_path / "n")
    assert len(read_source(folder / "src" / "01_soft_targets.py").cells) == 4


def test_rounding_up_goes_to_fives() -> None:
    assert [round_up(value) for value in (0, 0.1, 5, 5.1, 31)] == [5, 5, 5, 10, 35]


# Building -------------------------------------------------------------------------------------------------------------


def test_built_notebook_ran_on_this_python_in_its_folder_without_a_seed(built: Path) -> None:
    outputs = outputs_of(built / "01_soft_targets.ipynb")
    assert outputs["01-003"] == "none 1 1 off\nTrue notebooks\n"
    assert outputs["01-008"] == "not attempted\n"
    assert outputs_of(built / "solutions" / "01_soft_targets.ipynb")["01-008"] == "42\n"


def test_built_notebook_holds_nothing_that_changes_by_itself(built: Path) -> None:
    notebook = json.loads((built / "01_soft_targets.ipynb").read_text(encoding="utf-8"))
    assert notebook["metadata"] == {
        "kdref": {"minutes": 10, "seconds": 5},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert "".join(notebook["cells"][0]["source"]).endswith("Takes 10 minutes and 5 seconds.")
    assert [set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"]] == [True] * 7
    assert set(notebook["cells"][3]["outputs"][0]["data"]) == {"text/plain"}, "a widget's view names a dead model"


def test_kernels_that_the_user_installed_are_not_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    other.joinpath("kernel.json").write_text('{"argv": ["no-such-python"], "display_name": "", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert notebooks.execute(nbformat.v4.new_notebook(), folder, notebooks.environment()) >= 0


def test_building_again_changes_no_byte_and_keeps_seconds_that_are_about_right(built: Path) -> None:
    path = built / "01_soft_targets.ipynb"
    before = path.read_bytes()
    assert notebooks.main(["build"], folder=built) == 0
    assert path.read_bytes() == before
    assert not list(built.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("stored", "measured", "kept"), [(20, 29.0, 20), (20, 11.0, 20), (20, 31.0, 35), (20, 9.0, 10)]
)
def test_stored_seconds_stay_unless_they_are_wrong_by_half(
    stored: int, measured: float, kept: int, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = built / "01_soft_targets.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"seconds": 5', f'"seconds": {stored}'), encoding="utf-8")
    monkeypatch.setattr(notebooks, "execute", lambda *_: measured)
    assert notebooks.main(["build"], folder=built) == 0
    assert nbformat.read(path, as_version=4).metadata.kdref.seconds == kept


def test_failing_cell_is_shown_and_nothing_is_written(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = built / "01_soft_targets.ipynb"
    before = path.read_bytes()
    source = built / "src" / "01_soft_targets.py"
    source.write_text(SOURCE.replace("ipywidgets.IntSlider()", "fine = 1\n[][fine]"), encoding="utf-8")
    assert notebooks.main(["build"], folder=built) == 1
    errors = capsys.readouterr().err
    assert "01_soft_targets.py was not built: cell 01-004 failed" in errors
    assert "----> 2 [][fine]" in errors
    assert "IndexError: list index out of range" in errors
    assert path.read_bytes() == before
    assert not list(built.rglob("*.tmp"))


def test_unknown_lesson_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.main(["build", "01", "07"], folder=folder) == 1
    assert "no source of lesson 07" in capsys.readouterr().err
    assert notebooks.main(["check"], folder=tmp_path) == 1
    assert "no source of lesson any" in capsys.readouterr().err


# Checking -------------------------------------------------------------------------------------------------------------


def test_check_finds_that_built_notebooks_agree(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.main(["check"], folder=built) == 0
    assert capsys.readouterr().out == "notebooks and sources agree\n"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("print(seed", "print(not seed", ["01_soft_targets.ipynb differs from its source, first in cell 01-003"]),
        (
            "return 2 * x",
            "return x + x",
            ["solutions/01_soft_targets.ipynb differs from its source, first in cell 01-007"],
        ),
        ("# # 01 Soft", "# # 01 Hard", ["01_soft_targets.ipynb differs from its source, first in cell 01-001"]),
        ('["nbval-ignore-output"]', "[]", ["01_soft_targets.ipynb differs from its source, first in cell 01-004"]),
    ],
)
def test_check_names_the_first_cell_that_differs(old: str, new: str, expected: list[str], built: Path) -> None:
    (built / "src" / "01_soft_targets.py").write_text(SOURCE.replace(old, new), encoding="utf-8")
    assert notebooks.differences(built) == expected


def test_check_notices_cells_added_at_the_end_of_either(built: Path) -> None:
    source = built / "src" / "01_soft_targets.py"
    source.write_text(SOURCE + "\n# %%\n1\n", encoding="utf-8")
    assert notebooks.differences(built) == ["01_soft_targets.ipynb differs from its source, first in cell 01-009"]
    path = built / "01_soft_targets.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("2", id="stray"))
    nbformat.write(notebook, path)
    source.write_text(SOURCE, encoding="utf-8")
    assert notebooks.differences(built) == ["01_soft_targets.ipynb differs from its source, first in cell stray"]


def test_check_notices_foreign_metadata_orphans_and_what_was_never_built(built: Path) -> None:
    path = built / "01_soft_targets.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"name": "python"', '"name": "r"'), encoding="utf-8")
    shutil.copy(path, built / "02_hand_made.ipynb")
    (built / "solutions" / "01_soft_targets.ipynb").unlink()
    assert notebooks.differences(built) == [
        "02_hand_made.ipynb has no source",
        "01_soft_targets.ipynb has other metadata than the builder writes",
        "solutions/01_soft_targets.ipynb was never built",
    ]


# Claims ---------------------------------------------------------------------------------------------------------------


def test_claims_run_with_the_seed_and_report_the_first_failing_assertion(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebooks.main(["claims", "01", "--seeds", "5", "7"], folder=folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        "lesson                5       7",
        "01_soft_targets    pass    FAIL",
        "01_soft_targets, seed 7, cell 01-008: AssertionError: holds for no seven",
    ]
    assert not list(folder.rglob("*.ipynb"))


def test_claims_that_hold_everywhere_succeed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    monkeypatch.setattr(notebooks, "execute", lambda *arguments: seeds.append(arguments[2]["KDREF_SEED"]))
    assert notebooks.main(["claims"], folder=folder) == 0
    assert seeds == ["0", "1000", "2000"]
