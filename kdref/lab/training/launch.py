"""Start a module on several processes of this machine, as ``torchrun`` on the command line does, and wait for it.

Lesson: notebooks/17_scale_out.ipynb.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["torchrun"]


def torchrun(
    module: str, *arguments: str | Path, processes: int = 2, folder: str | Path | None = None, timeout: float = 600.0
) -> str:
    """What ``torchrun --standalone --nproc-per-node PROCESSES -m MODULE ARGUMENTS`` prints; nothing of it is left over.

    Each process computes on one thread. They meet on a free port of this machine.

    Args:
        module: As in ``python -m``.
        arguments: Of the module's command line.
        processes: How many, at least 1.
        folder: Where they run. None: here.
        timeout: After so many seconds they are killed.

    Raises:
        ValueError: If there is no process.
        RuntimeError: If one fails, with the end of what they wrote on standard error.
        subprocess.TimeoutExpired: If they are not done in time.

    Example:
        >>> torchrun("kdref", "--version", processes=1).startswith("kdref")
        True
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **({"USE_LIBUV": "0"} if os.name == "nt" else {})}  # none there
    with subprocess.Popen(
        [*command, "-m", module, *map(str, arguments)],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as started:
        try:
            said, complaints = started.communicate(timeout=timeout)
        except BaseException:  # an interrupt too: each process has a session of its own, and would go on
            _kill(started.pid)
            raise
    if started.returncode:
        raise RuntimeError(f"{module} failed on {processes} processes:\n{complaints[-3000:].strip()}")
    return said


def _kill(pid: int) -> None:
    """End a process and all that it has started."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
