"""The museum of published bugs: wrong versions of our functions, which our tests must notice.

An exhibit says what it replaces, where the bug was seen, and which tests must fail when it stands in. The runner is
tests/museum/test_museum.py. A wrong version must run: it is caught by its values, not by a crash.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["EXHIBITS", "Exhibit", "exhibit"]


@dataclass(frozen=True)
class Exhibit:
    """A wrong version, and what must notice it."""

    wrong: Any
    replaces: str  # "kdref.soft_targets:kl_divergence"
    seen_in: str  # repository and issue, or "a likely slip" for those we thought of ourselves
    killed_by: tuple[str, ...]  # "heart/test_soft_targets.py::test_matches_the_definition"

    @property
    def name(self) -> str:
        """Where it stands, for the test's id."""
        return f"{self.wrong.__module__.removeprefix('tests.museum.')}.{self.wrong.__name__}"


EXHIBITS: list[Exhibit] = []


def exhibit(*, replaces: str, seen_in: str, killed_by: tuple[str, ...]) -> Callable[[Any], Any]:
    """Put the decorated wrong version in the museum."""

    def hang(wrong: Any) -> Any:
        EXHIBITS.append(Exhibit(wrong, replaces, seen_in, killed_by))
        return wrong

    return hang
