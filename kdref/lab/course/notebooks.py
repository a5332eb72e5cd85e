"""Build the notebooks from their sources, and check them.

``python -m kdref.lab.course.notebooks build | check | claims``.

``kdref.lab.course.notebook_source`` says what a source looks like.

Lesson: notebooks/00_start_here.ipynb.
"""

import argparse
import base64
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from kdref.__main__ import exit_with
from kdref.lab.course.notebook_source import (
    lesson_of,
    minutes_in_depth,
    minutes_to_read,
    read_source,
    round_up,
    solutions_of,
)
from kdref.lab.data.files import write_whole
from kdref.lab.training import session

__all__ = ["CellFailed", "build", "claims", "client_of", "differences", "environment", "execute", "main", "picture"]

FOLDER = Path(__file__).resolve().parents[3] / "notebooks"
PICTURE = "readme.png"  # in that folder: the figure that the README shows

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_nbformat: Any = nbformat  # its functions carry no types


class CellFailed(Exception):
    """A cell failed; the message has its id, its source and its traceback."""

    def __init__(self, cell: NotebookNode, error: Exception) -> None:
        """Keep the last line by itself, for a table."""
        traceback = _ANSI.sub("", str(error))
        super().__init__(f"cell {cell.id} failed\n{traceback}")
        value = getattr(error, "evalue", traceback.strip().split("\n")[-1])
        self.summary = f"cell {cell.id}: {getattr(error, 'ename', type(error).__name__)}: {_ANSI.sub('', value)}"


def execute(notebook: NotebookNode, folder: Path, environment: Mapping[str, str]) -> float:
    """Execute in place on a clean kernel of this Python, and return the seconds that its cells took.

    Args:
        notebook: Gets the outputs.
        folder: Where the kernel runs.
        environment: Of the kernel.

    Raises:
        CellFailed: At the first cell that fails.
    """
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    client = client_of(notebook, folder)
    # On its own stderr a kernel only complains about its transport; what cells write there comes back as outputs.
    with client.setup_kernel(env=dict(environment), stderr=subprocess.DEVNULL, cleanup_kc=True):
        start = time.perf_counter()
        for index, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, index)
            except (CellControlSignal, DeadKernelError) as error:
                raise CellFailed(cell, error) from error
        seconds = time.perf_counter() - start
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop(_WIDGET_VIEW, None)  # names a model that died with the kernel
    return seconds


def client_of(notebook: NotebookNode, folder: Path) -> Any:
    """Nbclient's executor of a notebook, in a folder, on a kernel of this Python."""
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    return NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=_this_python()),
        timeout=1800,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )


def environment(*, seed: int | None = None) -> dict[str, str]:
    """The environment in which notebooks are built and compared: one thread, one process, no progress bars.

    Args:
        seed: The base seed of the lessons; None leaves them their default.
    """
    result = {key: value for key, value in os.environ.items() if key != "KDREF_SEED"}
    result |= {"OMP_NUM_THREADS": "1", "KDREF_JOBS": "1", "KDREF_PROGRESS": "off"}
    result["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), *filter(None, [result.get("PYTHONPATH")])])
    return result if seed is None else result | {"KDREF_SEED": str(seed)}


def build(source_path: Path) -> None:
    """Execute the notebooks of a source and write them, each as a whole or not at all.

    Raises:
        CellFailed: If a cell fails; what was there before is left as it is.
    """
    for path, notebook in _targets(source_path).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        measured = execute(notebook, path.parent, environment())
        stored = _measured(path).get("seconds", 0)
        quiet = abs(measured - stored) < stored / 2  # the machine was busier, or less busy: no reason for a diff
        seconds = stored if quiet else round_up(measured)
        minutes = {"minutes": minutes_to_read(notebook), "in_depth": minutes_in_depth(notebook)}
        _fill_in(notebook, {name: value for name, value in minutes.items() if value} | {"seconds": seconds})
        _nbformat.validate(notebook)
        drawn = picture(notebook)
        write_whole(path, (_nbformat.writes(notebook) + "\n").encode())
        if drawn is not None:
            write_whole(path.with_name(PICTURE), drawn)
        print(f"{path.relative_to(source_path.parent.parent)}: {measured:.1f} s")


def picture(notebook: NotebookNode) -> bytes | None:
    """The figure that a built notebook shows in its cell tagged "readme-picture", as PNG; None without such a cell.

    Raises:
        ValueError: If there is such a cell and no figure, or several.
    """
    cells = [cell for cell in notebook.cells if "readme-picture" in cell.metadata.get("tags", [])]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    figures = [kinds["image/png"] for kinds in data if "image/png" in kinds]
    if not cells:
        return None
    if len(figures) != 1:
        raise ValueError(f"the cells tagged 'readme-picture' must show one figure together, they show {len(figures)}")
    return base64.b64decode(figures[0])


def differences(folder: Path) -> list[str]:
    """What keeps the notebooks of a folder from being those of its sources, found without executing anything.

    Args:
        folder: Holds the lessons, and the folders ``src`` and ``solutions``.
    """
    expected = {path: new for source in _sources(folder) for path, new in _targets(source).items()}
    there = {*folder.glob("*.ipynb"), *folder.glob("solutions/*.ipynb")}
    lines = [f"{path.relative_to(folder)} has no source" for path in sorted(there - set(expected))]
    for path, new in expected.items():
        if path not in there:
            lines.append(f"{path.relative_to(folder)} was never built")
            continue
        old = _nbformat.read(path, as_version=4)
        _fill_in(new, _measured(path))
        pairs = itertools.zip_longest(map(_without_outputs, old.cells), map(_without_outputs, new.cells))
        first = next((b or a for a, b in pairs if a != b), None)
        if first is not None:
            lines.append(f"{path.relative_to(folder)} differs from its source, first in cell {first[0]}")
        elif old.metadata != new.metadata:
            lines.append(f"{path.relative_to(folder)} has other metadata than the builder writes")
    return lines


def claims(sources: Sequence[Path], seeds: Sequence[int]) -> tuple[str, bool]:
    """Execute lessons from other base seeds and see whether their assertions hold; writes nothing.

    Returns:
        A table, lesson by seed, with what failed beneath it; and whether everything held.
    """
    width = max(len(path.stem) for path in sources)
    lines, failures = [f"{'lesson':{width}}" + "".join(f"{seed:>8}" for seed in seeds)], []
    for path in sources:
        line = f"{path.stem:{width}}"
        for seed in seeds:
            try:
                execute(lesson_of(read_source(path)), path.parent.parent, environment(seed=seed))
                line += f"{'pass':>8}"
            except CellFailed as error:
                line += f"{'FAIL':>8}"
                failures.append(f"{path.stem}, seed {seed}, {error.summary}")
        lines.append(line)
    return "\n".join([*lines, *failures]), not failures


def main(arguments: Sequence[str] | None = None, *, folder: Path = FOLDER) -> int:
    """Run the command line; 0 when all is well, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="python -m kdref.lab.course.notebooks", description="Build and check the notebooks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("build", "execute and write"), ("claims", "execute from other base seeds, writing nothing")):
        command = commands.add_parser(name, help=what)
        command.add_argument("lessons", nargs="*", metavar="NN", help="numbers of lessons; all by default")
    command.add_argument("--seeds", nargs="+", type=session.seed, default=[0, 1000, 2000])
    commands.add_parser("check", help="compare the notebooks with their sources")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            lines = differences(folder)
            print("\n".join([*lines, "build them: make notebooks"]) if lines else "notebooks and sources agree")
            return int(bool(lines))
        sources = _sources(folder, options.lessons)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if options.command == "claims":
        table, held = claims(sources, options.seeds)
        print(table)
        return int(not held)
    failed = False
    for source in sources:
        try:
            build(source)
        except (CellFailed, ValueError) as error:
            print(f"{source.name} was not built: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _sources(folder: Path, numbers: Sequence[str] = ()) -> list[Path]:
    paths = sorted(folder.glob("src/[0-9][0-9]_*.py"))
    there = [path.stem[:2] for path in paths]
    unknown = [number for number in numbers if number not in there]
    if unknown or not paths:
        raise ValueError(f"no source of lesson {', '.join(unknown) or 'any'} in {folder / 'src'}: there are {there}")
    return [path for path in paths if not numbers or path.stem[:2] in numbers]


def _targets(source_path: Path) -> dict[Path, NotebookNode]:
    """The notebooks that come from a source: path to what it must hold, without outputs."""
    source, name, folder = read_source(source_path), source_path.stem, source_path.parent.parent
    found = {folder / f"{name}.ipynb": lesson_of(source)}
    solutions = solutions_of(source, name)
    return found if solutions is None else {**found, folder / "solutions" / f"{name}.ipynb": solutions}


def _fill_in(notebook: NotebookNode, measured: dict[str, int]) -> None:
    notebook.metadata["kdref"] = measured
    for name, value in measured.items():
        notebook.cells[0].source = notebook.cells[0].source.replace(f"{{{name}}}", str(value))


def _measured(path: Path) -> dict[str, int]:
    return dict(_nbformat.read(path, as_version=4).metadata.get("kdref", {})) if path.exists() else {}


def _without_outputs(cell: NotebookNode) -> tuple[str, str, str, list[str]]:
    return cell.id, cell.cell_type, cell.source, list(cell.metadata.get("tags", []))


def _this_python() -> Any:
    """A kernel of the interpreter that runs this, whatever kernels the user has installed."""
    import ipykernel.kernelspec
    from jupyter_client.kernelspec import KernelSpecManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> Any:
            details = ipykernel.kernelspec.get_kernel_dict()
            return self.kernel_spec_class(resource_dir=ipykernel.kernelspec.RESOURCES, **details)

    return ThisPython()


if __name__ == "__main__":
    exit_with(main)
