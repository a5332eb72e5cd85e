"""Scripts that no package holds, imported for their tests: the examples, and pieces of the website's source."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def imported(name: str, folder: Path = EXAMPLES) -> ModuleType:
    """A script as a module; like a script it can import its neighbours."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def refusal(example: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that an example ends with."""
    with pytest.raises(SystemExit) as end:
        example.main([*map(str, arguments)])
    assert end.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err
