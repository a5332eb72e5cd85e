"""Which learning rate is best for each size and amount of data, from a good teacher, with seeds used nowhere else.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

from kdref.lab.experiments._scaling import SIGNALS, STUDENTS, signals, sweep
from kdref.lab.experiments._scaling_teachers import said

SEEDS = (5000, 5001)
TEACHER = "105 of 300000"
ARMS = tuple(f"{width} | {count}" for width in STUDENTS for count in SIGNALS)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | "))
    return sweep(width, signals(seed)[0][:count], said(TEACHER, seed)[:count], seed=seed)
