"""Check the installation: what is here, what is wrong, and what to do about it.

Lesson: notebooks/00_start_here.ipynb.
"""

import importlib
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from kdref import __version__

__all__ = ["Finding", "examine", "main"]

OLDEST_TORCH = (2, 9)
PACKAGES = [  # what pyproject.toml calls kdref[lab]; a test holds the two together
    *("torchvision", "jupyterlab", "matplotlib", "ipywidgets", "anywidget", "jupytext", "nbclient", "numpy"),
    *("scipy", "pandas", "torchmetrics", "scikit-learn", "joblib", "tqdm", "psutil", "safetensors", "filelock"),
    "lightning-fabric",
]
BENCHMARK_SECONDS = 5.0
GIGABYTE = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    remedy: str = ""  # what to do; empty when all is well


def main() -> int:
    """Print the report and a line for bug reports.

    Returns:
        0 if all is well, 1 if something is wrong.
    """
    findings = []
    print("kdref doctor: the last check measures for five seconds")
    for finding in examine():
        findings.append(finding)
        print(f"  {'WRONG' if finding.remedy else 'ok':5}  {finding.name:11} {finding.value}", flush=True)
    wrong = [finding for finding in findings if finding.remedy]
    print("\nFor a bug report, paste this line:")
    print(" | ".join(f"{finding.name} {finding.value}{' (WRONG)' if finding.remedy else ''}" for finding in findings))
    print()
    for finding in wrong:
        print(f"{finding.name}: {finding.remedy}")
    if not wrong:
        print("All is well.")
    return 1 if wrong else 0


def examine() -> Iterator[Finding]:
    """Make the findings one by one, the benchmark last."""
    for check in (
        _kdref,
        _system,
        _torch,
        _torchvision,
        _packages,
        _threads,
        _memory,
        _disk,
        _data,
        _results,
        _encoder,
        _lessons,
        _speed,
    ):
        yield check()


def _kdref() -> Finding:
    return Finding("kdref", f"{__version__}, Python {platform.python_version()}")


def _system() -> Finding:
    return Finding("system", platform.platform(terse=True) + f" {platform.machine()}")


def _torch() -> Finding:
    version = torch.__version__
    device = "with a GPU" if torch.cuda.is_available() or torch.backends.mps.is_available() else "no GPU, none needed"
    old = tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH
    return Finding("torch", f"{version}, {device}", "install torch 2.9 or newer: make course" if old else "")


def _torchvision() -> Finding:
    try:
        version = metadata.version("torchvision")
        spec = importlib.util.find_spec("torchvision")
        folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
        libraries = [path for folder in folders for path in folder.glob("_C*") if path.suffix in (".so", ".pyd")]
        for library in libraries:  # what fails on another torch; to import all of it takes two seconds
            torch.ops.load_library(library)
        if not libraries:
            importlib.import_module("torchvision")
        return Finding("torchvision", version)
    except (ImportError, RuntimeError, OSError) as error:  # OSError: it was built for another torch
        remedy = "install the release made for your torch: python -m pip install --upgrade torch torchvision"
        return Finding("torchvision", str(error).splitlines()[0], remedy)


def _packages() -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Finding("packages", f"missing: {', '.join(missing)}", "make course, or pip install -r requirements.txt")
    return Finding("packages", f"all {len(versions)}, jupyterlab {versions['jupyterlab']}")


def _threads() -> Finding:
    limit = os.environ.get("OMP_NUM_THREADS")
    limited = f" (OMP_NUM_THREADS={limit})" if limit else ""
    return Finding("threads", f"{os.cpu_count()} processors, torch uses {torch.get_num_threads()}{limited}")


def _memory() -> Finding:
    try:
        memory = importlib.import_module("psutil").virtual_memory()
    except ImportError:
        return Finding("memory", "unknown")  # the finding about packages says what to do
    value = f"{memory.available / GIGABYTE:.1f} of {memory.total / GIGABYTE:.1f} GB free"
    return Finding("memory", value, "close other programs: a lesson needs 1 GB" if memory.available < GIGABYTE else "")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    remedy = "make room: your copies and results need some" if free < GIGABYTE / 2 else ""
    return Finding("disk", f"{free / GIGABYTE:.0f} GB free here", remedy)


def _data() -> Finding:
    try:
        found: dict[str, str] = importlib.import_module("kdref.lab.data").verify()
    except ImportError as error:
        return Finding("data", f"not checked: {error}", "make course, or pip install -r requirements.txt")
    wrong = {name: problem for name, problem in found.items() if problem != "ok"}
    if wrong:
        remedy = "; ".join(wrong.values())
        return Finding("data", f"missing or damaged: {', '.join(wrong)}", remedy)
    return Finding("data", f"{', '.join(found)} as published")


def _results() -> Finding:
    try:
        store = importlib.import_module("kdref.lab.experiments.store")
        found = {name: store.verify(name) for name in store.names()}
    except ImportError as error:
        return Finding("results", f"not checked: {error}", "make course, or pip install -r requirements.txt")
    wrong = {name: problem for name, problem in found.items() if problem}
    if wrong:
        return Finding("results", f"missing or damaged: {', '.join(wrong)}", "; ".join(wrong.values()))
    return Finding("results", f"{len(found)} experiments, all runs as stored")


def _encoder() -> Finding:
    from kdref.lab.models import sentence_encoder

    if _version("transformers") is None or importlib.util.find_spec(sentence_encoder.PACKAGE) is None:
        return Finding("encoder", f"not installed; only lesson 11 needs it: {sentence_encoder.INSTALL}")
    try:
        sentence_encoder.source()
    except (OSError, ValueError) as error:
        return Finding("encoder", "missing or damaged", str(error))
    return Finding("encoder", f"{sentence_encoder.NAME} as published")


def _lessons() -> Finding:
    from kdref.lab import course

    try:
        return Finding("lessons", f"{len(course.lessons())}")
    except FileNotFoundError as error:
        return Finding("lessons", "none", str(error))


def _speed() -> Finding:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = _rate(_training_step(), BENCHMARK_SECONDS / 2)
        matrix = torch.randn(512, 512)
        products = _rate(lambda: matrix @ matrix, BENCHMARK_SECONDS / 2)
    finally:
        torch.set_num_threads(threads)
    gigaflops = products * 2 * 512**3 / 1e9
    return Finding("speed", f"{steps:.0f} training steps/s, {gigaflops:.0f} GFLOP/s, on one thread")


def _training_step() -> Callable[[], object]:
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.Adam(model.parameters())
    inputs, labels = torch.randn(128, 64), torch.randint(10, (128,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    return step


def _rate(call: Callable[[], object], seconds: float) -> float:
    """Calls per second, after one to warm up."""
    call()
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        call()
        calls += 1
    return calls / elapsed


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
