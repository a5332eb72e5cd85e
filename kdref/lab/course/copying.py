"""Copy a heart file, or one function with just what it needs, into another project.

Heart files are read, never imported, so a copy is made of text and nothing runs. Lesson: notebooks/00_start_here.ipynb.
"""

import ast
import difflib
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

from kdref import __version__

__all__ = ["copy", "copyable", "extract"]

HEART = Path(__file__).resolve().parents[2]


def copy(name: str, *, to: Path, heart: Path = HEART) -> Path:
    """Write a heart file, or one public function or class of it, as a file of its own.

    Args:
        name: ``soft_targets`` for the file, ``kl_divergence`` (or ``soft_targets.kl_divergence``) for one function.
        to: The folder; made if it is missing.
        heart: Where the heart files are.

    Returns:
        The file written, ``<name>.py``.

    Raises:
        ValueError: If the name is unknown; the message suggests others.
        FileExistsError: If the file is there already.
    """
    path, member = _look_up(name, heart)
    source = path.read_text(encoding="utf-8")
    text = _header(path, member) + (extract(source, member) if member else source)
    target = to / f"{member or path.stem}.py"
    to.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(
            f"{target} exists and is left as it is: move it, or name another folder with --to"
        ) from None
    return target


def copyable(heart: Path = HEART) -> dict[str, list[str]]:
    """Heart files, each with the public names in it.

    Args:
        heart: Where the heart files are.
    """
    files = sorted(path for path in heart.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: _public(ast.parse(path.read_text(encoding="utf-8"))) for path in files}


def extract(source: str, name: str) -> str:
    """Reduce a module's source to one public name and what that needs, directly or through others.

    Text is kept as it is, comments included: whole statements stay or go, and imports lose the names not used. The
    module's docstring stays, since it tells the source; what the docstring's example uses stays as well.

    Args:
        source: Python source of the module.
        name: A function or class defined at its top level.

    Returns:
        Source of a module with ``__all__ = [name]``.

    Raises:
        ValueError: If the module does not define the name.
    """
    statements = ast.parse(source).body
    defined = [_defines(statement) for statement in statements]
    if not any(name in names for names in defined):
        raise ValueError(f"{name!r} is not defined in this module")
    needed, waiting = set[str](), {name}
    while waiting:
        needed |= waiting
        users = [s for s, names in zip(statements, defined, strict=True) if names & waiting and "__all__" not in names]
        waiting = {used for statement in users for used in _uses(statement)} - needed
    keeping = [s for s, names in zip(statements, defined, strict=True) if names & needed and "__all__" not in names]
    in_code = {used for statement in keeping for used in _uses(statement, examples=False)}
    lines = source.splitlines(keepends=True)
    kept, gap, end = "", "", 0
    for index, (statement, names) in enumerate(zip(statements, defined, strict=True)):
        first = min([statement.lineno, *(decorator.lineno for decorator in getattr(statement, "decorator_list", []))])
        before = "".join(lines[end : first - 1])  # blank lines, and comments that belong to this statement
        text = "".join(lines[first - 1 : statement.end_lineno])
        end = statement.end_lineno or end
        before = before if before.startswith("\n") else gap + before
        gap = ""
        if "__all__" in names:
            kept += f'{before}__all__ = ["{name}"]\n'
        elif isinstance(statement, ast.Import | ast.ImportFrom) and names & needed:
            unused = "" if names & in_code else "  # noqa: F401 - the example uses it"
            kept += before + _trimmed(statement, text, needed).rstrip("\n") + unused + "\n"
        elif (index == 0 and isinstance(statement, ast.Expr)) or names & needed:
            kept += before + text
        else:
            gap = before[: len(before) - len(before.lstrip("\n"))]  # blank lines outlive what stood below them
    return re.sub(r"\n{4,}", "\n\n\n", kept)


def _look_up(name: str, heart: Path) -> tuple[Path, str | None]:
    names = copyable(heart)
    stem, _, member = name.removesuffix(".py").partition(".")
    if not member and stem in names:
        return heart / f"{stem}.py", None
    owners = [file for file, public in names.items() if (member or stem) in public and (not member or file == stem)]
    if len(owners) == 1:
        return heart / f"{owners[0]}.py", member or stem
    if owners:
        raise ValueError(f"{name!r} is in several files; say which: {', '.join(f'{file}.{stem}' for file in owners)}")
    everything = [*names, *(public for publics in names.values() for public in publics)]
    close = difflib.get_close_matches(name, everything)
    suggestion = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = "\n".join(f"  {file}: {', '.join(publics)}" for file, publics in names.items())
    raise ValueError(f"nothing is called {name!r}.{suggestion} There are, by file:\n{listing}")


def _header(path: Path, member: str | None) -> str:
    what = f"kdref/{path.name}" + (f", {member} and what it needs" if member else "")
    return (
        f"# From the project kdref {__version__}: {what}.\n"
        f"# Tested there by tests/test_{path.stem}.py, explained in the lesson named below.\n"
        "# Copyright (c) 2026 The kdref contributors. SPDX-License-Identifier: MIT\n"
        "# Keep these lines, and the MIT licence is satisfied. The software comes without warranty of any kind.\n"
    )


def _public(module: ast.Module) -> list[str]:
    for statement in module.body:
        if "__all__" in _defines(statement) and isinstance(statement, ast.Assign):
            return list(ast.literal_eval(statement.value))
    return []


def _defines(statement: ast.stmt) -> set[str]:
    """Names that a top-level statement binds, also inside ``if TYPE_CHECKING:`` and ``try:``."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {_bound(alias) for alias in statement.names}
    if isinstance(statement, ast.If | ast.Try):
        return set().union(
            *(_defines(child) for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))
        )
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _uses(statement: ast.stmt, *, examples: bool = True) -> Iterator[str]:
    """Names that occur in a statement's code, quoted annotations and, if wanted, docstring examples."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.isidentifier():  # a quoted annotation
                yield node.value
            for example in doctest.DocTestParser().get_examples(node.value) if examples else ():
                yield from re.findall(r"\w+", example.source)


def _trimmed(statement: ast.Import | ast.ImportFrom, text: str, needed: set[str]) -> str:
    kept = [alias for alias in statement.names if _bound(alias) in needed]
    if len(kept) == len(statement.names):
        return text
    statement.names = kept
    return ast.unparse(statement) + "\n"
