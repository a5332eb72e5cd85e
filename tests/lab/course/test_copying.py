"""Copying a method into another project."""

import subprocess
import sys
from pathlib import Path

import pytest

from kdref import __version__
from kdref.__main__ import main
from kdref.lab.course import copying

MODULE = '''"""A module.

Source: A paper.
"""

import functools
import math
from typing import (
    TYPE_CHECKING,
    Any,
)

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Regressor",
    "first",
    "second",
]

LIMIT = 3  # used by a helper
OTHER: int = 4


def first(x: Tensor) -> Tensor:
    """Example of first.

    Example:
        >>> first(second(torch.ones(1)))
        tensor([2.])
    """
    return _checked(x) + x


# Says what second is.
@functools.lru_cache
def second(x: "Callable") -> Any:
    return x


def _checked(x: Tensor) -> Tensor:
    return x * 0 if _small(x) else x


def _small(x: Tensor) -> bool:
    return len(x) < LIMIT


class Regressor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.pi * OTHER
'''

RUN = """
import doctest, glob, importlib.util, sys
sys.path = [entry for entry in sys.path if entry not in ("", sys.argv[2])]
for path in sorted(glob.glob(sys.argv[1] + "/**/*.py", recursive=True)):
    spec = importlib.util.spec_from_file_location("copied", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(hasattr(module, name) for name in module.__all__), path
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed, path
assert not [name for name in sys.modules if name.split(".")[0] == "kdref"]
"""


def test_every_copy_runs_alone_and_is_tidy(tmp_path: Path) -> None:
    files, functions = tmp_path / "files", tmp_path / "functions"
    for file, names in copying.copyable().items():
        copying.copy(file, to=files / file.partition(".")[0])
        for name in names:
            copying.copy(f"{file}.{name}", to=functions / file)
    assert len(list(functions.glob("*/*.py"))) > 90
    command = [sys.executable, "-W", "error", "-c", RUN, str(tmp_path), str(copying.HEART.parent)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "F,E"], ["format", "--check"]):
        options = ["--isolated", "--no-cache", "--line-length", "120", str(tmp_path)]
        done = subprocess.run([*ruff, *command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_function_takes_along_what_it_needs_and_no_more() -> None:
    text = copying.extract(MODULE, "first")
    for part in ("Source: A paper.", "LIMIT = 3  # used by a helper", "def _checked", "def _small"):
        assert part in text
    assert "def second" in text, "the docstring's example uses it"
    assert "\nimport torch  # noqa: F401 - the example uses it\n" in text
    assert '__all__ = ["first"]\n' in text
    for part in ("math", "Regressor", "OTHER", "nn"):
        assert part not in text
    assert text.endswith("    return len(x) < LIMIT\n")


def test_imports_lose_the_names_that_are_not_used() -> None:
    text = copying.extract(MODULE, "Regressor")
    assert "import math\n" in text
    assert "from torch import Tensor, nn\n" in text
    for part in ("typing", "functools", "collections", "LIMIT", "def "):
        assert part not in text.replace("def forward", "")
    assert "from torch import Tensor\n" in copying.extract(MODULE, "first")


def test_decorators_comments_and_quoted_annotations_come_along() -> None:
    text = copying.extract(MODULE, "second")
    assert "# Says what second is.\n@functools.lru_cache\ndef second" in text
    assert "if TYPE_CHECKING:\n    from collections.abc import Callable\n" in text
    assert "from typing import (\n    TYPE_CHECKING,\n    Any,\n)\n" in text


def test_what_is_left_has_at_most_two_blank_lines() -> None:
    for name in ("first", "second", "Regressor"):
        assert "\n\n\n\n" not in copying.extract(MODULE, name)


def test_a_name_that_the_module_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="'third' is not defined"):
        copying.extract(MODULE, "third")


def test_the_header_names_source_version_and_licence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["copy", "kl_divergence", "--to", str(tmp_path / "new")]) == 0
    text = (tmp_path / "new" / "kl_divergence.py").read_text(encoding="utf-8")
    assert text.startswith(f"# From the project kdref {__version__}: kdref/soft_targets.py, kl_divergence")
    assert "tests/heart/test_soft_targets.py" in text
    assert "Copyright (c) 2026 The kdref contributors. SPDX-License-Identifier: MIT" in text
    assert "def soft_target_loss" not in text
    assert "kl_divergence.py" in capsys.readouterr().out


def test_a_whole_file_is_copied_as_it_is(tmp_path: Path) -> None:
    (path,) = copying.copy("soft_targets.py", to=tmp_path)
    copied = path.read_text(encoding="utf-8")
    assert copied.endswith((copying.HEART / "soft_targets.py").read_text(encoding="utf-8"))


def test_an_existing_file_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "soft_targets.py").write_text("mine")
    assert main(["copy", "soft_targets", "--to", str(tmp_path)]) == 1
    assert (tmp_path / "soft_targets.py").read_text() == "mine"
    assert "exists and is left as it is" in capsys.readouterr().err


def test_an_unknown_name_gets_suggestions_and_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["copy", "kl_divergance", "--to", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "Did you mean kl_divergence" in message
    assert "soft_targets: distillation_loss, kl_divergence" in message
    assert not list(tmp_path.iterdir())


def test_a_private_helper_is_not_on_offer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is called '_check_logits'"):
        copying.copy("_check_logits", to=tmp_path)


def test_a_name_in_several_files_must_be_told_apart(tmp_path: Path) -> None:
    for stem in ("one", "two"):
        (tmp_path / f"{stem}.py").write_text(f'"""{stem}."""\n__all__ = ["f"]\n\n\ndef f(): pass\n')
    with pytest.raises(ValueError, match=r"one\.f, two\.f"):
        copying.copy("f", to=tmp_path / "to", heart=tmp_path)
    (copied,) = copying.copy("two.f", to=tmp_path / "to", heart=tmp_path)
    assert '"""two."""' in copied.read_text()


@pytest.mark.parametrize("name", ["rkd", "relation.rkd", "rkd.py"])
def test_a_file_of_a_topic_is_found_with_and_without_it(tmp_path: Path, name: str) -> None:
    assert copying.copy(name, to=tmp_path) == [tmp_path / "rkd.py"]
    text = (tmp_path / "rkd.py").read_text(encoding="utf-8")
    assert text.startswith(f"# From the project kdref {__version__}: kdref/relation/rkd.py.\n")
    assert "tests/heart/relation/test_rkd.py" in text


@pytest.mark.parametrize("name", ["rkd_angle_loss", "rkd.rkd_angle_loss", "relation.rkd.rkd_angle_loss"])
def test_a_function_is_found_by_every_form_of_its_name(tmp_path: Path, name: str) -> None:
    assert copying.copy(name, to=tmp_path) == [tmp_path / "rkd_angle_loss.py"]


def test_a_topic_is_all_its_files_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["copy", "relation", "--to", str(tmp_path / "all")]) == 0
    expected = {path.name for path in (copying.HEART / "relation").glob("[a-z]*.py")}
    assert {path.name for path in (tmp_path / "all").iterdir()} == expected
    assert len(capsys.readouterr().out.splitlines()) == len(expected) > 1
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "rkd.py").write_text("mine")
    assert main(["copy", "relation", "--to", str(tmp_path / "some")]) == 1
    assert [path.read_text() for path in (tmp_path / "some").iterdir()] == ["mine"]
