"""Copy a heart file, a lesson's files, or one function with just what it needs, into another project.

Heart files are read, never imported, so a copy is made of text and nothing runs. Lesson: notebooks/00_start_here.ipynb.
"""

import ast
import difflib
import doctest
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from kdref import __version__

__all__ = ["copy", "copyable", "extract"]

HEART = Path(__file__).resolve().parents[2]
Found = list[tuple[str, str | None]]  # files, and of each the one member asked for, if any


def copy(name: str, *, to: Path, heart: Path = HEART) -> list[Path]:
    """Write a heart file, one public function or class of it, or all files of a lesson's topic.

    Args:
        name: ``relation.rkd`` or ``rkd`` for a file, ``rkd_distance_loss`` (or ``rkd.rkd_distance_loss``) for one
            function, ``relation`` for a topic.
        to: The folder; made if it is missing.
        heart: Where the heart files are.

    Returns:
        The files written: ``rkd.py``, ``rkd_distance_loss.py``, or a topic's files side by side.

    Raises:
        ValueError: If the name is unknown; the message suggests others.
        FileExistsError: If one of the files is there already; then none is written.
    """
    wanted = {}
    for file, member in _look_up(name, heart):
        source = _path(file, heart).read_text(encoding="utf-8")
        text = _header(file, member) + (extract(source, member) if member else source)
        wanted[to / f"{member or file.rpartition('.')[2]}.py"] = text
    for target in wanted:
        if target.exists():
            raise FileExistsError(f"{target} exists and is left as it is: move it, or name another folder with --to")
    to.mkdir(parents=True, exist_ok=True)
    for target, text in wanted.items():
        with target.open("x", encoding="utf-8", newline="\n") as written:
            written.write(text)
    return list(wanted)


def copyable(heart: Path = HEART) -> dict[str, list[str]]:
    """Heart files, as ``soft_targets`` or ``relation.rkd``, each with the public names in it.

    Args:
        heart: Where the heart files are.
    """
    paths = [*heart.glob("*.py"), *heart.glob("*/*.py")]
    files = sorted(path.relative_to(heart) for path in paths if not path.name.startswith("_"))
    dotted = {".".join(path.with_suffix("").parts): path for path in files if path.parts[0] != "lab"}
    return {file: list(_public((heart / path).read_text(encoding="utf-8"))) for file, path in dotted.items()}


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


def _look_up(name: str, heart: Path) -> Found:
    """The files asked for, and of each the one member asked for, if any."""
    names, name = copyable(heart), name.removesuffix(".py")
    of_topic: Found = [(file, None) for file in names if file == name or file.partition(".")[0] == name]
    of_file: Found = [(file, None) for file in names if file.endswith(f".{name}")]
    members: Found = [
        (file, m) for file, public in names.items() for m in public if f".{file}.{m}".endswith(f".{name}")
    ]
    if of_topic:
        return of_topic
    if len(of_file or members) == 1:
        return of_file or members
    if of_file or members:
        several = ", ".join(f"{file}.{member}" if member else file for file, member in of_file or members)
        raise ValueError(f"{name!r} is in several files; say which: {several}")
    topics = {file.partition(".")[0] for file in names}
    everything = [*topics, *names, *(public for publics in names.values() for public in publics)]
    close = difflib.get_close_matches(name, everything)
    suggestion = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = "\n".join(f"  {file}: {', '.join(publics)}" for file, publics in names.items())
    raise ValueError(f"nothing is called {name!r}.{suggestion} There are, by file:\n{listing}")


def _path(file: str, heart: Path) -> Path:
    return heart.joinpath(*file.split(".")).with_suffix(".py")


def _header(file: str, member: str | None) -> str:
    *topic, stem = file.split(".")
    what = f"kdref/{'/'.join([*topic, stem])}.py" + (f", {member} and what it needs" if member else "")
    return (
        f"# From the project kdref {__version__}: {what}.\n"
        f"# Tested there by tests/heart/{'/'.join([*topic, f'test_{stem}'])}.py, explained in the lesson named below.\n"
        "# Copyright (c) 2026 The kdref contributors. SPDX-License-Identifier: MIT\n"
        "# Keep these lines, and the MIT licence is satisfied. The software comes without warranty of any kind.\n"
    )


@functools.cache  # whoever copies one name after the other has all files looked through each time
def _public(source: str) -> tuple[str, ...]:
    for statement in ast.parse(source).body:
        if "__all__" in _defines(statement) and isinstance(statement, ast.Assign):
            return tuple(ast.literal_eval(statement.value))
    return ()


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
