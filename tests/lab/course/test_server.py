"""The command that opens JupyterLab: on whose copies, for whom, and how it talks to its kernels."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jupyter_core.paths
import psutil
import pytest
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets.config import Config

from kdref.__main__ import main
from kdref.lab.course import server, workspace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in that is not this repository, and whose path has room for sockets."""
    monkeypatch.setattr(workspace, "home_folder", lambda: tmp_path)
    monkeypatch.setattr(server, "_private_kernels", lambda: ["--private"])
    return tmp_path


@pytest.fixture
def jupyter(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of the command that would have been started."""
    words: list[str] = []

    class Server:
        def __init__(self, command: list[str], cwd: Path) -> None:
            words.extend(command)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(os, "execv", lambda program, command: words.extend(command))
    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setattr(os, "chdir", lambda path: None)
    return words


def test_start_opens_my_copy_on_this_computer_only(jupyter: list[str], home: Path) -> None:
    main(["start", "--lesson", "01", "--no-browser"])
    assert f"--ServerApp.root_dir={home}" in jupyter
    assert "--LabApp.default_url=/lab/tree/work/01_soft_targets.ipynb" in jupyter
    assert (home / "work" / "01_soft_targets.ipynb").exists()
    assert "--ServerApp.ip=127.0.0.1" in jupyter
    assert "--private" in jupyter
    assert not [word for word in jupyter if "token" in word or "password" in word]
    settings = next(word for word in jupyter if word.startswith("--LabApp.app_settings_dir=")).partition("=")[2]
    overrides = json.loads(Path(settings, "overrides.json").read_text(encoding="utf-8"))
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"  # or Jupyter asks first
    assert "--no-browser" in jupyter


@pytest.mark.parametrize(("display", "opens"), [("", False), (":0", True)])
def test_start_prints_the_address_where_there_is_no_display(
    jupyter: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], display: str, opens: bool
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    main(["start"])
    assert ("--no-browser" not in jupyter) == opens
    assert ("Open the address" not in capsys.readouterr().out) == opens


def test_start_without_jupyterlab_says_what_to_install(
    jupyter: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["start"]) == 1
    assert "kdref[lab]" in capsys.readouterr().err
    assert jupyter == []


# Kernels --------------------------------------------------------------------------------------------------------------

needs_sockets = pytest.mark.skipif(os.name != "posix", reason="Windows has no sockets that Jupyter can use")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path, as a home has, and the environment put back."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "as it was")
    with tempfile.TemporaryDirectory(dir=server.SHORT, prefix="kdref-test-") as folder:
        monkeypatch.setattr(server, "SHORT", folder)
        yield Path(folder)


@needs_sockets
def test_kernels_are_reached_through_sockets_in_jupyters_own_folder(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short / "runtime"))
    assert server._private_kernels() == ["--KernelManager.transport=ipc"]
    assert os.environ["JUPYTER_RUNTIME_DIR"] == str(short / "runtime")
    assert list((short / "runtime").iterdir()) == []
    assert stat.S_IMODE((short / "runtime").stat().st_mode) == 0o700


@needs_sockets
@pytest.mark.parametrize("length", [20, 50, 60, 90])
def test_where_its_path_is_too_long_they_are_in_a_short_one_for_this_user_only(
    short: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    runtime = short / ("x" * (length - len(str(short)) - 1) if length > 40 else "x")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    assert server._private_kernels() == ["--KernelManager.transport=ipc"]
    used = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    assert (used == runtime) == (length <= 50)
    assert stat.S_IMODE(used.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as trial:
        trial.bind(str(used / "kernel-12345678-1234-1234-1234-123456789012-ipc-5"))


@needs_sockets
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o710])
def test_where_others_may_open_the_folder_they_are_in_another(
    short: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    runtime = short / "runtime"
    runtime.mkdir()
    runtime.chmod(mode)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    assert server._private_kernels() == ["--KernelManager.transport=ipc"]
    used = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    assert used != runtime
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


@needs_sockets
def test_a_disk_without_sockets_is_said_and_the_course_starts_all_the_same(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "_holds_sockets", lambda folder: False)
    assert server._private_kernels() == []
    assert "other users of this machine can read" in capsys.readouterr().out
    assert list(short.iterdir()) == []
    assert os.environ["JUPYTER_RUNTIME_DIR"] == "as it was"


def test_a_system_without_sockets_in_files_keeps_jupyters_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.os, "name", "nt")
    assert server._private_kernels() == []


@needs_sockets
def test_a_kernel_of_that_option_runs_gives_nothing_out_on_a_port_and_leaves_no_socket(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short))
    monkeypatch.setattr(jupyter_core.paths, "jupyter_runtime_dir", lambda: str(short))
    option = server._private_kernels()[0].removeprefix("--KernelManager.transport=")
    config = Config({"KernelManager": {"transport": option}})
    manager = AsyncMappingKernelManager(config=config, connection_dir=str(short))

    async def look() -> tuple[list[str], list[object], str]:
        number = await manager.start_kernel()
        kernel = manager.get_kernel(number)
        client = kernel.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            answer = await client.execute_interactive("6 * 7", store_history=False, output_hook=lambda message: None)
            sockets = sorted(path.name for path in short.glob("*-ipc-*"))
            process = psutil.Process(kernel.provisioner.pid)
            return sockets, process.net_connections("inet"), answer["content"]["status"]
        finally:
            client.stop_channels()
            await manager.shutdown_all(now=True)

    sockets, ports, status = asyncio.run(look())
    assert status == "ok"
    assert len(sockets) == 5
    assert len(ports) <= 1  # six over TCP; the one left takes outputs of forked processes, and gives nothing out
    assert list(short.iterdir()) == []
