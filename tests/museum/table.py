"""The museum as a table that lesson 15 shows: ``python -m tests.museum.table`` writes data/museum.csv anew."""

import csv
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

from kdref.lab.data.files import write_whole
from tests import museum

FILE = Path(__file__).resolve().parents[2] / "data" / "museum.csv"
COLUMNS = ("topic", "replaces", "exhibit", "what is wrong", "seen in", "noticed by")


def rows() -> list[tuple[str, ...]]:
    """One for each exhibit, in the order of topic and name."""
    for module in pkgutil.walk_packages(museum.__path__, "tests.museum."):
        importlib.import_module(module.name)
    return sorted(_row(exhibit) for exhibit in museum.EXHIBITS)


def _row(exhibit: museum.Exhibit) -> tuple[str, ...]:
    module, name = exhibit.replaces.split(":")
    words = (inspect.getdoc(exhibit.wrong) or "").split("\n\n")[0]
    words = re.sub(r"^PITFALLS \d+: (.)", lambda found: found[1].upper(), words)  # our own list, which no reader has
    first = exhibit.killed_by[0].split("::")[1].removeprefix("test_").replace("_", " ")
    topic = "the lab" if module.startswith("kdref.lab") else module.split(".")[1].replace("_", " ")
    return topic, name, exhibit.wrong.__name__.replace("_", " "), " ".join(words.split()), exhibit.seen_in, first


def text() -> str:
    """The table as comma-separated values."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([COLUMNS, *rows()])
    return written.getvalue()


if __name__ == "__main__":
    print(write_whole(FILE, text().encode("utf-8")), "written,", len(rows()), "exhibits")
