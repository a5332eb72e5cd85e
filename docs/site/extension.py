"""What the site adds to Sphinx: what stands around a docstring in the reference, figures' texts, and MathJax itself."""

import inspect
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import reference
from docutils import nodes
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect them to Sphinx."""
    app.connect("autodoc-process-signature", _short)
    app.connect("autodoc-process-docstring", _around, priority=400)  # before napoleon
    app.connect("doctree-read", _alternative_texts)
    app.connect("build-finished", _mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _short(
    app: Sphinx, what: str, name: str, target: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """The names of the arguments; the whole signature follows."""
    if what not in ("class", "function") or signature is None:
        return None
    try:
        return f"({', '.join(inspect.signature(target).parameters)})", None
    except ValueError:
        return None


def _around(app: Sphinx, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
    """Signature with shapes above, source file, paper and the command that copies it below."""
    if what == "module":
        lines[:] = [re.sub(r"notebooks/(\w+)\.ipynb", r":doc:`/notebooks/\1`", line) for line in lines]
    file, _, member = name.removeprefix("kdref.").rpartition(".")
    if what not in ("class", "function") or member not in reference.public_names().get(file, []):
        return
    code = ["", ".. code-block:: python", "", *(f"   {line}" for line in reference.signature(target).splitlines()), ""]
    lesson = reference.lesson(file)
    links = ", ".join(f"`{link} <{link}>`__" for link in reference.papers(file, "\n".join(lines)))
    path = f"kdref/{file.replace('.', '/')}.py"
    about = [
        "",
        ".. rst-class:: about",
        "",
        *([f"Paper: {links}."] if links else []),
        f"``from kdref.{file.partition('.')[0]} import {member}``. "
        f"Taught in :doc:`lesson {lesson[:2]} </notebooks/{lesson}>`; source file :download:`{path} </{path}>`; "
        f"copy it: ``python -m kdref copy {member}``",
        "",
    ]
    first = next((index for index, line in enumerate(lines) if not line.strip()), len(lines))
    lines[first:first] = code
    lines += about


def _alternative_texts(app: Sphinx, doctree: nodes.document) -> None:
    """Give the figures of a notebook the texts that its outputs carry."""
    path = app.env.doc2path(app.env.docname)
    if not str(path).endswith(".ipynb"):
        return
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    texts = [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]
    images = [node for node in doctree.findall(nodes.image) if "jupyter_execute" in node["uri"]]
    for image, text in zip(images, texts, strict=True):
        image["alt"] = text


def _mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy MathJax and its fonts; the package that holds them has a name that no import statement can spell."""
    found = find_spec("sphinx-mathjax-offline")
    if exception is not None or app.builder.format != "html" or found is None or found.origin is None:
        return
    source, target = Path(found.origin).parent / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
    fonts = Path("output", "chtml", "fonts")
    shutil.copytree(source / fonts, target / fonts, dirs_exist_ok=True)
    shutil.copyfile(source / "tex-chtml.js", target / "tex-chtml.js")
