"""Runs on disk: one JSON file per experiment, rewritten atomically after every run.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import ast
import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdref.lab.data import data_folder

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["code_hash", "load", "names", "provenance", "read", "results_file", "write"]

PACKAGES = ("torch", "numpy")  # whose versions can change a result


def names() -> list[str]:
    """Experiments there are: the modules of this folder that have arms."""
    folder = Path(__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if "\nARMS" in path.read_text(encoding="utf-8"))


def results_file(name: str) -> Path:
    """Where an experiment's runs are stored."""
    return data_folder() / "results" / f"{name}.json"


def load(name: str) -> "DataFrame":
    """Stored runs of an experiment: ``arm``, ``seed`` and the metrics, one row per run.

    Raises:
        ValueError: If there is no such experiment.
        FileNotFoundError: If it was never run; says with which command to run it.
    """
    import pandas as pd

    return pd.DataFrame(_stored(name)["runs"])


def provenance(name: str) -> dict[str, Any]:
    """What made the stored runs: command, versions, processor, date, hash of the code; without the runs.

    Raises:
        ValueError: If there is no such experiment.
        FileNotFoundError: If it was never run; says with which command to run it.
    """
    return {key: value for key, value in _stored(name).items() if key != "runs"}


def read(name: str) -> dict[str, Any] | None:
    """The stored file's content, or None where there is none yet."""
    path = results_file(name)
    if not path.is_file():
        return None
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def write(name: str, runs: list[dict[str, Any]]) -> None:
    """Store the runs with their provenance: a temporary file, then a rename, so that no reader sees half a file."""
    path = results_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {package: metadata.version(package) for package in PACKAGES}
    head = {
        "experiment": name,
        "command": f"python -m kdref.lab.experiments {name}",
        "code_sha256": code_hash(name),
        "versions": {"python": platform.python_version(), **versions},
        "processor": platform.machine(),
    }
    ordered = sorted(runs, key=lambda run: (run["seed"], run["arm"]))
    lines = ",\n".join("  " + json.dumps(_rounded(run)) for run in ordered)  # one run a line: differences can be read
    text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "runs": [\n' + lines + "\n ]\n}\n"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def code_hash(name: str) -> str:
    """Hash of the experiment's code and that of the modules it shares, without comments, docstrings and imports.

    So it stays the same when a module is moved. Methods and lab are left out: their own tests hold them, and a lesson
    recomputes a slice.
    """
    folder = Path(__file__).parent
    found = [name]
    for module in found:  # grows while it is walked
        for node in ast.walk(ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdref.lab.experiments"):
                names = [(node.module or "").rpartition(".")[2], *(alias.name for alias in node.names)]
                found += [n for n in names if n not in found and (folder / f"{n}.py").is_file() and n != "store"]
    return hashlib.sha256("\n".join(sorted(_bare(folder / f"{module}.py") for module in found)).encode()).hexdigest()


def _bare(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body.pop(0)
    return ast.unparse(tree)


def _stored(name: str) -> dict[str, Any]:
    if name not in names():
        raise ValueError(f"no experiment is named {name!r}: there are {names()}")
    stored = read(name)
    if stored is None:
        raise FileNotFoundError(
            f"{results_file(name)} is missing. Make it with: python -m kdref.lab.experiments {name}"
        )
    return stored


def _rounded(run: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in run.items()}
