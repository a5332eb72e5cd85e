"""Make the embedded file of LETTER from Debian's package r-cran-mlbench, whose own file is R's.

Nothing is downloaded, and R is not needed: only one data file is read, after comparing its hash.
Lesson: notebooks/10_transfer_data.ipynb.
"""

import hashlib
import io
import lzma
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SOURCE_SHA256", "encode", "letter", "source"]

SOURCE_SHA256 = (
    "967a1a3e10b548d7269cbe50182bcecd6365cc58ea07638bbc34c51f17f34f1d"  # of LetterRecognition.rda in mlbench 2.1
)
INSIDE = "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"
INSTALLED = Path("/") / INSIDE
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter() -> bytes:
    """The 20,000 letters in their order; see ``encode``.

    Raises:
        FileNotFoundError: If the package is neither in the current folder nor installed; says how to get it.
        ValueError: If it holds another file.
    """
    content = source()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"LetterRecognition.rda has SHA-256 {found}, expected {SOURCE_SHA256}: take mlbench 2.1")
    (frame,) = _Reader(lzma.decompress(content)).values()
    labels, *attributes = frame
    if labels.levels != list(LETTERS):
        raise ValueError(f"the classes are {labels.levels}, expected the letters from A to Z")
    return encode(np.column_stack(attributes), np.asarray(labels) - 1)


def source() -> bytes:
    """R's file, from the package in the current folder, else from the installed one."""
    packages = sorted(Path.cwd().glob("r-cran-mlbench_*.deb"))
    if packages:
        with tarfile.open(fileobj=io.BytesIO(_member(packages[-1].read_bytes(), "data.tar"))) as opened:
            file = opened.extractfile(f"./{INSIDE}")
            assert file is not None
            return file.read()
    if not INSTALLED.is_file():
        raise FileNotFoundError(
            "r-cran-mlbench is neither in this folder nor installed. On Debian: apt-get download r-cran-mlbench"
        )
    return INSTALLED.read_bytes()


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


def _member(archive: bytes, name: str) -> bytes:
    """A file of an ``ar`` archive, which a Debian package is, by how its name begins."""
    place = 8  # after the magic "!<arch>\n"
    while place < len(archive):
        head = archive[place : place + 60].decode("ascii")
        size = int(head[48:58])
        if head.startswith(name):
            return archive[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise ValueError(f"the package holds no {name}")


class _Column(list[float]):
    """Numbers with the names of their levels, if they are a factor."""

    levels: list[str]


class _Reader:
    """Just as much of R's serialisation (version 2, XDR) as one data frame needs."""

    def __init__(self, content: bytes) -> None:
        if content[:7] != b"RDX2\nX\n":
            raise ValueError(f"not R's format RDX2 in XDR, but {content[:7]!r}")
        self.stream = io.BytesIO(content[19:])  # after three versions
        self.known: list[str] = []

    def values(self) -> list[Any]:
        """Everything in the file, a value for each name."""
        return list(self.read().values())

    def numbers(self, code: str, count: int) -> list[Any]:
        return list(struct.unpack(f">{count}{code}", self.stream.read(count * struct.calcsize(f">{code}"))))

    def read(self) -> Any:
        (flags,) = self.numbers("i", 1)
        kind, attributed = flags & 255, flags & 512
        match kind:
            case 254:  # the end of a list of pairs
                return {}
            case 255:  # a name that was there before
                return self.known[(flags >> 8) - 1]
            case 1:
                self.known.append(self.read())
                return self.known[-1]
            case 2:  # a pair: its name and its value, and the rest of the list
                name, value = self.read(), self.read()
                return {name: value, **self.read()}
            case 9:
                (size,) = self.numbers("i", 1)
                return self.stream.read(size).decode("ascii")
        (size,) = self.numbers("i", 1)
        if kind in (13, 14):
            result: Any = _Column(self.numbers("i" if kind == 13 else "d", size))
        elif kind in (16, 19):
            result = [self.read() for _ in range(size)]
        else:
            raise ValueError(f"R's type {kind} is not expected in a data frame of numbers")
        about = self.read() if attributed else {}
        if kind == 13 and "levels" in about:
            result.levels = about["levels"]
        return result
