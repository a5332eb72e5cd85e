"""LETTER: weight decay for each arm, and MUNGE's two settings, chosen on validation letters of other seeds.

Lesson: notebooks/10_transfer_data.ipynb.
"""

import functools

from kdref.lab.experiments._transfer_letter import measured, shown, taught
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
FEW, MANY = (0.0, 0.03, 0.1, 0.3), (0.0, 0.1)  # weight decays: more matters where there are few examples
DECAYS: dict[str, tuple[float, ...]] = {
    "labels | 1": FEW,
    "munge | 1": MANY,
    "munge | 5": MANY,
    "munge | 20": MANY,
    "munge | 100": MANY,
    "uniform | 100": MANY,
    "attributes alone | 100": MANY,
    "real | 3": MANY,
}
SWAPS, VARIANCES = (0.05, 0.1, 0.2, 0.4), (1.0, 4.0, 16.0)
SWAP, VARIANCE = 0.1, 4.0  # while weight decay is chosen
ARMS = (
    *(f"{arm} | {decay:g} | {SWAP:g} | {VARIANCE:g}" for arm, decays in DECAYS.items() for decay in decays),
    *(f"munge | 20 | 0 | {p:g} | {s:g}" for p in SWAPS for s in VARIANCES if (p, s) != (SWAP, VARIANCE)),
)


def run(seed: int, arm: str) -> dict[str, float]:
    kind, copies, decay, swap, variance = arm.split(" | ")
    examples = shown(kind, int(copies), seed, swap_probability=float(swap), local_variance=float(variance))
    return measured(taught(examples, seed, decay=float(decay)), seed, tuning=True)


@functools.cache
def mean(arm: str) -> float:
    """Validation accuracy of a stored arm."""
    stored = load("transfer_letter_tuning")
    return float(stored.loc[stored["arm"] == arm, "accuracy"].mean())


def decay_for(arm: str) -> float:
    """The weight decay of the highest accuracy."""
    return max(DECAYS[arm], key=lambda decay: mean(f"{arm} | {decay:g} | {SWAP:g} | {VARIANCE:g}"))


def munge_settings() -> dict[str, float]:
    """MUNGE's settings of the highest accuracy."""
    pairs = [(p, s) for p in SWAPS for s in VARIANCES]
    swap, variance = max(pairs, key=lambda pair: mean(f"munge | 20 | 0 | {pair[0]:g} | {pair[1]:g}"))
    return {"swap_probability": swap, "local_variance": variance}
