"""What lesson 12 shows of TRL, which is no requirement: its text is Python, and its names are those of the package."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "notebooks" / "src" / "12_reasoning.py"


def shown() -> ast.Module:
    text = re.sub(r"^# ?", "", SOURCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "trl" in block]
    assert len(blocks) == 1
    return ast.parse(blocks[0])


def names_given(tree: ast.Module) -> dict[str, set[str]]:
    """The keywords of each call."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {call.func.id: {keyword.arg for keyword in call.keywords} for call in calls}


def test_the_text_is_python_and_calls_what_it_imports() -> None:
    tree = shown()
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(names_given(tree)) == imported == {"load_dataset", "DistillationConfig", "DistillationTrainer"}


def test_its_names_are_those_of_the_installed_package() -> None:
    found = importlib.util.find_spec("trl")
    if found is None:
        pytest.skip("trl is not installed")
    given = names_given(shown())
    folder = Path(found.submodule_search_locations[0]) / "trainer"  # read, not imported: it would want more packages
    config = ast.parse((folder / "distillation_config.py").read_text(encoding="utf-8"))
    fields = {node.target.id for node in ast.walk(config) if isinstance(node, ast.AnnAssign)}
    assert given["DistillationConfig"] - {"output_dir"} <= fields
    trainer = ast.parse((folder / "distillation_trainer.py").read_text(encoding="utf-8"))
    start = next(
        part
        for node in ast.walk(trainer)
        if isinstance(node, ast.ClassDef) and node.name == "DistillationTrainer"
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "__init__"
    )
    assert given["DistillationTrainer"] <= {argument.arg for argument in start.args.args}
    default = next(node for node in ast.walk(config) if isinstance(node, ast.AnnAssign) and node.target.id == "beta")
    assert ast.unparse(default.value).startswith("field(default=1.0")
