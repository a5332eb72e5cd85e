"""JupyterLab on the learner's copies, for this computer only, and closed to its other users.

Lesson: notebooks/00_start_here.ipynb.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from urllib.parse import quote

from kdref.lab.course import workspace

__all__ = ["start"]

SHORT = "/tmp"  # for the sockets of a user whose own folders have too long a path


def start(*, lesson: str = "00", browser: bool = True) -> int:
    """Open JupyterLab on the learner's copies, for this computer only, with Jupyter's token.

    Args:
        lesson: Number or topic of the lesson to open.
        browser: False prints the address instead; so does a Linux machine without a display.

    Returns:
        Jupyter's exit code.

    Raises:
        ImportError: If JupyterLab is not installed.
        ValueError: If there is no such lesson.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed")
    (found,) = workspace.find_all([lesson], workspace.lessons())
    notebook = workspace.work_folder() / found.path.name
    made = workspace.make_copies(workspace.work_folder())
    print(f"Your copies of the lessons are in {workspace.work_folder()} ({len(made)} new). They are never overwritten.")
    command = [*_jupyter(notebook, browser=browser and _has_display()), *_private_kernels()]
    if "--no-browser" in command:
        print("Open the address with 127.0.0.1 that Jupyter prints below; the token in it is your key.", flush=True)
    if os.name == "posix":
        os.chdir(workspace.home_folder())
        os.execv(command[0], command)  # this process becomes the server, so that signals reach it
    return _wait(subprocess.Popen(command, cwd=workspace.home_folder()))


def _jupyter(notebook: Path, *, browser: bool) -> list[str]:
    home = workspace.home_folder()
    address = "/lab/tree/" + quote(notebook.relative_to(home).as_posix())  # what it opens, or prints for you to open
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={home}", f"--LabApp.default_url={address}"]
    command += ["--ServerApp.ip=127.0.0.1"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # offline
    settings = Path(__file__).parent / "jupyter"  # overrides.json: and don't ask about news
    command.append(f"--LabApp.app_settings_dir={settings}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers have no other user, and Jupyter refuses root otherwise
    return command if browser else [*command, "--no-browser"]


def _private_kernels() -> list[str]:
    """Options that make the server talk to its kernels through sockets in a folder that only this user may open.

    Over TCP, Jupyter's default, whoever has an account on the machine can read a kernel's code and outputs.
    """
    if os.name != "posix":
        return []
    from jupyter_core.paths import jupyter_runtime_dir

    if not _holds_sockets(Path(jupyter_runtime_dir())):
        short = Path(tempfile.mkdtemp(prefix="jupyter-", dir=SHORT))
        if not _holds_sockets(short):
            short.rmdir()
            print("This system has no sockets in files: other users of this machine can read what your kernels print.")
            return []
        os.environ["JUPYTER_RUNTIME_DIR"] = str(short)
    return ["--KernelManager.transport=ipc"]


def _holds_sockets(folder: Path) -> bool:
    """Try one: the folder may be open to others, its path too long (about 100 letters), or the disk know no sockets."""
    path = folder / f"kernel-{uuid.uuid4()}-ipc-10"  # as long as those that Jupyter makes
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            return False
        with socket.socket(socket.AF_UNIX) as trial:
            trial.bind(str(path))
        path.unlink()
    except OSError:
        return False
    return True


def _wait(server: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:  # Jupyter got it too, and asks whether to stop
            continue


def _has_display() -> bool:
    graphical = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(graphical) or not sys.platform.startswith("linux")
