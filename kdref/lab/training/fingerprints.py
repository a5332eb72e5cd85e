"""Which teacher, which data, which tokeniser: hashes, by which stored outputs are told apart.

Lesson: notebooks/17_scale_out.ipynb.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["SAMPLED", "of_data", "of_teacher", "of_tensors", "of_tokenizer"]

SAMPLED = 1000
"""Examples of a data set that are hashed, spread evenly; all of a tensor."""


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: names, kinds, shapes and every byte."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _add(digest, name)
        _add(digest, tensors[name])
    return digest.hexdigest()


def of_teacher(teacher: nn.Module) -> str:
    """SHA-256 of a network's class, parameters and buffers.

    Example:
        >>> of_teacher(nn.ReLU()) == of_teacher(nn.ReLU()), of_teacher(nn.ReLU()) == of_teacher(nn.Tanh())
        (True, False)
    """
    return hashlib.sha256(f"{type(teacher).__qualname__} {of_tensors(teacher.state_dict())}".encode()).hexdigest()


def of_data(data: Any) -> str:
    """SHA-256 of examples: all of a tensor, else of up to ``SAMPLED``, spread evenly, and how many there are.

    Raises:
        ValueError: If there is no example, or one is not the same when it is read again.
        TypeError: If examples can't be read by number.
    """
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise TypeError(f"data must have a length and examples by number, got {type(data).__name__}: list them first")
    count = len(data)
    if not count:
        raise ValueError("data are empty: there is nothing to run the teacher on")
    if isinstance(data, Tensor):
        return of_tensors({"data": data})
    known = getattr(data, "_fingerprint", None)  # Hugging Face's data sets know theirs
    if isinstance(known, str):
        return hashlib.sha256(f"{known} {count}".encode()).hexdigest()
    if _hash(data[0]) != _hash(data[0]):
        raise ValueError(
            "an example is not the same when it is read again: store a teacher's outputs without augmentation, or call "
            "the teacher in step, on what the student sees"
        )
    numbers = sorted({index * (count - 1) // max(min(count, SAMPLED) - 1, 1) for index in range(min(count, SAMPLED))})
    return _hash([count, *(data[number] for number in numbers)])


def of_tokenizer(tokenizer: Any) -> str:
    """SHA-256 of a tokeniser's words and rules; of a text as it is; of None the word "none".

    Raises:
        TypeError: If it is none of these.
    """
    if tokenizer is None:
        return "none"
    if isinstance(tokenizer, str):
        return hashlib.sha256(tokenizer.encode()).hexdigest()
    if not hasattr(tokenizer, "get_vocab"):
        raise TypeError(f"tokenizer must have get_vocab, or be a text, got {type(tokenizer).__name__}")
    rules = getattr(tokenizer, "backend_tokenizer", None)
    parts = [sorted(tokenizer.get_vocab().items()), rules.to_str() if rules is not None else type(tokenizer).__name__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Add a value with its kind, so that 1 and "1" are two things."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        digest.update(b"{")
        for key in sorted(value, key=str):
            _add(digest, str(key))
            _add(digest, value[key])
    elif isinstance(value, tuple | list):
        digest.update(f"[{len(value)};".encode())
        for part in value:
            _add(digest, part)
    elif isinstance(value, bytes):
        digest.update(b"bytes" + value)
    elif value is None or isinstance(value, str | int | float | bool):
        digest.update(f"{type(value).__name__} {value!r};".encode())
    elif hasattr(value, "tobytes") and hasattr(value, "size"):  # an image
        digest.update(f"{type(value).__name__} {value.size};".encode() + value.tobytes())
    else:
        raise TypeError(f"can't hash a {type(value).__name__} in the data: let examples be tensors, numbers or texts")
