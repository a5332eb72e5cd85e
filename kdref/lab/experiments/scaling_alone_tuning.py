"""Which learning rate is best for each size and amount of data, from labels, with seeds that are used nowhere else.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

from kdref.lab.experiments._scaling import SIGNALS, WIDTHS, signals, sweep

SEEDS = (5000, 5001)
ARMS = tuple(f"{width} | {count}" for width in WIDTHS for count in SIGNALS)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | "))
    x, y = signals(seed)
    return sweep(width, x[:count], y[:count], seed=seed)
