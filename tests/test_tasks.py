"""The project's commands: what they install, when, and in which order they check."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

import tasks


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A project in another folder; the commands it runs, none of them for real."""
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(tasks, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(tasks, "STAMP", tmp_path / ".venv" / ".kdref-installed")
    monkeypatch.chdir(tmp_path)
    for name in ("requirements.txt", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    commands: list[str] = []

    def run(command: list[str], *, check: bool = False, env: object = None) -> SimpleNamespace:
        commands.append(" ".join(map(str, command)))
        if "venv" in command:
            for folder, program in (("bin", "python"), ("Scripts", "python.exe")):
                (tmp_path / ".venv" / folder).mkdir(parents=True, exist_ok=True)
                (tmp_path / ".venv" / folder / program).touch()
        return SimpleNamespace(returncode=0)

    def popen(command: list[str], **options: object) -> SimpleNamespace:
        return SimpleNamespace(returncode=run(command).returncode, communicate=lambda: (b"types", None))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(subprocess, "Popen", popen)
    return commands


def prepare(*, site: bool = False) -> str:
    return tasks.prepare(tasks.parser().parse_args(["test"]), site=site)


def test_the_first_run_installs_and_the_second_starts_at_once(calls: list[str]) -> None:
    python = prepare()
    assert python.startswith(str(tasks.VENV))
    assert " -m venv --clear " in calls[0]
    assert calls[1].endswith("--no-compile -c constraints.txt -r requirements.txt -e .")
    assert " -m compileall " in calls[2]
    assert len(calls) == 3
    assert prepare() == python
    assert len(calls) == 3


def test_what_builds_the_website_is_added_once_and_kept(calls: list[str]) -> None:
    prepare()
    prepare(site=True)
    assert calls[4].endswith("-r requirements.txt -e .[site]")
    assert len(calls) == 6
    prepare(site=True)
    prepare()
    assert len(calls) == 6


def test_the_site_is_built_by_its_own_command(calls: list[str]) -> None:
    assert tasks.main(["--no-venv", "site"]) == 0
    assert [call.replace("\\", "/").endswith(" docs/site/build.py") for call in calls] == [True]


@pytest.mark.parametrize("sep", ["/", "\\"])
def test_what_is_rarely_imported_is_not_compiled(sep: str) -> None:
    packages = {
        "transformers/models/llama/modeling_llama.py": True,
        "transformers/models/bert/modeling_bert.py": False,
        "transformers/models/auto/auto_factory.py": False,
        "pandas/tests/test_x.py": True,
        "mypy/build.py": True,
        "pygments/lexers/python.py": True,
        "pygments/lexer.py": False,
        "torch/testing/_internal/common_utils.py": True,
        "torch/testing/_comparison.py": False,
    }
    for path, skipped in packages.items():
        assert bool(re.search(tasks.RARELY_IMPORTED, f"lib/{path}".replace("/", sep))) == skipped


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed(calls: list[str], name: str) -> None:
    prepare()
    Path(name).write_text("another")
    prepare()
    assert len(calls) == 6


def test_another_python_gets_a_new_environment(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    (tasks.VENV / "pyvenv.cfg").write_text("version = {}.{}.1\n".format(*sys.version_info))
    Path("requirements.txt").write_text("another")
    prepare()
    assert "--clear" not in calls[3]
    monkeypatch.setattr(sys, "version", "another")
    (tasks.VENV / "pyvenv.cfg").write_text("version = 3.5.1\n")
    prepare()
    assert "--clear" in calls[6]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), subprocess.CalledProcessError(1, ["pip"])])
def test_an_interrupted_installation_is_repeated(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    prepare()
    Path("requirements.txt").write_text("another")
    run = subprocess.run

    def interrupted(command: list[str], **options: bool) -> SimpleNamespace:
        if "pip" in command:
            raise interruption
        return run(command, **options)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        with pytest.raises(type(interruption)):
            prepare()
    Path("requirements.txt").write_text("requirements.txt")  # as it was when an installation last succeeded
    before = len(calls)
    prepare()
    assert len(calls) == before + 3


def test_no_venv_uses_this_python_and_installs_nothing(calls: list[str]) -> None:
    assert tasks.prepare(tasks.parser().parse_args(["--no-venv", "course"])) == sys.executable
    assert calls == []


def test_an_old_python_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "OLDEST_PYTHON", (99,))
    assert tasks.main(["course"]) == 1
    assert "needs Python 3.11 or newer, and this is 3." in capsys.readouterr().out


def test_checks_run_in_turn_and_the_longest_notebook_first(
    calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seconds in (("00_a", 5), ("01_b", 30), ("solutions/01_b", 10)):
        path = Path("notebooks", f"{name}.ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"metadata": {"kdref": {"seconds": seconds}}}))
    assert tasks.main(["--no-venv", "test"]) == 0
    words = ["mypy --strict kdref", "ruff format --check .", "ruff check .", "pytest -n 2 --dist loadscope"]
    assert len(calls) == len(words)
    assert all(word in call for word, call in zip(words, calls, strict=True))
    assert re.findall(r"(\w+)\.ipynb", calls[-1].replace("solutions/", "s_")) == ["01_b", "s_01_b", "00_a"]
    assert "--nbval --nbval-current-env -p no:randomly" in calls[-1]
    assert calls[-1].endswith(" tests kdref")
    assert capsys.readouterr().out.count("passed") == len(words)


@pytest.mark.parametrize("failing", ["ruff", "mypy", "pytest"])
def test_one_failure_fails_all_and_no_slow_check_follows_it(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    Path("notebooks").mkdir()
    Path("notebooks", "00_a.ipynb").write_text('{"metadata": {}}')
    run = subprocess.run

    def fails(command: list[str], env: object = None) -> SimpleNamespace:
        run(command)
        return SimpleNamespace(returncode=int(failing in command))

    def popen(command: list[str], **options: object) -> SimpleNamespace:
        return SimpleNamespace(returncode=fails(command).returncode, communicate=lambda: (b"types", None))

    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.setattr(subprocess, "Popen", popen)
    assert tasks.main(["--no-venv", "test"]) == 1
    modules = [command.split()[2] for command in calls]
    assert modules == ["mypy", "ruff", "ruff", "pytest"][: 2 if failing == "ruff" else 4]
    report = capsys.readouterr().out
    assert report.count("FAILED") == 1
    assert "where the time went" in report


def test_checks_run_with_one_thread_and_the_base_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDREF_SEED", "7")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    environment = tasks.environment()
    assert {"KDREF_SEED", "PYTHONDONTWRITEBYTECODE"}.isdisjoint(environment)
    assert (environment["OMP_NUM_THREADS"], environment["KDREF_PROGRESS"], environment["KDREF_JOBS"]) == (
        "1",
        "off",
        "1",
    )


def test_notebooks_and_claims_are_handed_on(calls: list[str]) -> None:
    tasks.main(["--no-venv", "notebooks", "01"])
    tasks.main(["--no-venv", "claims", "--seeds", "0", "1000"])
    assert calls[0].endswith("-m kdref.lab.course.notebooks build 01")
    assert calls[1].endswith("-m kdref.lab.course.notebooks claims --seeds 0 1000")


FROZEN = "torch==2.14.1+cpu\nZope==1\nattrs==26.1.0\nkdref @ file:///home/me/kdref\n-e git+x#egg=y\n"


def test_constraints_are_names_and_versions_and_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=FROZEN))
    lines = tasks.frozen("python").splitlines()
    assert [line for line in lines if line[0] != "#"] == ["attrs==26.1.0", "torch==2.14.1", "Zope==1"]


@pytest.mark.parametrize("passes", [True, False])
def test_new_constraints_are_written_only_if_all_passes(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    tried: list[str] = []

    def run_test(options: object) -> int:
        tried.append(Path("constraints.txt").read_text())
        return int(not passes)

    monkeypatch.setattr(tasks, "run_test", run_test)
    monkeypatch.setattr(tasks, "frozen", lambda python: "new==1\n")
    assert tasks.main(["--no-venv", "constraints"]) == int(not passes)
    assert "==" not in tried[0], "the old versions were installed again"
    assert Path("constraints.txt").read_text() == ("new==1\n" if passes else "constraints.txt")


def test_constraints_are_not_made_by_the_environment_that_they_make_anew(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    before = len(calls)
    monkeypatch.setattr(sys, "prefix", str(tasks.VENV))
    assert tasks.main(["constraints"]) == 1
    assert "deactivate first" in capsys.readouterr().out
    assert len(calls) == before
    assert tasks.VENV.exists()
    assert Path("constraints.txt").read_text() == "constraints.txt"


def test_the_constraints_fit_the_requirements() -> None:
    root = Path(tasks.__file__).parent
    versions = dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines() if "==" in line)
    for line in (root / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(versions[requirement.name]), line


def test_make_has_every_command() -> None:
    makefile = (Path(__file__).resolve().parents[1] / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"^(\w+): ; \$\(PYTHON\) tasks\.py \1", makefile, re.MULTILINE) == re.findall(
        r"add_parser\(\"(\w+)\"", Path(tasks.__file__).read_text(encoding="utf-8")
    )
