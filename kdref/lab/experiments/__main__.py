"""Command line: ``python -m kdref.lab.experiments [NAME] [--seeds 0 1000 2000] [--jobs N] [--restart]``.

Killed and started again it loses the runs in progress only, one per worker. Lesson: notebooks/01_soft_targets.ipynb.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from kdref.lab.experiments import store
from kdref.lab.training.seeds import run_many
from kdref.lab.training.session import progress_on

PER_BASE = 8  # paired seeds counted from each base seed, unless the experiment has SEEDS of its own
BASE_SEEDS = (0, 1000, 2000)


def main(arguments: Sequence[str] | None = None) -> int:
    """List the experiments, or run what is still missing of one."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.experiments", description="Run and store an experiment.")
    parser.add_argument("name", nargs="?", choices=store.names(), help="without a name, list them and what is stored")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(BASE_SEEDS), help=f"base seeds, {PER_BASE} each")
    parser.add_argument("--jobs", type=int, default=None, help="worker processes (KDREF_JOBS, else one per processor)")
    parser.add_argument("--restart", action="store_true", help="set stored runs aside (NAME.json.old) and begin anew")
    options = parser.parse_args(arguments)
    if options.name is None:
        for name in store.names():
            stored = store.read(name)
            summary = (importlib.import_module(f"kdref.lab.experiments.{name}").__doc__ or "").splitlines()[0]
            print(f"{name:12} {len(stored['runs']) if stored else 0:5} runs stored   {summary}")
        return 0
    return run_missing(options.name, options.seeds, jobs=options.jobs, restart=options.restart)


def run_missing(name: str, base_seeds: Sequence[int], *, jobs: int | None, restart: bool) -> int:
    """Run every (seed, arm) that is not stored yet, storing after each."""
    module = importlib.import_module(f"kdref.lab.experiments.{name}")
    path = store.results_file(name)
    if restart and path.is_file():
        path.replace(path.with_suffix(".json.old"))
    stored = store.read(name)
    if stored is not None and stored["code_sha256"] != store.code_hash(name):
        print(f"{path} was made by other code than what is here now: --restart sets it aside and begins anew")
        return 1
    runs: list[dict[str, Any]] = stored["runs"] if stored else []
    done = {(run["seed"], run["arm"]) for run in runs}
    seeds = getattr(module, "SEEDS", [base + i for base in base_seeds for i in range(PER_BASE)])
    wanted = [(seed, arm) for seed in seeds for arm in module.ARMS]
    missing = [pair for pair in wanted if pair not in done]
    print(f"{name}: {len(wanted) - len(missing)} of {len(wanted)} runs are stored in {path}")
    bar = tqdm(total=len(missing), unit="run", disable=not progress_on())
    for row in run_many(module.run, missing, jobs=jobs) if missing else ():
        runs.append(row)
        store.write(name, runs)
        bar.update()
    bar.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
