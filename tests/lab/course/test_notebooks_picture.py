"""The figure of the cell tagged "readme-picture" is written beside the notebook, for the README to show."""

import base64
from pathlib import Path

import nbformat
import pytest

from kdref.lab.course import notebooks

SOURCE = """\
# %% [markdown]
# # 01 Soft targets

# %%
from IPython.display import Image, display
def draw(shade):
    display(Image(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(8) + bytes([0, 0, 0, 1, 0, 0, 0, 1, shade]), format="png"))
draw(1)

# %% tags=["readme-picture"]
CALLS
"""


def folder_with(calls: str, folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "01_soft_targets.py").write_text(SOURCE.replace("CALLS", calls), encoding="utf-8")
    return folder


def test_the_tagged_figure_becomes_the_picture(tmp_path: Path) -> None:
    folder = folder_with("draw(2)", tmp_path / "notebooks")
    assert notebooks.main(["build"], folder=folder) == 0
    shown = nbformat.read(folder / "01_soft_targets.ipynb", as_version=4).cells[-1].outputs[0].data["image/png"]
    drawn = (folder / "readme.png").read_bytes()
    assert drawn == base64.b64decode(shown)
    assert drawn.startswith(b"\x89PNG")
    assert drawn.endswith(b"\x02"), "not that of another cell"
    assert not list(folder.rglob("*.tmp"))


def test_without_a_tagged_cell_there_is_no_picture() -> None:
    figure = nbformat.v4.new_output("display_data", data={"image/png": "AA=="})
    cell = nbformat.v4.new_code_cell("draw()", outputs=[figure], metadata={"tags": ["check"]})
    assert notebooks.picture(nbformat.v4.new_notebook(cells=[cell])) is None


@pytest.mark.parametrize(("calls", "found"), [("draw", "show 0"), ("draw(2)\ndraw(3)", "show 2")])
def test_no_or_several_figures_are_refused_and_nothing_is_written(
    calls: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(calls, tmp_path / "notebooks")
    assert notebooks.main(["build"], folder=folder) == 1
    assert f"must show one figure together, they {found}" in capsys.readouterr().err
    assert not list(folder.glob("*.*"))
