"""Pages of the reference: one for each topic of the heart, with every public name of its files.

Written as reStructuredText; autodoc puts the docstrings in, and ``extension.py`` what goes around them.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from kdref.lab.course.copying import copyable

Topics = dict[str, dict[str, list[str]]]  # topic to file to public names


def topics() -> Topics:
    """The topics in the order of their lessons, each with its files and their public names."""
    found: Topics = {}
    for file, names in public_names().items():
        found.setdefault(file.partition(".")[0], {})[file] = names
    return dict(sorted(found.items(), key=lambda item: min(map(lesson, item[1]))))


def public_names() -> dict[str, list[str]]:
    """Every file of the heart, as ``relation.rkd``, with its public names."""
    return copyable()


def lesson(file: str) -> str:
    """The notebook that teaches a file, as its docstring says: ``05_relation_based``."""
    found = re.search(r"notebooks/(\w+)\.ipynb", import_module(f"kdref.{file}").__doc__ or "")
    if found is None:
        raise ValueError(f"the docstring of kdref.{file} does not name its lesson")
    return found[1]


def page(topic: str, files: dict[str, list[str]]) -> str:
    """The page of one topic."""
    parts = [
        _heading(title(topic), "="),
        f"Taught in {_lessons(files)}. To copy all of it: ``python -m kdref copy {topic}``.",
    ]
    for file, names in files.items():
        if len(files) > 1:
            parts.append(f".. _file-{file.replace('.', '-')}:\n\n" + _heading(f"{file.partition('.')[2]}.py", "-"))
        parts.append(f".. automodule:: kdref.{file}\n   :no-index:")
        parts += [_entry(file, name) for name in names]
    return "\n\n".join(parts) + "\n"


def _lessons(files: Iterable[str]) -> str:
    """Links to the notebooks that teach a topic's files, in their order."""
    taught = sorted(set(map(lesson, files)))
    return " and ".join(f":doc:`lesson {notebook[:2]} </notebooks/{notebook}>`" for notebook in taught)


def index(found: Topics) -> str:
    """The page that lists every name, by topic."""
    parts = [
        _heading("Reference", "="),
        "Every method is a function that needs only torch: tensors in, tensor out, student first. Each entry has the "
        "signature with its shapes, the formula, an example that the tests run, its source, and the command that "
        "copies it into your project.",
        ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {topic}" for topic in found),
    ]
    for topic, files in found.items():
        rows = [f"- :py:obj:`~kdref.{file}.{name}`: {summary(file, name)}" for file in files for name in files[file]]
        parts.append(_heading(f":doc:`{title(topic)} <{topic}>`", "-") + "\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def title(topic: str) -> str:
    """A topic's name in words: "Multi-teacher", "Soft targets"."""
    first = topic.partition("_")[0]
    return topic.replace("_", "-" if first in ("cross", "multi", "self") else " ").capitalize()


def summary(file: str, name: str) -> str:
    """The first sentence of a docstring; of a constant, what it is."""
    found = getattr(import_module(f"kdref.{file}"), name)
    if not callable(found):
        return f"constants, a ``{type(found).__name__}``."
    return " ".join((inspect.getdoc(found) or "").partition("\n\n")[0].split())


def signature(target: Any) -> str:
    """A function's or class's signature as its source has it, with the comments that tell the shapes."""
    source = textwrap.dedent(inspect.getsource(target))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    lines = source.splitlines()
    shown = lines[node.lineno - 1 : node.body[0].lineno - 1]
    for method in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(method, ast.FunctionDef) and method.name in ("__init__", "forward"):
            shown += ["", *lines[method.lineno - 1 : method.body[0].lineno - 1]]
        if isinstance(method, ast.AnnAssign):
            shown.append(lines[method.lineno - 1])
    return "\n".join(shown)


def papers(file: str, docstring: str) -> list[str]:
    """Links to the sources of one docstring: its own, or those of its file that name the same first author."""
    own = re.findall(r"https?://[^\s,;)]+[^\s,;).]", docstring.partition("Source:")[2])
    if own:
        return []  # it stands there already
    text = (import_module(f"kdref.{file}").__doc__ or "").partition("Source:")[2]
    pieces = re.split(r"(https?://[^\s,;)]+[^\s,;).])", text)
    links = dict(zip(pieces[1::2], pieces[::2], strict=False))
    author = re.search(r"Source: (?:van den )?(\w+)", docstring)
    same = [link for link, before in links.items() if author and author[1] in before]
    return same or list(links)


def _entry(file: str, name: str) -> str:
    target = getattr(import_module(f"kdref.{file}"), name)
    kind = "class" if inspect.isclass(target) else "function" if callable(target) else "data"
    members = "\n   :members:\n   :exclude-members: forward" if kind == "class" else ""
    return f".. auto{kind}:: kdref.{file}.{name}{members}"


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"
