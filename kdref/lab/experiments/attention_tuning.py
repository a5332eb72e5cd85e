"""Choosing the settings of lesson 04 on validation images. Lesson: notebooks/04_attention_based.ipynb.

The same effort for every method, labels alone included: each has a grid, and two seeds that are used nowhere else. A
choice at an end of its grid would say that the grid is too short.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from kdref.lab.experiments._attention import (
    Settings,
    map_terms,
    measured,
    plain_terms,
    relation_terms,
    score_terms,
    taught,
)
from kdref.lab.experiments.store import load


class Method(NamedTuple):
    """What is added to the labels, the setting that is tuned, and its grid."""

    kind: str  # of network: maps or tokens
    terms: Callable[..., Mapping[str, Tensor]]
    tuned: str  # the name of the setting in ``taught``
    grid: tuple[float, ...]
    fixed: Settings = Settings()  # what is not tuned


SEEDS = (5000, 5001)
METHODS = {
    "maps | labels": Method("maps", plain_terms, "decay", (0.0, 0.03, 0.1, 0.3)),
    "maps | soft targets": Method("maps", plain_terms, "soft", (1.0, 2.0, 4.0, 8.0)),
    "maps | AT": Method("maps", map_terms, "weight", (1.0, 3.0, 10.0, 30.0)),
    "maps | AT with soft targets": Method("maps", map_terms, "weight", (0.3, 1.0, 3.0, 10.0, 30.0), Settings(soft=2.0)),
    "tokens | labels": Method("tokens", plain_terms, "decay", (0.0, 0.03, 0.1, 0.3)),
    "tokens | soft targets": Method("tokens", plain_terms, "soft", (2.0, 4.0, 8.0, 16.0)),
    "tokens | relations": Method("tokens", relation_terms, "weight", (0.3, 1.0, 3.0, 10.0)),
    "tokens | scores": Method("tokens", score_terms, "weight", (0.03, 0.1, 0.3, 1.0, 3.0)),
}
ARMS = tuple(f"{name} | {setting:g}" for name, method in METHODS.items() for setting in method.grid)


def taught_by(name: str, setting: float, *, seed: int, validation: bool = False) -> dict[str, float]:
    """One student of a method with a setting, measured."""
    method = METHODS[name]
    student = taught(method.kind, method.terms, method.fixed._replace(**{method.tuned: setting}), seed=seed)
    return measured(method.kind, student, seed=seed, validation=validation)


def run(seed: int, arm: str) -> dict[str, float]:
    name, _, setting = arm.rpartition(" | ")
    return taught_by(name, float(setting), seed=seed, validation=True)


@functools.cache
def chosen(name: str) -> float:
    """The setting of the highest mean validation accuracy, among the stored runs."""
    means = load("attention_tuning").groupby("arm")["accuracy"].mean()
    return max(METHODS[name].grid, key=lambda setting: float(means[f"{name} | {setting:g}"]))
