"""What lesson 18 says of the example scripts is so: each is named with a command that it understands."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSON = (ROOT / "notebooks" / "src" / "18_choose_your_method.py").read_text(encoding="utf-8").replace("\n# ", "\n")
SECTION = " ".join(LESSON[LESSON.index("## 5. Your own") : LESSON.index("**Before you trust")].split())
SCRIPTS = sorted(path.name for path in ROOT.glob("examples/*.py") if "def main(" in path.read_text(encoding="utf-8"))
COMMANDS = re.findall(r"`python examples/(\w+\.py) ([^`]*)`", SECTION)


def test_every_script_has_its_line() -> None:
    assert [name for name, _ in COMMANDS] == list(dict.fromkeys(name for name, _ in COMMANDS))
    assert sorted(name for name, _ in COMMANDS) == SCRIPTS


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_its_options_are_those_of_the_script(name: str, arguments: str) -> None:
    source = (ROOT / "examples" / name).read_text(encoding="utf-8")
    start = SECTION.index(f"examples/{name}")
    following = [
        SECTION.index(f"examples/{other}") for other, _ in COMMANDS if SECTION.index(f"examples/{other}") > start
    ]
    told = SECTION[start : min(following, default=None)]
    for option in {*re.findall(r"--([\w-]+)", arguments), *re.findall(r"`--([\w-]+)", told)}:
        assert f'"{option}"' in source, f"{name} has no --{option}"
    takes_folder = 'add_argument("folder"' in source
    words = shlex.split(arguments)
    assert takes_folder == bool(words and not words[0].startswith("--"))


def test_the_scripts_are_as_short_as_said() -> None:
    for name in SCRIPTS:
        assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) <= 150, name
