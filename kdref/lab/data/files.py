"""Files: where the embedded ones are, whether they are whole, how to write one. Sources, licences: data/README.md."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["FILES", "DataFile", "data_file", "data_folder", "temporary_beside", "write_whole"]


class DataFile(NamedTuple):
    """What is known of an embedded file."""

    sha256: str
    restore: str  # the command that makes it anew


FILES = {
    "digits.npy": DataFile(
        sha256="c45cf27f9e6d1507aa17aa9949fab3d046c8ffa373a108f49991e27f232ad83b",
        restore="python -m kdref.lab.data.build digits",
    ),
    "mnist5k.csv.gz": DataFile(
        sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        restore="python -m kdref.lab.data.build mnist5k",
    ),
    "watch.npy": DataFile(
        sha256="9a70da385b582509fdd1b71d0bf07927db3a57d7903caf350971772df8320047",
        restore="python -m kdref.lab.data.build watch",
    ),
    "snippets.tsv.bz2": DataFile(
        sha256="a9d980ccbe40bf5b35f829e12e0ff76003c3b747100255df91455b16ee60d47a",
        restore="pip download --no-deps --no-binary :all: vaderSentiment==2.5, "
        "then python -m kdref.lab.data.build snippets in the same folder",
    ),
    "letter.npy": DataFile(
        sha256="b482d6de613d9f217986cfbda044f2f48568b00641bc3fb2f828138c16d895a1",
        restore="apt-get download r-cran-mlbench, then dpkg-deb -x r-cran-mlbench_*.deb . (on Debian), "
        "then python -m kdref.lab.data.build letter in the same folder",
    ),
    "mnist5k-cnn2d-32.safetensors": DataFile(
        sha256="008d9d4e6b5b893bc432c87af99d52846f00c59a7a7b456d0be15c47fc07e8cc",
        restore="git checkout -- data/mnist5k-cnn2d-32.safetensors, or install kdref anew. "
        "To train it anew: python -m kdref.lab.models.checkpoints mnist5k-cnn2d-32",
    ),
    "snippets-writer.safetensors": DataFile(
        sha256="4e9245127d53a1b3a801c1404e791b467e7710674cb93a139ca19a657f1dd2c0",
        restore="git checkout -- data/snippets-writer.safetensors, or install kdref anew. "
        "To train it anew: python -m kdref.lab.models.writer",
    ),
}


def data_folder() -> Path:
    """Where the embedded files are: ``$KDREF_DATA``, else inside the installed package, else the repository."""
    if chosen := os.environ.get("KDREF_DATA"):
        return Path(chosen)
    package = Path(__file__).resolve().parents[2]
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent / "data"


def data_file(name: str) -> Path:
    """Path of an embedded file, after comparing its SHA-256.

    Args:
        name: A key of ``FILES``.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If its hash is wrong, or there is no such name. Each says which command restores the file.
    """
    if name not in FILES:
        raise ValueError(f"no embedded file is named {name!r}: there are {sorted(FILES)}")
    expected, restore = FILES[name]
    path = data_folder() / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. Restore it with: {restore}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(f"{path} is damaged: expected SHA-256 {expected}, found {found}. Restore it with: {restore}")
    return path


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file so that a reader, or a crash, finds the old content or the new, never a part.

    Args:
        path: The file; its folder is made if need be.
        content: What it shall hold.

    Returns:
        The path.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(content)
        return temporary.replace(path)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name of this process's own beside a file, after clearing what killed processes have left there.

    What is there at the end is deleted. Threads of one process have the same name: let only one write a file.

    Args:
        path: The file; its folder is made if need be.
    """
    import psutil

    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        writer = re.fullmatch(r"(\d+)\.tmp", left.name.removeprefix(f".{path.name}."))
        if writer and not psutil.pid_exists(int(writer[1])):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
