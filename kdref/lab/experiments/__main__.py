"""Command line: ``python -m kdref.lab.experiments [NAME] [--seeds 0 1000 2000] [--jobs N] [--restart]``.

Killed and started again it loses the runs in progress only, one per worker. Several may work on one experiment: they
share its runs. Lesson: notebooks/01_soft_targets.ipynb.
"""

import argparse
import functools
import importlib
import random
import sys
from collections.abc import Sequence

from tqdm import tqdm

from kdref.__main__ import exit_with
from kdref.lab.experiments import store
from kdref.lab.training import session
from kdref.lab.training.seeds import run_many


def main(arguments: Sequence[str] | None = None) -> int:
    """List the experiments, or run what is still missing of one."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.experiments", description="Run and store an experiment.")
    parser.add_argument("name", nargs="?", choices=store.names(), help="without a name, list them and what is stored")
    per_base, processes = f"base seeds, {store.PER_BASE} each", "worker processes (KDREF_JOBS, else one per processor)"
    parser.add_argument("--seeds", type=session.seed, nargs="+", default=list(store.BASE_SEEDS), help=per_base)
    parser.add_argument("--jobs", type=session.workers, help=processes)
    parser.add_argument("--restart", action="store_true", help="set stored runs aside (NAME.json.old) and begin anew")
    options = parser.parse_args(arguments)
    if options.name is None:
        return list_all()
    try:
        jobs = session.jobs() if options.jobs is None else options.jobs
    except ValueError as error:
        parser.error(str(error))
    try:
        return run_missing(options.name, options.seeds, jobs=jobs, restart=options.restart)
    except store.StoredRunsError as error:
        print(error, file=sys.stderr)
        return 1


def list_all() -> int:
    """A line per experiment, and a line for each whose file is damaged; 1 if there is one."""
    problems, width = [], max(map(len, store.names()))
    for name in store.names():
        summary = (importlib.import_module(f"kdref.lab.experiments.{name}").__doc__ or "").splitlines()[0]
        try:
            stored = store.read(name)
            count = str(len(stored["runs"]) if stored else 0)
        except store.StoredRunsError as error:
            problems.append(str(error))
            count = "no"
        print(f"{name:{width}} {count:>5} runs stored   {summary}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


def run_missing(name: str, base_seeds: Sequence[int], *, jobs: int, restart: bool) -> int:
    """Run every (seed, arm) that is not stored yet, storing after each."""
    module = importlib.import_module(f"kdref.lab.experiments.{name}")
    path, code = store.results_file(name), store.code_hash(name)
    if restart and (old := store.set_aside(name)):
        print(f"what was stored is now {old}")
    stored = store.read(name)
    if stored is not None and stored["code_sha256"] != code:
        print(f"{path} was made by other code than what is here now: --restart sets it aside and begins anew")
        return 1
    wanted, done = store.wanted(name, base_seeds), store.pairs(stored["runs"] if stored else [])
    missing = [pair for pair in wanted if pair not in done]
    print(f"{name}: {len(wanted) - len(missing)} of {len(wanted)} runs are stored in {path}")
    if not missing:
        return 0
    run = functools.partial(store.unless_stored, name, module.run)
    bar = tqdm(total=len(missing), unit="run", disable=not session.progress_on())
    with store.locked(name, "running", wait=False) as alone, bar:
        if not alone:  # in another order it rarely begins a run that the other process is at
            print("another process is at work on this experiment: they share its runs")
            random.shuffle(missing)
        for row in run_many(run, missing, jobs=jobs):
            if row.keys() > {"seed", "arm"}:  # else the other process has stored it
                store.add(name, row, code_sha256=code)
            bar.update()
    return 0


if __name__ == "__main__":
    exit_with(main)
