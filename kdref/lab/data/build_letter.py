"""Make the embedded file of LETTER from Debian's package r-cran-mlbench, whose own file is R's.

Nothing is downloaded, and R is not needed: rdata, of the test requirements, reads its file, after comparing its hash.
Lesson: notebooks/10_transfer_data.ipynb.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdref.lab.data.letters import LETTERS

__all__ = ["SOURCE_SHA256", "encode", "letter", "source"]

SOURCE_SHA256 = (
    "967a1a3e10b548d7269cbe50182bcecd6365cc58ea07638bbc34c51f17f34f1d"  # of LetterRecognition.rda in mlbench 2.1
)
INSIDE = "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"
INSTALLED = Path("/") / INSIDE


def letter() -> bytes:
    """The 20,000 letters in their order; see ``encode``.

    Raises:
        FileNotFoundError: If the package is neither in the current folder nor installed; says how to get it.
        ValueError: If it holds another file.
    """
    import rdata

    path = source()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {SOURCE_SHA256}: take mlbench 2.1")
    (frame,) = rdata.read_rda(path, default_encoding="ascii").values()
    labels, attributes = frame.iloc[:, 0].cat, frame.iloc[:, 1:]
    if list(labels.categories) != list(LETTERS):
        raise ValueError(f"the classes are {list(labels.categories)}, expected the letters from A to Z")
    return encode(attributes.to_numpy(), labels.codes.to_numpy())


def source() -> Path:
    """R's file, from the package unpacked in the current folder, else from the installed one."""
    for path in (Path.cwd() / INSIDE, INSTALLED):
        if path.is_file():
            return path
    raise FileNotFoundError(
        "r-cran-mlbench is neither unpacked in this folder nor installed. On Debian: "
        "apt-get download r-cran-mlbench, then dpkg-deb -x r-cran-mlbench_*.deb ."
    )


def encode(attributes: NDArray[Any], labels: NDArray[Any]) -> bytes:
    """Two attributes from 0 to 15 in a byte, eight bytes a letter, then its label: the bytes of a .npy file.

    Args:
        attributes: Whole numbers from 0 to 15, shape ``(N, 16)``.
        labels: From 0 to 25, shape ``(N,)``.

    Raises:
        ValueError: If a value is no whole number of its range.
    """
    for values, largest in ((attributes, 15), (labels, 25)):
        if (values != np.rint(values)).any() or values.min() < 0 or values.max() > largest:
            raise ValueError(f"values must be whole numbers from 0 to {largest}: {values.min()} to {values.max()}")
    pairs = attributes.astype(np.uint8)
    buffer = io.BytesIO()
    packed = np.column_stack([16 * pairs[:, 0::2] + pairs[:, 1::2], labels.astype(np.uint8)])
    np.save(buffer, packed, allow_pickle=False)
    return buffer.getvalue()
