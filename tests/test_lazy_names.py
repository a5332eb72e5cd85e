"""Methods by their name alone: kdref.dkd_loss."""

import ast
import importlib
from pathlib import Path

import pytest

import kdref

HEART = sorted(path for path in Path(kdref.__file__).parent.glob("*.py") if not path.name.startswith("_"))


def test_the_table_lists_every_heart_file_and_all_its_names() -> None:
    found = {}
    for path in HEART:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[path.stem] = tuple(ast.literal_eval(node.value))
    assert found == kdref._METHODS, "kdref/__init__.py must list each heart file's __all__"


def test_no_name_stands_in_two_files() -> None:
    names = [name for names in kdref._METHODS.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", kdref._METHODS)
def test_a_name_alone_is_the_function_of_its_file(file: str) -> None:
    for name in kdref._METHODS[file]:
        assert getattr(kdref, name) is getattr(importlib.import_module(f"kdref.{file}"), name)
        assert name in dir(kdref)


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'kdref' has no attribute 'kd_loss'"):
        kdref.kd_loss  # noqa: B018
