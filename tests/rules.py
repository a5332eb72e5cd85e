"""The checkers behind test_rules.py: each takes source text and returns complaints, none if the rule is kept."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import jupytext

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
APPLICATIONS = ("bench", "experiments", "exercises")


def heart_imports(source: str) -> list[str]:
    """A heart file imports torch and the standard library."""
    allowed = {"torch", *sys.stdlib_module_names}
    return [f"imports {name}" for name in _imported(ast.parse(source)) if name.split(".")[0] not in allowed]


def heart_form(source: str) -> list[str]:
    """Docstring with source and lesson, complete ``__all__``, at most 300 lines."""
    module = ast.parse(source)
    docstring = ast.get_docstring(module) or ""
    complaints = [] if "Source:" in docstring else ["the module docstring names no Source:"]
    if not re.search(r"notebooks/\d\d_\w+\.ipynb", docstring):
        complaints.append("the module docstring names no lesson")
    public = [node.name for node in module.body if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name[0] != "_"]
    listed = [ast.literal_eval(node.value) for node in module.body if _assigns(node, "__all__")]
    if listed != [sorted(listed[0] if listed else public)] or not set(public) <= set(listed[0]):
        complaints.append(f"__all__ is not the sorted list of {sorted(public)}")
    return complaints + at_most_300_lines(source)


def heart_gradients(source: str) -> list[str]:
    """Autograd does the gradient: no custom one, and outside classes, which hold state, nothing is changed in place."""
    complaints = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            complaints += [f"{node.name} is a custom gradient" for base in bases if base.endswith("autograd.Function")]
        elif isinstance(node, FUNCTIONS):
            complaints += [f"{node.name} changes in place: {ast.unparse(inner)}" for inner in _in_place(node)]
    return complaints


def public_names(source: str) -> list[str]:
    """The file's ``__all__``."""
    return next((ast.literal_eval(node.value) for node in ast.parse(source).body if _assigns(node, "__all__")), [])


def hands_on(source: str, files: Mapping[str, str]) -> list[str]:
    """A topic's ``__init__`` imports every public name of its files and lists it; it holds nothing else."""
    module = ast.parse(source)
    imported = {alias.name for node in module.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    public = {name for text in files.values() for name in public_names(text)}
    complaints = [f"does not hand on {name}" for name in sorted(public - imported)]
    complaints += [f"imports {name}, which no file of it makes public" for name in sorted(imported - public)]
    if public_names(source) != sorted(public):
        complaints.append(f"__all__ is not the sorted list of {sorted(public)}")
    rest = [node for node in module.body[1:] if not isinstance(node, ast.ImportFrom) and not _assigns(node, "__all__")]
    return complaints + [f"holds {ast.unparse(node)}" for node in rest]


def at_most_300_lines(source: str) -> list[str]:
    """No Python file is longer."""
    count = len(source.splitlines())
    return [f"{count} lines"] if count > 300 else []


def heart_docstrings(source: str) -> list[str]:
    """Public functions and classes have the sections of DESIGN section 5."""
    module, complaints = ast.parse(source), []
    raising = _raising(module)
    for node in module.body:
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
            continue
        wanted = {"Example", "Source"}
        text = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            init = next((child for child in node.body if getattr(child, "name", "") == "__init__"), None)
            arguments = init.args if init else None
        else:
            arguments = node.args
            wanted |= {"Returns"} | ({"Raises"} if node.name in raising else set())
        if arguments and _parameters(arguments):
            wanted.add("Args")
        missing = sorted(section for section in wanted if not re.search(rf"^{section}:", text, re.MULTILINE))
        if missing:
            complaints.append(f"{node.name} does not document {', '.join(missing)}")
        if "Example" not in missing and ">>>" not in text:
            complaints.append(f"{node.name} has an example that does not run")
    return complaints


def heart_signatures(source: str) -> list[str]:
    """Hyper-parameters are keyword-only and say what they weigh; the student comes first."""
    complaints = []
    for name, arguments in _public_signatures(ast.parse(source)):
        positional = [*arguments.posonlyargs, *arguments.args]
        settings = positional[len(positional) - len(arguments.defaults) :]
        settings += [a for a in positional if re.search(r"\b(float|bool|str)\b", ast.unparse(a.annotation or a))]
        complaints += [f"{name}: {setting.arg} is not keyword-only" for setting in dict.fromkeys(settings)]
        names = [a.arg for a in _parameters(arguments)]
        if "alpha" in names:
            complaints.append(f"{name}: alpha does not say what it weighs")
        order = [word for n in names for word in ("student", "teacher") if n.startswith(word)]
        if "student" in order and order[0] == "teacher":
            complaints.append(f"{name}: the student comes first")
    return complaints


def core_imports(source: str, heart: set[str]) -> list[str]:
    """The lab's core never imports the heart, and at module level no application."""
    module = ast.parse(source)
    complaints = [f"imports {name}" for name in _imported(module) if name.split(".")[:2][-1] in heart]
    for name in _imported(module, inside_functions=False):
        if name.startswith(tuple(f"kdref.lab.{application}" for application in APPLICATIONS)):
            complaints.append(f"imports {name} at module level")
    return complaints


def unequal_helpers(sources: Mapping[str, str]) -> list[str]:
    """Private functions of one name in several heart files are the same text, of at most 15 lines."""
    versions: dict[str, list[str]] = {}
    for source in sources.values():
        for node in ast.parse(source).body:
            if isinstance(node, FUNCTIONS) and node.name.startswith("_"):
                versions.setdefault(node.name, []).append(ast.get_source_segment(source, node) or "")
    repeated = {name: texts for name, texts in versions.items() if len(texts) > 1}
    complaints = [f"{name} differs between files" for name, texts in repeated.items() if len(set(texts)) > 1]
    long = [name for name, texts in repeated.items() if max(len(text.splitlines()) for text in texts) > 15]
    return complaints + [f"{name} is repeated and longer than 15 lines" for name in long]


def notebook_definitions(source: str) -> list[str]:
    """A notebook defines no class, and no function but ``step...``, ``run...`` and exercise stubs."""
    complaints = []
    for cell in jupytext.reads(source, fmt="py:percent").cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "solution" in tags:
            continue
        code = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ClassDef):
                complaints.append(f"defines the class {node.name}")
            elif isinstance(node, FUNCTIONS):
                complaints += _notebook_function(node, stub_expected="exercise" in tags)
    return complaints


def dead_links(markdown: str, folder: Path) -> list[str]:
    """Relative links point at something that exists."""
    text = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", markdown, flags=re.DOTALL)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text) + re.findall(
        r"(?:src|href)=\"([^\"]+)\"", text
    )
    local = [target for target in targets if not re.match(r"[a-z]+:|#", target)]
    return [f"links to {target}" for target in local if not (folder / target.split("#")[0]).exists()]


def _notebook_function(node: ast.FunctionDef, *, stub_expected: bool) -> list[str]:
    arguments = [argument.arg for argument in _parameters(node.args)]
    length = (node.end_lineno or 0) - node.lineno + 1
    if node.name.startswith("step"):
        return [] if len(arguments) == 1 else [f"{node.name} takes {arguments}, not one batch"]
    if node.name.startswith("run"):
        right = arguments == ["seed", "arm"] and length <= 25
        return [] if right else [f"{node.name} takes {arguments} in {length} lines, not (seed, arm) in at most 25"]
    if not stub_expected:
        return [f"defines the function {node.name}"]
    stub = isinstance(node.body[-1], ast.Raise) and "NotImplementedError" in ast.unparse(node.body[-1])
    return [] if stub else [f"{node.name} is more than a stub"]


def _imported(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[str]:
    """Dotted names of what is imported; a relative import begins with its dots."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif inside_functions or not isinstance(node, FUNCTIONS):
            yield from _imported(node, inside_functions=inside_functions)


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def _public_signatures(module: ast.Module) -> Iterator[tuple[str, ast.arguments]]:
    for node in module.body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield node.name, node.args
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for child in node.body:
                if isinstance(child, FUNCTIONS) and (child.name == "__init__" or not child.name.startswith("_")):
                    yield f"{node.name}.{child.name}", child.args


def _in_place(function: ast.AST) -> Iterator[ast.AST]:
    """``x.add_(y)``, ``out=x``, ``x += y`` and ``x[i] = y``."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            method = name.endswith("_") and not name.startswith("_") and name != "requires_grad_"
            if method or any(keyword.arg == "out" for keyword in node.keywords):
                yield node
        elif isinstance(node, ast.AugAssign) or (
            isinstance(node, ast.Assign) and any(isinstance(target, ast.Subscript) for target in node.targets)
        ):
            yield node


def _raising(module: ast.Module) -> set[str]:
    """Functions that raise, or call one of the module's that does."""
    functions = {node.name: node for node in module.body if isinstance(node, FUNCTIONS)}
    raising = {
        name for name, node in functions.items() if any(isinstance(child, ast.Raise) for child in ast.walk(node))
    }
    while True:
        callers = {name for name, node in functions.items() if raising & _called(node)}
        if callers <= raising:
            return raising
        raising |= callers


def _called(node: ast.AST) -> set[str]:
    return {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
