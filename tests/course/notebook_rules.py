"""What every notebook must be so that strict nbval means something: each rule takes a notebook and gives its faults."""

import ast
import io
import re
import tokenize

import nbformat
from nbformat import NotebookNode

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:work|root|home|tmp|Users|opt|usr)/|[A-Z]:\\\\")
TRAPS = {"interact", "interactive", "interact_manual", "Output", "clear_output", "display_id", "tqdm"}
HEAD = ["you will be able to", "needs", "time", "files", "papers"]


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def has(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def texts(cell: NotebookNode) -> list[str]:
    """What nbval compares of a cell's outputs, and a reader can read."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        found += [output.get("text", ""), *(text for kind, text in data.items() if not kind.startswith("image/"))]
    strings = [text for text in found if isinstance(text, str)]
    return [text for text in strings if text.strip() and not re.fullmatch(r"<[\w.]+ object[^>]*>", text)]


def not_executed(notebook: NotebookNode) -> list[str]:
    counts = [cell.execution_count for cell in code_of(notebook)]
    faults = [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}"]
    for cell in code_of(notebook):
        faults += [f"{cell.id}: an error" for output in cell.outputs if output.output_type == "error"]
        faults += [f"{cell.id}: a warning" for output in cell.outputs if output.get("name") == "stderr"]
    return faults


def not_clean(notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    faults = [f"{size} bytes"] if size >= 500_000 else []
    if "widgets" in notebook.metadata:
        faults.append("widget state")
    for cell in code_of(notebook):
        if any(ABSOLUTE_PATH.search(text) for text in texts(cell)):
            faults.append(f"{cell.id}: an absolute path")
        if any("widget" in kind for output in cell.outputs for kind in output.get("data", {})):
            faults.append(f"{cell.id}: a widget view without its model")
    return faults


def ignored_without_a_check(notebook: NotebookNode) -> list[str]:
    """An ignored cell's successor must be compared, or assert something."""
    faults = []
    for cell, following in zip(code_of(notebook), [*code_of(notebook)[1:], None], strict=True):
        if has(cell, "nbval-ignore-output") and (
            following is None or not (is_compared(following) or asserts(following))
        ):
            faults.append(f"{cell.id}: ignored, and nothing checked after it")
    return faults


def is_compared(cell: NotebookNode) -> bool:
    return bool(texts(cell)) and not has(cell, "nbval-ignore-output")


def asserts(cell: NotebookNode) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source)))


def too_few_compared(notebook: NotebookNode) -> list[str]:
    compared = sum(is_compared(cell) for cell in code_of(notebook))
    return [] if compared >= 8 else [f"{compared} compared cells, 8 are needed"]


def images_without_alt(notebook: NotebookNode) -> list[str]:
    faults = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kinds = [kind for kind in data if kind.startswith("image/")]
            told = [output.get("metadata", {}).get(kind, {}).get("alt", "") for kind in kinds]
            text = data.get("text/plain", "")  # of a figure its caption; of a widget what it is, and how to move it
            in_words = text.startswith("Figure: ") or ": run this cell, then " in text
            if kinds and not (in_words and all(len(alt.split()) >= 5 for alt in told)):
                faults.append(f"{cell.id}: show the figure with report.figure(fig, alt)")
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", cell.source):
            faults.append(f"{cell.id}: a picture without alternative text")
    return faults


def traps(notebook: NotebookNode) -> list[str]:
    """What fails or falsifies strict nbval."""
    faults = []
    for cell in code_of(notebook):
        if re.search(r"^\s*[%!]", cell.source, re.MULTILINE):
            faults.append(f"{cell.id}: a magic or shell command")
            continue
        tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
        found = {token.string for token in tokens if token.type == tokenize.NAME} & TRAPS
        found |= {";" for token in tokens if token.type == tokenize.OP and token.string == ";"}
        faults += [f"{cell.id}: {name}" for name in sorted(found)]
    return faults


def head_faults(notebook: NotebookNode) -> list[str]:
    """Title, question, and what follows in its order."""
    paragraphs = [part.strip() for part in notebook.cells[0].source.split("\n\n")]
    faults = [] if re.match(r"# \d\d ", paragraphs[0]) else ["the head starts without '# NN title'"]
    if len(paragraphs) < 2 or not paragraphs[1].rstrip("*").endswith("?"):
        faults.append("the second paragraph is not the question")
    bold = [label.lower().strip(".: ") for label in re.findall(r"\*\*(.+?)\*\*", notebook.cells[0].source)]
    found = [label for label in bold if label in HEAD]
    return faults if found == HEAD else [*faults, f"the head has {found}, expected in bold {HEAD}"]


def exercise_faults(notebook: NotebookNode, expected: list[str]) -> list[str]:
    source = "\n".join(cell.source for cell in code_of(notebook))
    numbers = re.findall(r'lab\.check\("([\d.]+)"', source)
    faults = [] if numbers == expected else [f"exercises {numbers}, expected {expected}"]
    if len(numbers) < 3:
        faults.append("fewer than three exercises")
    return faults if f'lab.quiz("{expected[0][:2]}")' in source else [*faults, "no quiz"]


def closing_faults(notebook: NotebookNode) -> list[str]:
    headings = [
        i for i, cell in enumerate(notebook.cells) if re.search(r"^#+ (\d+\. )?When to use", cell.source, re.MULTILINE)
    ]
    if not headings:
        return ["no section 'When to use'"]
    text = "\n".join(cell.source for cell in notebook.cells[headings[-1] :] if cell.cell_type == "markdown").lower()
    wanted = ["when not", "cost", "python -m kdref copy", "further reading", "next lesson"]
    return [f"the closing section lacks {part!r}" for part in wanted if part not in text]


RULES = (not_executed, not_clean, ignored_without_a_check, images_without_alt, traps)
"""Those for lessons and solutions alike."""
