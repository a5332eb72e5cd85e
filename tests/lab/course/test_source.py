"""A function's source is shown as it stands, the same way on every machine."""

import functools
from collections.abc import Callable
from typing import Any

import IPython.display
import pytest

from kdref.lab.course.source import show
from kdref.lab.training.batches import teacher_outputs
from kdref.soft_targets import kl_divergence


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What was displayed, MIME type to content."""
    bundles: list[dict[str, str]] = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **_: bundles.append(bundle))
    return bundles


def documented(a: int) -> int:
    """A docstring.

    It has "quotes" and two lines.
    """

    def inner() -> int:
        """Another one."""
        return a

    text = """not a docstring"""
    return inner() + len(text)


def only_a_docstring() -> None:
    """All there is."""


class Thing:
    """A class."""

    def method(self) -> int:
        """A method."""
        return 1


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments) * 2

    return wrapper


@twice
def decorated() -> int:
    return 1


def code_of(bundle: dict[str, str]) -> str:
    heading, code = bundle["text/plain"].split("\n", 1)
    assert heading.startswith("# ")
    return code


def test_shows_the_package_file_and_the_line_where_it_starts(shown: list[dict[str, str]]) -> None:
    show(kl_divergence)
    line = kl_divergence.__code__.co_firstlineno
    assert shown[0]["text/markdown"].startswith(f"`kdref/soft_targets.py:{line}`\n\n```python\ndef kl_divergence(\n")
    assert shown[0]["text/markdown"].endswith("torch.float32))\n```")
    assert shown[0]["text/plain"].startswith(f"# kdref/soft_targets.py:{line}\ndef kl_divergence(\n")


def test_leaves_docstrings_out(shown: list[dict[str, str]]) -> None:
    show(documented)
    expected = [
        "def documented(a: int) -> int:",
        "    def inner() -> int:",
        "        return a",
        "",
        '    text = """not a docstring"""',
        "    return inner() + len(text)",
    ]
    assert code_of(shown[0]).split("\n") == expected


def test_leaves_docstrings_out_of_a_class(shown: list[dict[str, str]]) -> None:
    show(Thing)
    assert code_of(shown[0]).split("\n") == ["class Thing:", "    def method(self) -> int:", "        return 1"]


def test_keeps_docstrings_on_demand_and_where_there_is_nothing_else(shown: list[dict[str, str]]) -> None:
    show(documented, docstring=True)
    show(only_a_docstring)
    assert 'It has "quotes" and two lines.' in code_of(shown[0])
    assert '"""All there is."""' in code_of(shown[1])


def test_shows_methods_without_their_indentation(shown: list[dict[str, str]]) -> None:
    show(Thing.method)
    assert code_of(shown[0]).startswith("def method(self)")


def test_shows_what_a_decorator_wraps_and_no_absolute_path(shown: list[dict[str, str]]) -> None:
    show(decorated)
    assert code_of(shown[0]) == "@twice\ndef decorated() -> int:\n    return 1"
    assert shown[0]["text/plain"].startswith("# test_source.py:")
    show(teacher_outputs)  # decorated by a function of PyTorch
    assert shown[1]["text/plain"].startswith("# kdref/lab/training/batches.py:")


@pytest.mark.parametrize("thing", [len, 3, functools.partial(documented, 1)])
def test_refuses_what_has_no_source(thing: Any) -> None:
    with pytest.raises(TypeError, match="has no Python source to show: pass a function or class"):
        show(thing)
