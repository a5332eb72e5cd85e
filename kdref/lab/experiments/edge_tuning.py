"""Lesson 14's learning rates, chosen on signals and with seeds that are used nowhere else.

What was chosen for 4 bits serves 8, for 2 bits 3; for 17 channels 13, for 10 channels 11. A teacher's temperature is 1,
as in the recipes of Muralidharan et al. 2024 and NVIDIA 2026. Lesson: notebooks/14_edge.ipynb.
"""

import functools

from kdref.lab.experiments._edge import ANEW, narrow, quantised, right
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SHORT, WIDTH = 100, 8  # steps, channels of the pruned networks
KINDS = (
    *("4 bits", "2 bits", "17 channels", "10 channels"),
    *(f"pruned, {SHORT} steps", f"pruned, {ANEW} steps", f"anew, {SHORT} steps", f"anew, {ANEW} steps"),
)


def rates(kind: str) -> tuple[float, ...]:
    """Four, so that the best lies inside: trained weights are moved less, new ones with few steps more."""
    first = 0 if kind.endswith("bits") else 2 if kind == f"anew, {SHORT} steps" else 1
    return RATES[first : first + 4]


ARMS = tuple(f"{kind} | {by} | {rate:g}" for kind in KINDS for by in ("labels", "teacher") for rate in rates(kind))


def run(seed: int, arm: str) -> dict[str, float]:
    kind, by, rate = arm.split(" | ")
    if kind.endswith("bits"):
        return right(quantised(seed, int(kind[0]), by, rate=float(rate)), tuning=True)
    if kind.endswith("channels"):
        return right(narrow(seed, int(kind.split()[0]), by, rate=float(rate)), tuning=True)
    start, steps = kind.split(", ")
    return right(narrow(seed, WIDTH, by, rate=float(rate), start=start, steps=int(steps.split()[0])), tuning=True)


@functools.cache
def chosen(kind: str, by: str) -> float:
    """The rate of the highest mean accuracy."""
    means = load("edge_tuning").groupby("arm")["accuracy"].mean()
    return max(rates(kind), key=lambda rate: float(means[f"{kind} | {by} | {rate:g}"]))
