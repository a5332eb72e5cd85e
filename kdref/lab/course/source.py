"""Show a function's source from where it stands, so that what a notebook prints can't go stale.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["display_as", "show"]

_PACKAGE = Path(__file__).resolve().parents[2]


def show(obj: Callable[..., Any], *, docstring: bool = False) -> None:
    """Display the source of a function or class, headed by its file and first line.

    It is displayed as a Markdown code block, which JupyterLab and GitHub highlight themselves: no colours are stored,
    so the output is the same on every machine.

    Args:
        obj: A function or class written in Python.
        docstring: Show docstrings too. ``help(obj)`` prints them by themselves.

    Raises:
        TypeError: If there is no Python source to show (a built-in, a number, a configured ``partial``).
    """
    obj = inspect.unwrap(obj)
    try:
        lines, start = inspect.getsourcelines(obj)
        path = Path(inspect.getsourcefile(obj) or "")
    except (TypeError, OSError) as error:
        raise TypeError(f"{obj!r} has no Python source to show: pass a function or class of the package") from error
    code = textwrap.dedent("".join(lines)).rstrip()
    if not docstring:
        code = _without_docstrings(code)
    inside = path.resolve().is_relative_to(_PACKAGE)
    name = path.resolve().relative_to(_PACKAGE.parent).as_posix() if inside else path.name
    heading = f"{name}:{start}"
    display_as({"text/markdown": f"`{heading}`\n\n```python\n{code}\n```", "text/plain": f"# {heading}\n{code}"})


def display_as(forms: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Display something in the forms given, MIME type to content; what shows it takes the richest it knows.

    Args:
        forms: Always with ``"text/plain"``, the same on every machine.
        about: Metadata of the forms.
    """
    import IPython.display

    publish: Any = IPython.display.display
    publish(dict(forms), metadata=dict(about or {}), raw=True)


def _without_docstrings(code: str) -> str:
    lines = code.splitlines()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or len(node.body) == 1:
            continue
        first = node.body[0]
        if ast.get_docstring(node) is not None and first.end_lineno is not None:
            left_out.update(range(first.lineno - 1, first.end_lineno))
            if not lines[first.end_lineno].strip():  # the blank line after it goes too
                left_out.add(first.end_lineno)
    return "\n".join(line for number, line in enumerate(lines) if number not in left_out)
