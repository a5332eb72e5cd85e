"""Paired seeds: run every arm on every seed, and say what the differences allow one to say.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from kdref.lab.training import session

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["compare", "replicate"]

Run = Callable[[int, str], Mapping[str, float]]
UNCORRECTED = 5  # so many arms may meet a baseline before their intervals are widened


def replicate(run: Run, *, arms: Sequence[str], seeds: Sequence[int], jobs: int | None = None) -> "DataFrame":
    """Run every arm on every seed, in parallel processes with one thread each.

    Within a seed the arms are paired: let ``run`` derive initialisation, data order and split from the seed alone.

    Args:
        run: Takes a seed and an arm's name, returns named numbers.
        arms: Names of the arms.
        seeds: Seeds, shared by all arms.
        jobs: Worker processes, at most one per run. None follows the environment variable ``KDREF_JOBS``, else one per
            processor.

    Returns:
        One row per run: ``arm``, ``seed`` and the numbers; the same whatever the number of workers.

    Raises:
        ValueError: If arms or seeds are missing or named twice, there is no worker, or a run returns an "arm" or a
            "seed" of its own.

    Example:
        >>> replicate(lambda seed, arm: {"score": seed + len(arm)}, arms=["a", "bb"], seeds=[0], jobs=1)
          arm  seed  score
        0   a     0      1
        1  bb     0      2
    """
    import pandas as pd

    for name, values in (("arms", arms), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name} must be given, each once, got {list(values)}")
    pairs = [(seed, arm) for seed in seeds for arm in arms]
    rows = sorted(run_many(run, pairs, jobs=jobs), key=lambda row: pairs.index((row["seed"], row["arm"])))
    return pd.DataFrame(rows)


def run_many(run: Run, pairs: Sequence[tuple[int, str]], *, jobs: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield a row for each (seed, arm) as soon as it is done, in any order: the parallel engine of ``replicate``."""
    jobs = min(_workers(jobs), len(pairs))  # a worker takes seconds to start
    if jobs <= 1:
        return (_one(run, seed, arm) for seed, arm in pairs)
    import joblib

    tasks = [joblib.delayed(_one_in_worker)(os.getpid(), run, seed, arm) for seed, arm in pairs]
    results: Iterator[dict[str, Any]] = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    return results


def compare(
    table: "DataFrame",
    *,
    baseline: str,
    metric: str,
    margin: float = 0.01,
    higher_is_better: bool = True,
    corrected: bool | None = None,
) -> "DataFrame":
    """Paired difference of every arm from the baseline, with a 95 % interval and a verdict.

    The interval is Student's t over the per-seed differences. *Helps* or *hurts*: the whole interval is on one side
    of zero. *No useful difference*: it lies within the margin. Otherwise *undecided*. Of many arms one clears zero by
    luck, so where more than five meet the baseline the intervals are widened for their number (Bonferroni): together
    they hold all true differences 95 % of the time, or more.

    Args:
        table: What ``replicate`` returned.
        baseline: The arm that the others are compared with.
        metric: The column to compare.
        margin: Differences smaller than this are of no use to you; say it before you look.
        higher_is_better: False for a loss or an error.
        corrected: Whether to widen the intervals for the number of arms. None: if there are more than five.

    Returns:
        One row per arm, the baseline first: ``mean``, ``difference``, ``low``, ``high``, ``seeds``, ``comparisons``
        (for how many the interval is widened, 1 if it isn't), ``verdict``.

    Raises:
        ValueError: If the arm or metric is unknown, a run is missing or double, a value is not finite, there are
            fewer than two seeds, or the margin is negative.

    Example:
        >>> rows = [("plain", 0, 0.70), ("taught", 0, 0.75), ("plain", 1, 0.72), ("taught", 1, 0.76)]
        >>> import pandas as pd
        >>> table = pd.DataFrame(rows, columns=["arm", "seed", "accuracy"])
        >>> taught = compare(table, baseline="plain", metric="accuracy").loc["taught"]
        >>> round(float(taught["difference"]), 3), taught["verdict"]
        (0.045, 'undecided')
    """
    from scipy.special import stdtrit  # Student's t quantile; scipy.stats has it too, and takes a second to import

    values = _by_seed(table, baseline, metric)
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}")
    seeds, met = len(values), values.shape[1] - 1
    comparisons = max(met, 1) if (met > UNCORRECTED if corrected is None else corrected) else 1
    result = values.mean().to_frame("mean")
    differences = values.sub(values[baseline], axis=0)
    half = stdtrit(seeds - 1, 1 - 0.025 / comparisons) * differences.std(ddof=1) / seeds**0.5
    result["difference"] = differences.mean()
    result["low"] = result["difference"] - half
    result["high"] = result["difference"] + half
    result["seeds"] = seeds
    result["comparisons"] = comparisons
    sign = 1 if higher_is_better else -1
    result["verdict"] = [
        "baseline" if arm == baseline else _verdict(sign * row["low"], sign * row["high"], margin)
        for arm, row in result.iterrows()
    ]
    return result


def _verdict(one_end: float, other_end: float, margin: float) -> str:
    low, high = sorted((one_end, other_end))
    if low > 0:
        return "helps"
    if high < 0:
        return "hurts"
    return "no useful difference" if -margin <= low and high <= margin else "undecided"


def _by_seed(table: "DataFrame", baseline: str, metric: str) -> "DataFrame":
    """One row per seed, one column per arm, the baseline's first; refuses a table that is not fully paired."""
    arms = list(dict.fromkeys(table["arm"]))
    if baseline not in arms:
        raise ValueError(f"no arm named {baseline!r}: there are {arms}")
    if metric not in table:
        raise ValueError(f"no metric named {metric!r}: there are {[c for c in table if c not in ('arm', 'seed')]}")
    if table.duplicated(["arm", "seed"]).any():
        raise ValueError(
            f"runs stored twice: {table[table.duplicated(['arm', 'seed'])][['arm', 'seed']].values.tolist()}"
        )
    values = table.pivot(index="seed", columns="arm", values=metric)[[baseline, *(a for a in arms if a != baseline)]]
    if len(values) < 2:
        raise ValueError("an interval needs at least 2 seeds, and a claim at least 8")
    for arm, column in values.items():
        bad = [int(seed) for seed, value in column.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"arm {arm!r} has no finite {metric} for seeds {bad}: every arm needs every seed")
    return values


def _one_in_worker(parent: int, run: Run, seed: int, arm: str) -> dict[str, Any]:
    _end_with(parent)
    return _one(run, seed, arm)


@functools.lru_cache(maxsize=1)
def _end_with(parent: int) -> None:
    """End this worker soon after the process that started it: one that is killed tells nobody."""
    if os.getpid() == parent:  # a thread of it, not a process
        return

    def watch() -> None:
        while _alive(parent):
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _alive(parent: int) -> bool:
    if os.name == "posix":
        return os.getppid() == parent  # orphans get another parent
    import psutil

    return bool(psutil.pid_exists(parent))


def _workers(jobs: int | None) -> int:
    try:
        return session.jobs() if jobs is None else session.workers(str(jobs))
    except ValueError as error:
        raise ValueError(f"jobs {error}" if jobs is not None else str(error)) from None


def _one(run: Run, seed: int, arm: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    found = run(seed, arm)
    if taken := sorted({"arm", "seed"} & set(found)):
        raise ValueError(f"a run must not return {taken}: these columns say which run it was")
    return {"arm": arm, "seed": seed, **found}
