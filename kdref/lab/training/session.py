"""One session of the lab: its threads, its seed, and the environment variables it obeys.

``KDREF_SEED`` is the base seed (0), ``KDREF_JOBS`` the worker processes of ``lab.replicate`` (one per processor),
``KDREF_PROGRESS=off`` hides the progress bars. Lesson: notebooks/00_start_here.ipynb.
"""

import argparse
import os
from collections.abc import Callable

import torch

__all__ = ["base_seed", "jobs", "progress_on", "seed", "setup", "workers"]

LARGEST_SEED = 4_000_000_000  # NumPy's end at 2**32, and lessons count on from the base seed


def setup() -> None:
    """Make this session repeatable: one thread, deterministic algorithms, the global generator seeded.

    Call it in a notebook's first cell. Worker processes inherit the one thread. On a GPU, operations that have no
    deterministic version raise an error instead of giving other numbers at every run.

    Example:
        >>> setup()
        >>> torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        (1, True)
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler too: two seconds
    torch.manual_seed(base_seed())


def base_seed() -> int:
    """The seed that a lesson's other seeds are counted from: ``KDREF_SEED``, or 0.

    Raises:
        ValueError: If ``KDREF_SEED`` is not a whole number, negative, or beyond four thousand million.
    """
    return _of_environment("KDREF_SEED", seed, default=0)


def jobs() -> int:
    """How many processes run seeds in parallel: ``KDREF_JOBS``, or one per processor.

    Raises:
        ValueError: If ``KDREF_JOBS`` is not a whole number from 1 to 10,000.
    """
    return _of_environment("KDREF_JOBS", workers, default=os.cpu_count() or 1)


def seed(text: str) -> int:
    """A base seed, as somebody typed it.

    Raises:
        ValueError: If it is none.
    """
    return _whole_number(text, 0, LARGEST_SEED)


def workers(text: str) -> int:
    """A number of worker processes, as somebody typed it.

    Raises:
        ValueError: If it is none.
    """
    return _whole_number(text, 1, 10_000)


def progress_on() -> bool:
    """Whether progress bars are shown: they are, unless ``KDREF_PROGRESS`` is ``off``."""
    return os.environ.get("KDREF_PROGRESS") != "off"


class _NumberError(argparse.ArgumentTypeError, ValueError):
    """A value out of range; a command line shows its words too."""


def _of_environment(variable: str, read: Callable[[str], int], *, default: int) -> int:
    text = os.environ.get(variable, "")
    try:
        return read(text) if text else default
    except ValueError as error:
        raise ValueError(f"{variable} {error}: change or unset it") from None


def _whole_number(text: str, smallest: int, largest: int) -> int:
    if not text.isdecimal() or len(text) > 20 or not smallest <= int(text) <= largest:
        raise _NumberError(f"must be a whole number from {smallest} to {largest:,}, got {text!r}")
    return int(text)
