"""Make the smartwatch's embedded file from the package seglearn, whose own file is a pickle.

Nothing is downloaded, and seglearn is not imported: only its data file is read, after comparing its hash.
Lesson: notebooks/07_cross_modal.ipynb.
"""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdref.lab.data.smartwatch import STEPS

__all__ = ["SOURCE_SHA256", "encode", "source_file", "watch"]

SOURCE_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"  # of seglearn 1.2.5


def watch() -> bytes:
    """The 140 recordings as one int16 array, in seglearn's order; see ``encode``."""
    content = source_file().read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:  # compared before it is unpickled: a pickle can hold code
        raise ValueError(f"seglearn's file has SHA-256 {found}, expected {SOURCE_SHA256}: install seglearn==1.2.5")
    source = np.load(io.BytesIO(content), allow_pickle=True).item()
    return encode(source["X"], source["subject"], source["y"], source["side"])


def source_file() -> Path:
    """Where the installed seglearn keeps its recordings.

    Raises:
        FileNotFoundError: If seglearn is not installed; says how to install it.
    """
    found = importlib.util.find_spec("seglearn")
    path = Path(found.origin).parent / "data" / "watch_dataset.npy" if found and found.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError("seglearn is not installed. Install it with: pip install --no-deps seglearn==1.2.5")
    return path


def encode(
    recordings: Sequence[NDArray[np.float64]],  # (L, 6) each
    subject: Sequence[Any],
    exercise: Sequence[Any],
    side: Sequence[Any],
) -> bytes:
    """Join recordings to one int16 array of six columns, as the bytes of a .npy file.

    The first row holds the number of recordings and zeros. Then a row per recording: subject, exercise, side, number
    of samples, two zeros. Then all samples, in steps of ``STEPS``.

    Raises:
        ValueError: If a value does not fit into 16 bits.
    """
    count, zeros = len(recordings), [0] * len(recordings)
    lengths = [len(recording) for recording in recordings]
    table = np.column_stack([subject, exercise, side, lengths, zeros, zeros])
    rows = np.concatenate([[[count, 0, 0, 0, 0, 0]], table, *(np.rint(r / STEPS) for r in recordings)])
    if np.abs(rows).max() > np.iinfo(np.int16).max:
        raise ValueError(f"a value of {np.abs(rows).max():g} steps does not fit into 16 bits")
    buffer = io.BytesIO()
    np.save(buffer, rows.astype("<i2"), allow_pickle=False)
    return buffer.getvalue()
