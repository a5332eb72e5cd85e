"""The project's commands, on every system: ``python3 tasks.py course``, ``test``, ``notebooks``, ...

Standard library only: this file makes the environment in which everything else runs.
"""

from __future__ import annotations  # so that an old Python gets as far as the message below

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
CONSTRAINTS = Path("constraints.txt")
STAMP = VENV / ".kdref-installed"  # written last: an interrupted installation has none and is repeated
OLDEST_PYTHON = (3, 11)
PARALLEL = ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "--durations=15"]
RARELY_IMPORTED = (  # almost half of all code; of mypy what is imported is compiled already
    r"[/\\](?:tests?|_internal|mypyc?|pip|setuptools|sentence_transformers|fontTools|lexers)[/\\]"
    r"|[/\\]transformers[/\\]models[/\\](?!auto|bert[/\\])"
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    if sys.version_info < OLDEST_PYTHON:
        found = "{}.{}.{} ({})".format(*sys.version_info[:3], sys.executable)
        print(f"kdref needs Python 3.11 or newer, and this is {found}. Name a newer one: python3.12 tasks.py course")
        print("or, with make: make course PYTHON=python3.12")
        return 1
    os.chdir(ROOT)
    try:
        return int(options.command(options))
    except subprocess.CalledProcessError as error:
        print(f"\nfailed with exit code {error.returncode}: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="tasks.py", description="The commands of kdref.")
    top.add_argument(
        "--no-venv", action="store_true", help="use the Python that runs this (conda, say) and install nothing"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    course = commands.add_parser("course", help="install, check the installation and open the first lesson")
    course.set_defaults(command=run_course)
    test = commands.add_parser("test", help="install, then check style, types, code and notebooks")
    test.set_defaults(command=run_test)
    notebooks = commands.add_parser("notebooks", help="build notebooks from notebooks/src and execute them")
    notebooks.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers; all without")
    notebooks.set_defaults(command=run_notebooks)
    claims = commands.add_parser("claims", help="execute the lessons with other seeds: do their claims hold?")
    claims.add_argument("--seeds", nargs="+", default=["0", "1000", "2000"], metavar="SEED")
    claims.set_defaults(command=run_claims)
    site = commands.add_parser("site", help="build the website into site/")
    site.set_defaults(command=run_site)
    constraints = commands.add_parser("constraints", help="try the newest versions, and write them down if all passes")
    constraints.set_defaults(command=run_constraints)
    return top


def run_course(options: argparse.Namespace) -> int:
    """Install, check and open JupyterLab."""
    python = prepare(options)
    subprocess.run([python, "-m", "kdref", "doctor"], check=True)
    lab = subprocess.Popen([python, "-m", "kdref", "start"])
    while True:
        try:
            return lab.wait()
        except KeyboardInterrupt:  # Jupyter got it too, and asks whether to stop
            continue


def run_test(options: argparse.Namespace) -> int:
    """Run every check, stop at the first that fails, and say where the time went; types are checked meanwhile."""
    start = time.monotonic()
    python = prepare(options, site=True)
    times = [("installation", time.monotonic() - start)]
    lessons = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/solutions/*.ipynb")], key=seconds)[::-1]
    pytest = [python, "-m", "pytest", *PARALLEL, "--nbval", "--nbval-current-env", "-p", "no:randomly"]
    meanwhile = subprocess.Popen(
        [python, "-m", "mypy", "--strict", "kdref"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    )
    checks = [
        ("style: ruff format", [python, "-m", "ruff", "format", "--check", "."]),
        ("style: ruff check", [python, "-m", "ruff", "check", "."]),
        ("notebooks, tests and doctests: pytest", [*pytest, *map(str, lessons), "tests", "kdref"]),  # the longest first
    ]
    code = 0
    for heading, command in checks:
        print(f"\n===== {heading}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, env=environment()).returncode
        times.append((heading, time.monotonic() - start))
        print(f"===== {heading}: {'FAILED' if code else 'passed'} after {times[-1][1]:.0f} s", flush=True)
        if code:
            break
    print(f"\n===== types: mypy --strict, run meanwhile\n{meanwhile.communicate()[0].decode(errors='replace')}", end="")
    print(f"===== types: {'FAILED' if meanwhile.returncode else 'passed'}")
    print("\nwhere the time went")
    for heading, elapsed in [*times, ("together", sum(elapsed for _, elapsed in times))]:
        print(f"{elapsed:8.1f} s  {heading}")
    return code or meanwhile.returncode


def run_notebooks(options: argparse.Namespace) -> int:
    """Build the notebooks that learners open from their sources."""
    build = [prepare(options), "-m", "kdref.lab.course.notebooks", "build", *options.lessons]
    return subprocess.run(build, env=environment()).returncode


def run_claims(options: argparse.Namespace) -> int:
    """Execute the lessons with other base seeds and look at their assertions."""
    claims = [prepare(options), "-m", "kdref.lab.course.notebooks", "claims", "--seeds", *options.seeds]
    return subprocess.run(claims, env=environment()).returncode


def run_site(options: argparse.Namespace) -> int:
    """Build the website from the notebooks, pages and docstrings that are there."""
    build = [prepare(options, site=True), str(Path("docs", "site", "build.py"))]
    return subprocess.run(build, env=environment()).returncode


def run_constraints(options: argparse.Namespace) -> int:
    """Install the newest versions that the requirements allow, run every check, and write them down if all pass.

    With ``--no-venv`` nothing is installed: what is there is tried.
    """
    if not options.no_venv and in_venv():
        print(f"This makes {VENV} anew, and the Python that runs this lives in it: say deactivate first.")
        return 1
    kept = CONSTRAINTS.read_bytes()
    CONSTRAINTS.write_text("# none: the newest are tried\n", encoding="utf-8")
    try:
        if not options.no_venv and VENV.exists():
            shutil.rmtree(VENV)
        code = run_test(options)
        if code == 0:
            kept = frozen(prepare(options, site=True)).encode()
    finally:
        CONSTRAINTS.write_bytes(kept)
    return code


def frozen(python: str) -> str:
    """The versions of everything installed there, as constraints."""
    freeze = [python, "-m", "pip", "freeze", "--exclude-editable", "--disable-pip-version-check"]
    lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    pinned = [line.partition("+")[0] for line in lines if re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)]  # no "+cpu"
    versions = sorted(pinned, key=str.lower)
    head = "# The versions that all tests passed with; make course and make test install these.\n"
    return head + "# Written by: python tasks.py constraints\n" + "\n".join(versions) + "\n"


def prepare(options: argparse.Namespace, *, site: bool = False) -> str:
    """Return the Python to use, after installing what it needs if that has changed since the last time.

    With ``site`` also what builds the website, which learners need not install.
    """
    if options.no_venv:
        return sys.executable
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    course, everything = (fingerprint(), fingerprint() + " site")
    enough = [everything] if site else [course, everything]
    if python.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") in enough:
        return str(python)
    print(
        f"Installing into {VENV}: PyTorch and JupyterLab are large, so this takes minutes the first time.", flush=True
    )
    STAMP.unlink(missing_ok=True)
    make_venv()
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    files = ["-c", str(CONSTRAINTS), "-r", "requirements.txt", "-e", ".[site]" if site else "."]
    subprocess.run([*install, "--no-compile", *files], check=True)
    compileall = [str(python), "-m", "compileall", "-qq", "-j", "0", "-x", RARELY_IMPORTED, str(VENV)]
    subprocess.run(compileall)  # on every core, where pip takes one; what can't be compiled is no error
    STAMP.write_text(everything if site else course, encoding="utf-8")
    return str(python)


def in_venv() -> bool:
    """Whether the Python that runs this lives in the virtual environment."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def make_venv() -> None:
    """Make the virtual environment, from nothing if another Python made the one that is there."""
    if in_venv():
        return
    try:
        import ensurepip  # noqa: F401  Debian keeps it in a package of its own
    except ImportError:
        sys.exit("This Python cannot make virtual environments. On Debian or Ubuntu: sudo apt install python3-venv")
    config = VENV / "pyvenv.cfg"
    same = config.exists() and "version = {}.{}.".format(*sys.version_info) in config.read_text(encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", *([] if same else ["--clear"]), str(VENV)], check=True)


def fingerprint() -> str:
    """Hash what an installation depends on: the requirements, the interpreter and the folder."""
    parts = [Path(name).read_bytes() for name in ("requirements.txt", "pyproject.toml", CONSTRAINTS)]
    parts += [sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def environment() -> dict[str, str]:
    """One thread per process, no progress bars and the base seed 0, whatever the user has set."""
    ours = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "KDREF_PROGRESS": "off", "KDREF_JOBS": "1"}
    quiet = {"PYTHONUTF8": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    unwanted = ("KDREF_SEED", "KDREF_DATA", "PYTHONDONTWRITEBYTECODE")  # without bytecode each process compiles anew
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**inherited, **ours, **quiet}


def seconds(notebook: Path) -> float:
    """How long the notebook took when it was built."""
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return float(metadata.get("kdref", {}).get("seconds", 0))


if __name__ == "__main__":
    sys.exit(main())
