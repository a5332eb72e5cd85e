"""Running a teacher over a data set once, on any number of processes, and keeping what it says.

Lesson: notebooks/17_scale_out.ipynb.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdref.lab.data.files import temporary_beside, write_whole
from kdref.lab.training import fingerprints
from kdref.lab.training.forward import Inputs, evaluating, forward, logits_of
from kdref.lab.training.stored import HEAD, OFFSETS, differences, hash_of, header, shard_path, whole

__all__ = ["Written", "store"]

Pack = Callable[[Tensor], Tensor | Sequence[Tensor] | Mapping[str, Tensor]]


class Written(NamedTuple):
    """What one process has done of its part."""

    shards: int
    written: int
    damaged: int  # of those written: shards that were there and were not whole


def store(
    teacher: nn.Module,
    data: Any,
    folder: str | Path,
    *,
    pack: Pack | None = None,
    names: Sequence[str] = (),
    inputs: Callable[[Any], Inputs] | None = None,
    mask: Callable[[Any], Tensor] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    tokenizer: Any = None,
    dtype: torch.dtype | None = None,
    batch_size: int = 64,
    shard_size: int = 4096,
    workers: int = 0,
    device: str | torch.device = "cpu",
    seed: int = 0,
    rank: int = 0,
    count: int = 1,
) -> Written:
    """Write a teacher's outputs for a data set, in files of ``shard_size`` examples, each written whole.

    What is there already, is whole, and of the same teacher, data and tokeniser, is kept: a run that was killed goes on
    and has lost at most one shard for each process. Which process makes which shard changes nothing in it, so another
    number of processes may go on.

    Args:
        teacher: Run in eval mode. It gives logits, or something that holds them.
        data: Examples by number, without augmentation: a Dataset, a list or a tensor.
        folder: Where to; of one teacher, one data set and one packing.
        pack: From logits to what is kept, examples first (tokens, where there is a mask): one tensor, several, or a
            dictionary. None: the logits. ``functools.partial(kdref.language.sparse_teacher, k=50)``, for instance.
        names: Of the tensors that ``pack`` gives, where it gives no dictionary.
        inputs: From a batch to what the teacher is called with. None: the first of a tuple, a dictionary but for its
            labels, or the batch.
        mask: From a batch to a bool tensor ``(B, L)``, True for tokens whose outputs are kept. None: logits have no
            axis of tokens, or all of it is kept.
        collate: From a list of examples to a batch; None: torch's.
        tokenizer: What made the data of text, so that outputs are never used with another one: a tokeniser, or a text
            that says which.
        dtype: In which fractions are kept, torch.float16 for instance; the largest difference stands in the header.
            None: as they are. Whole numbers take four bytes where they fit.
        batch_size, shard_size, workers: Examples in a forward pass and in a file; processes that load data.
        device: Where the teacher runs.
        seed: Of what ``pack`` draws, with the shard's number.
        rank, count: Which process this is, of how many.

    Returns:
        How many shards this process has, and how many it wrote.

    Raises:
        ValueError: If the folder is of something else, data are empty or change between readings, the teacher says NaN,
            or a number does not fit the dtype; names what and where.
        TypeError: If data can't be read by number, or ``pack`` gives no tensors.
    """
    if min(batch_size, shard_size, count) < 1 or not 0 <= rank < count:
        raise ValueError(f"need sizes of at least 1, got {batch_size=}, {shard_size=}, {rank=} of {count=}")
    folder = Path(folder)
    provenance = {
        "format": 1,
        "examples": len(data) if hasattr(data, "__len__") else 0,
        "shard_size": shard_size,
        "data": fingerprints.of_data(data),
        "teacher": fingerprints.of_teacher(teacher),
        "tokenizer": fingerprints.of_tokenizer(tokenizer),
        "pack": _called(pack) if pack else "logits",
        "inputs": _called(inputs) if inputs else "as usual",
        "mask": _called(mask) if mask else "none",
        "dtype": str(dtype).removeprefix("torch.") if dtype else "as it is",
        "ragged": mask is not None,
        "seed": seed,
    }
    _claim(folder, provenance)
    shards = -(-len(data) // shard_size)
    own = range(rank, shards, count)
    written = damaged = 0
    run = functools.partial(_outputs, teacher.to(device), inputs or _inputs, pack, names, mask, device)
    with evaluating(teacher):
        for number in own:
            path = shard_path(folder, number, shards)
            there = path.is_file()
            if there and whole(path):
                if wrong := differences(header(path)["provenance"], provenance):
                    raise ValueError(f"{path} is of {wrong}: choose another folder")
                continue
            start, stop = number * shard_size, min((number + 1) * shard_size, len(data))
            batches = DataLoader(data, batch_size, sampler=range(start, stop), collate_fn=collate, num_workers=workers)
            device = torch.device(device)
            with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.inference_mode():
                torch.manual_seed(_seed_of(seed, number))  # a shard is the same whoever makes it, and when
                tensors, errors, kinds = _packed(run(batches, start), dtype, path)
            _write(path, tensors, {"provenance": provenance, "kinds": kinds, "errors": errors})
            written, damaged = written + 1, damaged + there
    return Written(len(own), written, damaged)


def _seed_of(seed: int, number: int) -> int:
    """One number of two: on the CPU the last 32 bits count alone, so they are mixed."""
    return int(hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:8], 16)


def _claim(folder: Path, provenance: dict[str, Any]) -> None:
    """Say what the folder is of; refuse if it is of something else."""
    head = folder / HEAD
    if not head.is_file():
        if folder.is_dir() and any(folder.glob("*.safetensors")):
            raise ValueError(f"{folder} holds files of something else: choose an empty folder")
        write_whole(head, json.dumps(provenance, indent=1).encode())
    try:
        there = json.loads(head.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{head} is damaged: restore it, or choose an empty folder") from error
    if wrong := differences(there, provenance):
        raise ValueError(f"{folder} holds outputs of {wrong}: choose another folder for these")


def _outputs(
    teacher: nn.Module,
    inputs: Callable[[Any], Inputs],
    pack: Pack | None,
    names: Sequence[str],
    mask: Callable[[Any], Tensor] | None,
    device: str | torch.device,
    batches: DataLoader[Any],
    start: int,
) -> Iterator[dict[str, Tensor]]:
    """What is kept of each batch."""
    for batch in batches:
        logits = logits_of(forward(teacher, _moved(inputs(batch), device)), of=type(teacher).__name__)
        kept = None if mask is None else mask(batch).to(logits.device)
        if kept is not None and (kept.dtype != torch.bool or kept.shape != logits.shape[:2]):
            raise ValueError(f"mask must be bool {tuple(logits.shape[:2])}, got {kept.dtype} {tuple(kept.shape)}")
        bad = logits.isnan()
        if kept is not None:
            bad = bad & kept.reshape(*kept.shape, *[1] * (logits.dim() - 2))
        bad = bad.reshape(len(bad), -1).any(dim=1)
        if bad.any():
            raise ValueError(f"the teacher says NaN for example {start + int(bad.int().argmax())}: nothing is stored")
        rows = logits if kept is None else logits[kept]
        tensors = _named({"logits": rows} if pack is None else pack(rows), names)
        for name, tensor in tensors.items():
            if tensor.dim() == 0 or len(tensor) != len(rows) or name == OFFSETS:
                raise ValueError(
                    f"pack must give {len(rows)} rows and no '{OFFSETS}', got {name} {tuple(tensor.shape)}"
                )
            if tensor.is_floating_point() and (tensor.isnan() | (tensor == torch.inf)).any():
                raise ValueError(f"pack gave NaN or inf in {name}, for examples from {start} on: nothing is stored")
        lengths = {} if kept is None else {OFFSETS: kept.sum(dim=1)}
        yield {name: tensor.cpu() for name, tensor in (tensors | lengths).items()}
        start += len(logits)


def _packed(
    parts: Iterator[dict[str, Tensor]], dtype: torch.dtype | None, path: Path
) -> tuple[dict[str, Tensor], dict[str, float], dict[str, str]]:
    """A shard's tensors in fewer bits, the differences that makes, and the kinds they had."""
    listed = list(parts)
    tensors = {name: torch.cat([part[name] for part in listed]) for name in listed[0]}
    if OFFSETS in tensors:
        tensors[OFFSETS] = torch.cat([torch.zeros(1, dtype=torch.int64), tensors[OFFSETS].cumsum(0)])
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items() if name != OFFSETS}
    errors: dict[str, float] = {}
    for name in kinds:
        exact = tensors[name]
        if exact.is_floating_point() and dtype is not None:
            tensors[name] = exact.to(dtype)
            finite = exact.isfinite()
            error = (tensors[name].to(exact.dtype) - exact)[finite].abs().max().item() if finite.any() else 0.0
            if not math.isfinite(error):
                raise ValueError(f"{name} reaches {exact[finite].abs().max():g}, which {dtype} can't hold: {path.name}")
            errors[name] = error
        elif exact.dtype == torch.int64 and (not exact.numel() or int(exact.abs().max()) < 2**31):
            tensors[name] = exact.to(torch.int32)
    return tensors, errors, kinds


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    about["sha256"] = hash_of(tensors, about)
    with temporary_beside(path) as temporary:
        save_file(tensors, temporary, {"about": json.dumps(about, sort_keys=True)})  # several entries come in any order
        temporary.replace(path)


def _inputs(batch: Any) -> Inputs:
    if isinstance(batch, Mapping):
        return {name: value for name, value in batch.items() if name not in ("label", "labels")}
    found: Inputs = batch[0] if isinstance(batch, tuple | list) else batch
    return found


def _moved(value: Any, device: str | torch.device) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(part, device) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_moved(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _named(packed: Any, names: Sequence[str]) -> dict[str, Tensor]:
    several = packed if isinstance(packed, tuple | list) else (packed,)
    given = list(names) or [f"output_{number}" for number in range(len(several))]
    if not isinstance(packed, Mapping) and len(given) != len(several):
        raise ValueError(f"pack gives {len(several)} tensors, and there are {len(given)} names: {given}")
    found = dict(packed) if isinstance(packed, Mapping) else dict(zip(given, several, strict=True))
    if not found or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise TypeError(f"pack must give tensors, got { {n: type(t).__name__ for n, t in found.items()} }")
    return found


def _called(pack: Any) -> str:
    """A function's name, with its settings."""
    if isinstance(pack, functools.partial):
        settings = [repr(value) for value in pack.args] + [f"{n}={v!r}" for n, v in sorted(pack.keywords.items())]
        return f"{_called(pack.func)}({', '.join(settings)})"
    return f"{getattr(pack, '__module__', '')}.{getattr(pack, '__qualname__', type(pack).__qualname__)}"
