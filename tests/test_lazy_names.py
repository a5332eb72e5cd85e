"""Methods by their name alone, kdref.dkd_loss, and by their topic, kdref.response.dkd_loss."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import kdref

ROOT = Path(__file__).resolve().parents[1]
TOPICS = sorted(
    {path.relative_to(ROOT / "kdref").parts[0].removesuffix(".py") for path in ROOT.glob("kdref/**/*.py")}
    - {"lab", "__init__", "__main__"}
)


def names_of(topic: str) -> list[str]:
    return list(importlib.import_module(f"kdref.{topic}").__all__)


def test_no_name_stands_in_two_topics() -> None:
    names = [name for topic in TOPICS for name in names_of(topic)]
    assert len(names) == len(set(names)) > 90


@pytest.mark.parametrize("topic", TOPICS)
def test_a_name_alone_is_the_function_of_its_topic(topic: str) -> None:
    for name in names_of(topic):
        assert getattr(kdref, name) is getattr(getattr(kdref, topic), name)
        assert {name, topic} <= set(dir(kdref))


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'kdref' has no attribute 'kd_loss'"):
        kdref.kd_loss  # noqa: B018


@pytest.mark.parametrize("name", ["relation.rkd_distance_loss", "feature.fsp_loss", "response.dist_loss", "dist_loss"])
def test_a_name_works_at_once_in_a_fresh_interpreter(name: str) -> None:
    code = f"import sys, kdref\nassert 'torch' not in sys.modules\nprint(kdref.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == name.rpartition(".")[2], done.stderr
