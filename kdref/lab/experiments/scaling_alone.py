"""The loss of networks of eight sizes after six amounts of data, from labels: what a law is fitted to.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

import time

from kdref.lab.experiments._scaling import SIGNALS, WIDTHS, learn, measures, parameters, signals, tuned

SEEDS = (0, 1, 2)
ARMS = tuple(f"{width} | {count}" for width in WIDTHS for count in SIGNALS)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | "))
    x, y = signals(seed)
    began = time.process_time()
    model = learn(width, x[:count], y[:count], rate=tuned("scaling_alone_tuning", width, count), seed=seed)
    seconds = time.process_time() - began
    return {"parameters": parameters(width), "signals": count, **measures(model), "seconds": seconds}
