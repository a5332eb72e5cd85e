"""Lesson 14's learning rates, chosen on signals and with seeds that are used nowhere else.

What was chosen for 4 bits serves 8, for 2 bits 3; for 17 channels 13, for 10 channels 11. A teacher's temperature is 1
for its own rounded copy, as in NVIDIA's recipe (https://arxiv.org/abs/2601.20088), and 4 for smaller networks. Lesson:
notebooks/14_edge.ipynb.
"""

import functools

from kdref.lab.experiments._edge import ANEW, How, narrow, quantised, right
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
SHORT, WIDTH, TEMPERATURE = 100, 8, 4.0  # steps, channels of the pruned networks
KINDS = (
    *("4 bits", "2 bits", "17 channels", "10 channels"),
    *(f"pruned, {SHORT} steps", f"pruned, {ANEW} steps", f"anew, {SHORT} steps", f"anew, {ANEW} steps"),
)


def rates(kind: str) -> tuple[float, ...]:
    """Trained weights are moved less."""
    return RATES[1:] if "channels" in kind or kind.startswith("anew") else RATES[:-1]


ARMS = tuple(f"{kind} | {by} | {rate:g}" for kind in KINDS for by in ("labels", "teacher") for rate in rates(kind))


def run(seed: int, arm: str) -> dict[str, float]:
    kind, by, rate = arm.split(" | ")
    if kind.endswith("bits"):
        return right(quantised(seed, int(kind[0]), by, How(float(rate))), tuning=True)
    how = How(float(rate), TEMPERATURE)
    if kind.endswith("channels"):
        return right(narrow(seed, int(kind.split()[0]), by, how), tuning=True)
    start, steps = kind.split(", ")
    return right(narrow(seed, WIDTH, by, how, start=start, steps=int(steps.split()[0])), tuning=True)


@functools.cache
def chosen(kind: str, by: str) -> How:
    """The rate of the highest mean accuracy, with the temperature."""
    means = load("edge_tuning").groupby("arm")["accuracy"].mean()
    rate = max(rates(kind), key=lambda rate: float(means[f"{kind} | {by} | {rate:g}"]))
    return How(rate, 1.0 if kind.endswith("bits") else TEMPERATURE)
