"""Put every exhibit of the museum in its place, and demand that the named tests notice."""

import contextlib
import importlib
import io
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import _hypothesis_pytestplugin
import pytest
import pytest_socket

from tests import museum

for _module in pkgutil.walk_packages(museum.__path__, "tests.museum."):
    importlib.import_module(_module.name)


TESTS = Path(__file__).resolve().parents[1]
# Each exhibit is a run of pytest, so what a run costs counts: no search for plugins, which reads what every installed
# package says of itself, no doctests beside the tests, and none of the two plugins that collect garbage.
OPTIONS = ["-o", "addopts=--strict-markers --import-mode=importlib --allow-hosts=127.0.0.1,::1 --allow-unix-socket"]
OPTIONS += ["--disable-plugin-autoload", "-q", "--capture=no", "--tb=no"]
OPTIONS += [w for name in ("cacheprovider", "unraisableexception", "threadexception") for w in ("-p", f"no:{name}")]


class Recorder:
    """A pytest plugin that keeps each test's outcome."""

    def __init__(self) -> None:
        self.outcomes: dict[str, type[BaseException] | None] = {}

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        if call.excinfo is not None or call.when == "call":
            self.outcomes[item.nodeid] = None if call.excinfo is None else call.excinfo.type


def run_tests(tests: tuple[str, ...]) -> dict[str, type[BaseException] | None]:
    """Run tests inside this process; the exception's type per test, None where it passed."""
    recorder = Recorder()
    nodes = [f"{TESTS / test.split('::')[0]}::{test.split('::')[1]}" for test in tests]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = pytest.main([*OPTIONS, *nodes], plugins=[recorder, _hypothesis_pytestplugin, pytest_socket])
    assert code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), (
        f"pytest could not run {tests}:\n{output.getvalue()}"
    )
    return recorder.outcomes


@contextlib.contextmanager
def stands_in(wrong: object, replaces: str) -> Iterator[None]:
    """Replace the name in its module, and wherever it was imported to, for a while."""
    module, name = replaces.split(":")
    right = getattr(importlib.import_module(module), name)
    swap(right, wrong)
    try:
        yield
    finally:
        swap(wrong, right)


def swap(old: object, new: object) -> None:
    """Rebind every module-level name that holds ``old`` in the package and its tests (not in the museum)."""
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] in ("kdref", "tests") and not module_name.startswith("tests.museum"):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)


def survivors(exhibit: museum.Exhibit) -> list[str]:
    """Named tests that did not notice, or that died of something other than a failed comparison."""
    with stands_in(exhibit.wrong, exhibit.replaces):
        outcomes = run_tests(exhibit.killed_by)
    lines = []
    for test in exhibit.killed_by:
        results = {node: kind for node, kind in outcomes.items() if node.endswith(test) or f"{test}[" in node}
        assert results, f"{exhibit.name}: no test {test} was run"
        for node, kind in results.items():
            if kind is None:
                lines.append(f"{node} passes")
            elif not issubclass(kind, AssertionError | pytest.fail.Exception):
                lines.append(f"{node} dies of {kind.__name__}")
    return lines


@pytest.mark.parametrize("exhibit", museum.EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_exhibit_is_noticed(exhibit: museum.Exhibit) -> None:
    assert exhibit.killed_by, f"{exhibit.name} names no test"
    assert exhibit.wrong.__doc__, f"{exhibit.name} does not say what is wrong"
    assert survivors(exhibit) == []


def test_the_right_version_survives_its_own_tests() -> None:
    from kdref import soft_targets

    harmless = museum.Exhibit(
        soft_targets.kl_divergence,
        "kdref.soft_targets:kl_divergence",
        "",
        ("heart/test_soft_targets.py::test_kl_matches_the_definition",),
    )
    assert "passes" in survivors(harmless)[0]


def test_a_version_that_crashes_does_not_count_as_noticed() -> None:
    def crashes(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    exhibit = museum.Exhibit(
        crashes, "kdref.soft_targets:kl_divergence", "", ("heart/test_soft_targets.py::test_kl_matches_the_definition",)
    )
    assert "dies of ZeroDivisionError" in survivors(exhibit)[0]
