"""The command ``python -m kdref.lab.bench NAME``."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

import torch

from kdref.__main__ import exit_with
from kdref.lab import bench
from kdref.lab.bench import timing

__all__ = ["main", "names"]

HELPERS = ("inside", "peers", "plain_feature_losses", "plain_losses", "plain_relation_losses", "row", "timing")


def names() -> list[str]:
    """The benchmarks there are."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in found if name not in HELPERS and not name.startswith("_"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark, once for each number of threads, and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.bench", description="Ratios measured in one run.")
    parser.add_argument("name", choices=names(), help="the benchmark")
    parser.add_argument(
        "--threads", type=_positive, nargs="+", metavar="N", help="the benchmark's own by default, or 1"
    )
    parser.add_argument("--repeats", type=_positive, default=20, metavar="N", help="interleaved rounds, 20 by default")
    options = parser.parse_args(arguments)
    benchmark = importlib.import_module(f"kdref.lab.bench.{options.name}")
    before = torch.get_num_threads()
    try:
        for threads in options.threads or getattr(benchmark, "THREADS", [1]):
            torch.set_num_threads(threads)
            sys.stdout.write(f"{benchmark.run(options.repeats)}\n\n{timing.environment()}\n\n")
            sys.stdout.flush()
    finally:
        torch.set_num_threads(before)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    exit_with(main)
