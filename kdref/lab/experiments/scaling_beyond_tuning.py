"""Which learning rate is best beyond the grid, with a seed that is used nowhere else.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

from kdref.lab.experiments._scaling_beyond import POINTS, learned

SEEDS = (5000,)
RATES = (0.001, 0.002, 0.005, 0.01)  # at 99,190 parameters and 300,000 signals 0.002 to 0.005 are best
ARMS = tuple(f"{point} | {rate}" for point in POINTS for rate in RATES)


def run(seed: int, arm: str) -> dict[str, float]:
    point, rate = arm.rsplit(" | ", 1)
    return learned(point, rate=float(rate), seed=seed)
