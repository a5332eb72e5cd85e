"""Many learners on one machine: run a lesson on several kernels at once, and see how long and how much memory it takes.

``python -m kdref.lab.course.classroom --kernels 8 --lesson 01``; what to do with the answer is in
notebooks/INSTRUCTORS.md.

Lesson: notebooks/00_start_here.ipynb.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from kdref.__main__ import exit_with
from kdref.lab import course, data
from kdref.lab.course import notebooks

__all__ = ["Learner", "main", "together"]

# Appended to each lesson. Resident memory counts the libraries too, which kernels share; own memory does not.
PROBE = "import kdref, psutil; m = psutil.Process().memory_full_info(); print(kdref.__file__, m.rss, m.uss, sep='\\n')"
_nbformat: Any = nbformat  # its functions carry no types


@dataclass(frozen=True)
class Learner:
    """What became of one learner's kernel."""

    folder: Path
    notebook: NotebookNode  # with its outputs
    begin: float  # seconds on this machine's clock
    end: float
    package: str = ""  # the kdref that it imported
    resident: int = 0  # bytes in memory at the end
    own: int = 0  # of these, bytes that no other process shares
    error: str = ""  # empty if every cell ran


def together(
    lesson: str, kernels: int, folder: Path, environment: Mapping[str, str] | None = None, *, timeout: float = 1800
) -> list[Learner]:
    """Run a lesson on several kernels at the same time, as learners do: each has a home and copies of their own.

    Args:
        lesson: Number or topic.
        kernels: How many.
        folder: Gets one folder per learner.
        environment: Of the kernels; that of ``make test`` by default.
        timeout: Seconds for one cell; a kernel that takes longer is stopped, with an error.

    Returns:
        One result per kernel.

    Raises:
        ValueError: If there is no such lesson, or less than one kernel.
    """
    if kernels < 1:
        raise ValueError(f"at least one kernel is needed, got {kernels}")
    homes = [folder / f"learner_{number}" for number in range(1, kernels + 1)]
    for home in homes:
        course.make_copies(home / "work")
    copy, _ = course.reset(lesson, work=homes[0] / "work")  # finds the lesson

    async def all_of_them() -> list[Learner]:
        variables = notebooks.environment() if environment is None else environment
        return await asyncio.gather(*(_learn(home, copy.name, variables, timeout) for home in homes))

    return asyncio.run(all_of_them())


async def _learn(home: Path, name: str, environment: Mapping[str, str], timeout: float) -> Learner:
    notebook = _nbformat.read(home / "work" / name, as_version=4)
    notebook.cells.append(_nbformat.v4.new_code_cell(PROBE))
    client = notebooks.client_of(notebook, home / "work")
    client.timeout = timeout
    own = {"HOME": str(home), "IPYTHONDIR": str(home / ".ipython"), "MPLCONFIGDIR": str(home / ".matplotlib")}
    begin, cell = time.monotonic(), notebook.cells[0]
    try:
        async with client.async_setup_kernel(env={**environment, **own}, stderr=subprocess.DEVNULL, cleanup_kc=True):
            _stop_all_on_interrupt()
            for index, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, index)
    except Exception as error:  # whatever went wrong with this kernel, the others go on
        return Learner(home, notebook, begin, time.monotonic(), error=notebooks.CellFailed(cell, error).summary)
    package, resident, own_bytes = notebook.cells[-1].outputs[0].text.split()
    return Learner(home, notebook, begin, time.monotonic(), package, int(resident), int(own_bytes))


def _stop_all_on_interrupt() -> None:
    """Take back nbclient's signal handlers: an interrupt would stop the last kernel and none of the others."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows has none of them
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per kernel; 0 if every cell of all of them ran, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.course.classroom", description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=8, metavar="N")
    parser.add_argument("--lesson", default="01", metavar="NN")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            learners = together(options.lesson, options.kernels, Path(folder))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for learner in learners:
        memory = f"{learner.resident / 1e6:6.0f} MB, {learner.own / 1e6:.0f} of them its own"
        print(f"{learner.folder.name:11}{learner.end - learner.begin:6.0f} s {learner.error or memory}")
    damaged = {name: problem for name, problem in data.verify().items() if problem != "ok"}
    print(damaged or "data as published")
    return int(bool(damaged) or any(learner.error for learner in learners))


if __name__ == "__main__":
    exit_with(main)
