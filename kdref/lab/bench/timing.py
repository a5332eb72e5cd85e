"""Time and memory of several ways to do one thing, measured side by side.

A ratio within one run is worth reporting, since machine and moment are the same for both; milliseconds alone are not.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = [
    "environment",
    "interleaved",
    "markdown",
    "multiplication_rate",
    "peak_extra_memory",
    "rates",
    "ratio",
]


def interleaved(functions: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Time every function once per round, so that a busy moment falls on all of them.

    Each is called once beforehand, untimed, and every round begins with another one.

    Args:
        functions: By name; called without arguments.
        repeats: Rounds, at least 1.

    Returns:
        For each name the seconds of every round.

    Raises:
        ValueError: If ``repeats`` is not positive.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    for function in functions.values():
        function()
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], name: str, against: str) -> float:
    """How many times longer one takes than another: the median over rounds of the ratio within a round.

    Example:
        >>> ratio({"a": [2.0, 4.0, 90.0], "b": [1.0, 2.0, 30.0]}, "a", "b")
        2.0
    """
    return statistics.median(one / other for one, other in zip(seconds[name], seconds[against], strict=True))


def peak_extra_memory(function: Callable[[], object]) -> int:
    """Bytes that a call holds at its peak beyond what was allocated before it, so without its inputs.

    The largest running sum of the allocations and releases that torch's profiler records; tensors only. The function
    is called once beforehand, so that what it keeps for good is not counted.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or the profiler reports each start and stop on stderr
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table.

    Example:
        >>> print(markdown(["what", "ratio"], [["a", "1.02"]]))
        | what | ratio |
        |---|---|
        | a | 1.02 |
    """
    lines = [head, *rows]
    if len({len(line) for line in lines}) != 1:
        raise ValueError(f"every row needs {len(head)} cells, got {[len(row) for row in rows]}")
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([table[0], "|" + "---|" * len(head), *table[1:]])


def environment() -> str:
    """Say in one line what was measured on."""
    threads = torch.get_num_threads()
    return (
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{threads} thread{'s' * (threads > 1)}"
    )


def multiplication_rate() -> float:
    """How many GFLOP/s a product of matrices of 1024 rows and columns reaches here."""
    a = torch.ones(1024, 1024)
    seconds = interleaved({"multiply": lambda: a @ a}, repeats=10)
    return 2 * 1024**3 / statistics.median(seconds["multiply"]) / 1e9


def rates() -> str:
    """Say in one line what bounds a loss here: how fast matrices are multiplied, and how fast memory is copied."""
    source = torch.empty(1 << 25)
    target = torch.empty_like(source)
    multiplications = multiplication_rate()
    seconds = interleaved({"copy": lambda: target.copy_(source)}, repeats=10)
    copied = 2 * 4 * source.numel() / statistics.median(seconds["copy"]) / 1e9  # read and written
    return f"This machine multiplies matrices at {multiplications:.0f} GFLOP/s and copies at {copied:.1f} GB/s"
