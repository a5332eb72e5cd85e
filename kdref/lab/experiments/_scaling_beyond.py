"""Runs beyond the grid of lesson 13: larger networks and more signals than any law was fitted to.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

from kdref.lab.experiments._scaling import learn, measures, parameters, signals

MOST = 1_000_000
POINTS = ("470 | 300000", "175 | 1000000", "290 | 1000000", "470 | 1000000")  # width and signals


def learned(point: str, *, rate: float, seed: int) -> dict[str, float]:
    width, count = map(int, point.split(" | "))
    x, y = signals(seed, MOST)
    model = learn(width, x[:count], y[:count], rate=rate, seed=seed)
    return {"parameters": parameters(width), "signals": count, **measures(model)}
