"""Make the embedded file of sentences from the source archive of vaderSentiment 2.5, which pip downloads.

Nothing is installed or run from it: one text file is read, two archives deep, after comparing the outer one's hash.
Lesson: notebooks/11_language_models.ipynb.
"""

import bz2
import hashlib
import io
import tarfile
from pathlib import Path

__all__ = ["SOURCE", "SOURCE_SHA256", "encode", "snippets"]

SOURCE = "vaderSentiment-2.5.tar.gz"
SOURCE_SHA256 = "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84"
INNER = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"
SENTENCES = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SMALLEST = 0.5  # a mean rating nearer to zero says neither good nor bad


def snippets() -> bytes:
    """The sentences with a clear rating, in the source's order; see ``encode``.

    Raises:
        FileNotFoundError: If the archive is not in the current folder; says how to get it.
        ValueError: If it is another archive.
    """
    path = Path(SOURCE)
    if not path.is_file():
        raise FileNotFoundError(
            f"{SOURCE} is not in this folder. Get it with: pip download --no-deps --no-binary :all: vaderSentiment==2.5"
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SOURCE_SHA256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {SOURCE_SHA256}: download vaderSentiment==2.5 anew")
    return encode(_member(_member(content, INNER), SENTENCES).decode("utf-8"))


def encode(table: str) -> bytes:
    """Keep rows with a clear rating, as lines of rating and text, compressed by bzip2: smaller here than gzip and xz.

    Args:
        table: Lines of number, mean rating and text, divided by tabs.
    """
    rows = [line.split("\t") for line in table.splitlines() if line]
    kept = [f"{float(rating):.2f}\t{text.strip()}\n" for _, rating, text in rows if abs(float(rating)) >= SMALLEST]
    return bz2.compress("".join(kept).encode("utf-8"))


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        file = opened.extractfile(name)
        if file is None:
            raise ValueError(f"{name} is no file of the archive")
        return file.read()
