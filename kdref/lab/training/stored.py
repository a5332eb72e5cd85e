"""A teacher's stored outputs, read back by index; store_teacher.py writes them.

Lesson: notebooks/17_scale_out.ipynb.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from kdref.lab.training import fingerprints

__all__ = ["HEAD", "OFFSETS", "StoredOutputs", "differences", "hash_of", "header", "shard_path", "whole"]

HEAD = "provenance.json"
OFFSETS = "offsets"
OPEN = 16  # files that are open at a time
WHAT = {"teacher": "another teacher", "data": "other data", "tokenizer": "another tokeniser"}


class StoredOutputs(Dataset[dict[str, Tensor]]):
    """What a teacher said, by the example's number: tensors by name. Only what is asked for is loaded.

    Beside the data: ``torch.utils.data.StackDataset(data, StoredOutputs(folder, data=data))`` gives both. Of texts of
    different lengths an example has a row for each token; ``padded`` makes a batch of them.

    Args:
        folder: What ``store_teacher`` wrote.
        teacher, data, tokenizer: Where given, the stored outputs must be of these.
        verify: Whether each file's hash is compared when it is first opened, which reads all of it once.

    Attributes:
        provenance: What they are of, and how they were made.
        errors: By name, the largest difference that storing in fewer bits has made.

    Raises:
        FileNotFoundError: If there is nothing, or a part is missing; says how many.
        ValueError: If a file is damaged or of something else.

    Example:
        >>> StoredOutputs("nowhere")
        Traceback (most recent call last):
        ...
        FileNotFoundError: nowhere/provenance.json is missing: write it with python -m kdref.lab.store_teacher
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        teacher: nn.Module | None = None,
        data: Any = None,
        tokenizer: Any = None,
        verify: bool = True,
    ) -> None:
        """See the class."""
        self.folder, self._verify = Path(folder), verify
        head = self.folder / HEAD
        if not head.is_file():
            raise FileNotFoundError(f"{head.as_posix()} is missing: write it with python -m kdref.lab.store_teacher")
        self.provenance: dict[str, Any] = json.loads(head.read_text(encoding="utf-8"))
        given = {} if teacher is None else {"teacher": fingerprints.of_teacher(teacher)}
        given |= {} if data is None else {"data": fingerprints.of_data(data)}
        given |= {} if tokenizer is None else {"tokenizer": fingerprints.of_tokenizer(tokenizer)}
        if wrong := differences(self.provenance, self.provenance | given):
            raise ValueError(f"{self.folder} holds outputs of {wrong} than what is given")
        shards = -(-self.provenance["examples"] // self.provenance["shard_size"])
        missing = [number for number in range(shards) if not shard_path(self.folder, number, shards).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.folder} lacks {len(missing)} of {shards} shards: run store_teacher again, it goes on there"
            )
        self._paths = [shard_path(self.folder, number, shards) for number in range(shards)]
        self.errors: dict[str, float] = {}
        for path in self._paths:
            about = header(path)
            if about["provenance"] != self.provenance:
                raise ValueError(f"{path} is of {differences(self.provenance, about['provenance'])} than {HEAD} says")
            for name, error in about["errors"].items():
                self.errors[name] = max(error, self.errors.get(name, 0.0))
        self._open: dict[int, Any] = {}
        self._sound: set[int] = set()

    def __len__(self) -> int:
        """Number of examples."""
        return int(self.provenance["examples"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example's tensors, in the kinds that the teacher gave."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        number, row = divmod(index % len(self), self.provenance["shard_size"])
        file, kinds = self._file(number)
        if self.provenance["ragged"]:
            first, last = file.get_slice(OFFSETS)[row : row + 2].tolist()
        found = {}
        for name, kind in kinds.items():
            rows = file.get_slice(name)
            part = rows[first:last] if self.provenance["ragged"] else rows[row : row + 1][0]
            found[name] = part.to(getattr(torch, kind))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without open files, for a DataLoader's workers."""
        return {**self.__dict__, "_open": {}}

    def _file(self, number: int) -> Any:
        from safetensors import safe_open

        if number not in self._open:
            path = self._paths[number]
            if self._verify and number not in self._sound and not whole(path):
                raise ValueError(f"{path} is damaged: run store_teacher again, it makes this shard anew")
            self._sound.add(number)
            if len(self._open) >= OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[number] = safe_open(path, "pt"), header(path)["kinds"]
        return self._open[number]

    @staticmethod
    def padded(examples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Examples of different lengths as one batch, and a ``mask`` that is True where there is a token.

        Added whole numbers are -1, which is no word, and added fractions -inf, which is no probability: a padded entry
        never counts as word 0, and where a mask is forgotten the loss is loud.

        Example:
            >>> two = [{"words": torch.tensor([[3, 0]])}, {"words": torch.tensor([[5, 1], [2, 4]])}]
            >>> StoredOutputs.padded(two)["words"].tolist()
            [[[3, 0], [-1, -1]], [[5, 1], [2, 4]]]
        """
        lengths = torch.tensor([len(next(iter(example.values()))) for example in examples])
        batch = {"mask": torch.arange(int(lengths.max())) < lengths[:, None]}
        for name, first in examples[0].items():
            fill = -torch.inf if first.is_floating_point() else -1
            parts = [example[name] for example in examples]
            batch[name] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)
        return batch


def shard_path(folder: Path, number: int, shards: int) -> Path:
    """The file of a shard."""
    return folder / f"{number:05}-of-{shards:05}.safetensors"


def header(path: Path) -> dict[str, Any]:
    """What a shard says of itself.

    Raises:
        ValueError: If it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            found: dict[str, Any] = json.loads(file.metadata()["about"])
            return found
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason}): run store_teacher again, it makes this shard anew") from error


def whole(path: Path) -> bool:
    """Whether a shard's content is what was written."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = header(path)
        return bool(about.pop("sha256") == hash_of(load_file(path), about))
    except (SafetensorError, OSError, LookupError, ValueError):
        return False


def hash_of(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of a shard's content: its tensors, and what it says of itself."""
    return hashlib.sha256((fingerprints.of_tensors(tensors) + json.dumps(about, sort_keys=True)).encode()).hexdigest()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What distinguishes two provenances, in words; empty if nothing does."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    words = [WHAT.get(name, f"another {name} ({one.get(name)}, {other.get(name)})") for name in names]
    return ", ".join(words)
