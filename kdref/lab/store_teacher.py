r"""Run a teacher over a data set once and keep what it says: ``python -m kdref.lab.store_teacher --help``.

On four processes ``torchrun --nproc-per-node 4 -m kdref.lab.store_teacher ...``; after it was killed the same command.

    python -m kdref.lab.store_teacher --teacher mine:teacher --data mine:train --to outputs \
        --pack kdref.language:sparse_teacher --pack-options '{"k": 50}' --names indices,log_probs,tail_log_mass \
        --mask mine:real_tokens --tokenizer mine:tokenizer --dtype float16

``mine:teacher`` is the function ``teacher()`` in mine.py. Lesson: notebooks/17_scale_out.ipynb.
"""

import argparse
import functools
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch

from kdref.__main__ import exit_with
from kdref.lab.training.stored import StoredOutputs
from kdref.lab.training.storing import store

__all__ = ["main"]

MADE = {"teacher": "a function that gives the network", "data": "one that gives the data set, examples by number"}
FUNCTIONS = {
    "pack": "from logits to what is kept (default: the logits)",
    "inputs": "from a batch to what the teacher is called with",
    "mask": "from a batch to which tokens are kept, (B, L)",
    "collate": "from a list of examples to a batch",
}
DTYPES = ("float32", "float16", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; a mistake of the user's is one line on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m kdref.lab.store_teacher", description=(__doc__ or "").split("\n")[0]
    )
    for name, words in MADE.items():
        parser.add_argument(f"--{name}", required=True, metavar="MODULE:NAME", help=words)
    for name, words in FUNCTIONS.items():
        parser.add_argument(f"--{name}", metavar="MODULE:NAME", help=words)
    parser.add_argument("--pack-options", type=json.loads, default={}, metavar="JSON", help="settings of pack")
    parser.add_argument("--names", default="", metavar="A,B", help="of the tensors that pack gives")
    parser.add_argument("--tokenizer", metavar="MODULE:NAME", help="a function that gives the tokeniser")
    parser.add_argument("--to", required=True, metavar="FOLDER")
    parser.add_argument("--dtype", choices=DTYPES, help="of fractions (default: as they are)")
    parser.add_argument("--device", default="auto")
    for name, default in {"batch-size": 64, "shard-size": 4096, "workers": 0, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    options = parser.parse_args(arguments)
    rank, count, local = (int(os.environ.get(name, default)) for name, default in _process())
    sys.path.insert(0, "")
    try:
        functions = {name: _found(getattr(options, name)) for name in FUNCTIONS if getattr(options, name)}
        if options.pack and options.pack_options:
            functions["pack"] = functools.partial(functions["pack"], **options.pack_options)
        done = store(
            _found(options.teacher)(),
            _found(options.data)(),
            options.to,
            **functions,
            names=[name for name in options.names.split(",") if name],
            tokenizer=_found(options.tokenizer)() if options.tokenizer else None,
            dtype=getattr(torch, options.dtype) if options.dtype else None,
            batch_size=options.batch_size,
            shard_size=options.shard_size,
            workers=options.workers,
            seed=options.seed,
            device=_device(options.device, local),
            rank=rank,
            count=count,
        )
    except (ValueError, TypeError, OSError, ImportError, AttributeError) as mistake:
        print(f"store_teacher: {mistake}", file=sys.stderr)
        return 1
    anew = f", {done.damaged} of them anew, being damaged" if done.damaged else ""
    print(f"process {rank} of {count}: {done.written} of its {done.shards} shards written{anew}")
    try:
        errors = StoredOutputs(options.to).errors
    except FileNotFoundError:
        return 0  # others are still at work
    for name, error in errors.items():
        print(f"{name} in {options.dtype}: largest difference {error:.2g}")
    return 0


def _process() -> list[tuple[str, int]]:
    """The variables that say which process this is: torchrun's, or Slurm's."""
    if "RANK" not in os.environ and "SLURM_PROCID" in os.environ:
        return [("SLURM_PROCID", 0), ("SLURM_NTASKS", 1), ("SLURM_LOCALID", 0)]
    return [("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)]


def _device(name: str, local: int) -> torch.device:
    if name != "auto":
        return torch.device(name)
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else torch.device(found.type, local % torch.accelerator.device_count())


def _found(where: str) -> Any:
    module, _, name = where.partition(":")
    if not name:
        raise ValueError(f"{where!r} must be MODULE:NAME, mine:teacher for instance")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    exit_with(main)
