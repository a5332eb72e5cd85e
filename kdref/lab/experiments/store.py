"""Runs on disk: one JSON file per experiment, rewritten as a whole after every run, whoever else writes to it.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import ast
import hashlib
import importlib
import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdref.lab.data import data_folder
from kdref.lab.data.files import write_whole

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "BASE_SEEDS",
    "PER_BASE",
    "StoredRunsError",
    "add",
    "code_hash",
    "load",
    "locked",
    "names",
    "pairs",
    "provenance",
    "read",
    "results_file",
    "set_aside",
    "unless_stored",
    "verify",
    "wanted",
]

PACKAGES = ("torch", "numpy")  # whose versions can change a result
PER_BASE = 8  # paired seeds counted from each base seed, unless the experiment has SEEDS of its own
BASE_SEEDS = (0, 1000, 2000)
Pair = tuple[int, str]  # a seed and an arm


class StoredRunsError(ValueError):
    """A file of stored runs is damaged, or was made by other code; the message names it and says what to do."""


def names() -> list[str]:
    """Experiments there are: the modules of this folder that have arms, but for those that others share."""
    paths = Path(__file__).parent.glob("[!_]*.py")
    return sorted(path.stem for path in paths if "\nARMS" in path.read_text(encoding="utf-8"))


def wanted(name: str, base_seeds: Sequence[int] = BASE_SEEDS) -> list[Pair]:
    """The runs that an experiment is made of."""
    module = importlib.import_module(f"kdref.lab.experiments.{name}")
    seeds = getattr(module, "SEEDS", [base + i for base in base_seeds for i in range(PER_BASE)])
    return [(seed, arm) for seed in seeds for arm in module.ARMS]


def results_file(name: str) -> Path:
    """Where an experiment's runs are stored."""
    return data_folder() / "results" / f"{name}.json"


def load(name: str) -> "DataFrame":
    """Stored runs of an experiment: ``arm``, ``seed`` and the metrics, one row per run.

    Raises:
        ValueError: If there is no such experiment.
        StoredRunsError: If its file is damaged; says how to restore it.
        FileNotFoundError: If it was never run; says with which command to run it.
    """
    import pandas as pd

    return pd.DataFrame(_stored(name)["runs"])


def provenance(name: str) -> dict[str, Any]:
    """What made the stored runs: command, versions, processor, hashes of code and runs; without the runs.

    Raises:
        ValueError: If there is no such experiment.
        StoredRunsError: If its file is damaged; says how to restore it.
        FileNotFoundError: If it was never run; says with which command to run it.
    """
    return {key: value for key, value in _stored(name).items() if key != "runs"}


def read(name: str) -> dict[str, Any] | None:
    """The stored file's content, or None where there is none yet.

    Raises:
        StoredRunsError: If the file is damaged: no JSON, another experiment's, or runs that are not those once written.
    """
    path = results_file(name)
    if not path.is_file():
        return None
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["experiment"] != name:
            raise ValueError(f"it is of the experiment {stored['experiment']}")
        pairs(stored["runs"])  # each has a seed and an arm
        # files written before there was a hash of the runs have none
        if "runs_sha256" in stored and stored["runs_sha256"] != _runs_hash(stored["runs"]):
            raise ValueError("its runs are not those once written")
        stored["code_sha256"]
    except (ValueError, TypeError, LookupError) as error:  # not UTF-8 and not JSON are ValueErrors too
        raise StoredRunsError(f"{path} is damaged ({_short(error)}). {_remedy(name)}") from error
    return stored


def verify(name: str) -> str:
    """What is wrong with an experiment's stored runs, and what to do about it; empty if all is well."""
    try:
        stored = _stored(name)
        missing = set(wanted(name)) - pairs(stored["runs"])
    except (OSError, ValueError, ImportError) as error:
        return str(error)
    if stored["code_sha256"] != code_hash(name):
        return f"{results_file(name)} was made by other code than what is here. {_remedy(name)}"
    if missing:
        command = f"Make them with: python -m kdref.lab.experiments {name}"
        return f"{results_file(name)} lacks {len(missing)} of {len(wanted(name))} runs. {command}"
    return ""


@contextmanager
def locked(name: str, purpose: str = "writing", *, wait: bool = True) -> Iterator[bool]:
    """Keep others from doing the same with this experiment; the system frees the lock of a process that was killed.

    Args:
        name: Of the experiment.
        purpose: There is one lock for each.
        wait: Whether to wait until the other is done.

    Yields:
        Whether this process has the lock.
    """
    import filelock

    path = results_file(name).with_name(f".{name}.{purpose}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def unless_stored(name: str, run: Callable[[int, str], Mapping[str, float]], seed: int, arm: str) -> Mapping[str, Any]:
    """Run a seed and an arm; nothing if another process has stored that run meanwhile."""
    stored = read(name)
    return {} if stored and (seed, arm) in pairs(stored["runs"]) else run(seed, arm)


def add(name: str, run: dict[str, Any], *, code_sha256: str) -> bool:
    """Store one more run beside what is there by now, with what made it.

    Args:
        name: Of the experiment.
        run: Its seed, arm and numbers.
        code_sha256: Hash of the code that ran: the file's may have changed meanwhile.

    Returns:
        False if that run was there already: the first one stays.

    Raises:
        StoredRunsError: If what is there was made by other code, or is damaged.
    """
    with locked(name):
        stored = read(name)
        if stored is not None and stored["code_sha256"] != code_sha256:
            raise StoredRunsError(f"{results_file(name)} was made by other code than this run. {_remedy(name)}")
        runs = stored["runs"] if stored else []
        if (run["seed"], run["arm"]) in pairs(runs):
            return False
        _write(name, [*runs, run], code_sha256)
        return True


def set_aside(name: str) -> Path | None:
    """Rename the stored file, damaged or not, to ``NAME.json.old``, or ``.old2`` ... where that is taken.

    Returns:
        Its new name; None where there is no file.
    """
    path = results_file(name)
    with locked(name):
        if not path.is_file():
            return None
        number = 1
        while (target := path.with_suffix(f".json.old{number if number > 1 else ''}")).exists():
            number += 1
        return path.rename(target)


def _write(name: str, runs: list[dict[str, Any]], code_sha256: str) -> None:
    runs = [_rounded(run) for run in sorted(runs, key=lambda run: (run["seed"], run["arm"]))]
    versions = {package: metadata.version(package) for package in PACKAGES}
    head = {
        "experiment": name,
        "command": f"python -m kdref.lab.experiments {name}",
        "code_sha256": code_sha256,
        "runs_sha256": _runs_hash(runs),
        "versions": {"python": platform.python_version(), **versions},
        "processor": platform.machine(),
    }
    lines = ",\n".join("  " + json.dumps(run) for run in runs)  # one run a line: differences can be read
    text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "runs": [\n' + lines + "\n ]\n}\n"
    write_whole(results_file(name), text.encode())


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
        raise FileNotFoundError(f"{results_file(name)} is missing. {_remedy(name)}")
    return stored


def pairs(runs: Collection[Mapping[str, Any]]) -> set[Pair]:
    """The seed and the arm of each run."""
    return {(run["seed"], run["arm"]) for run in runs}


def _runs_hash(runs: Collection[Mapping[str, Any]]) -> str:
    return hashlib.sha256("\n".join(map(json.dumps, runs)).encode()).hexdigest()


def _remedy(name: str) -> str:
    anew = f"python -m kdref.lab.experiments {name} --restart"
    return f"Restore it (git checkout -- data/results/{name}.json, or install kdref anew), or make it anew: {anew}"


def _short(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _rounded(run: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in run.items()}
