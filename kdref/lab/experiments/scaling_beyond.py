"""The last exam of the laws of lesson 13: runs beyond the grid, made when the laws' forms were settled.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

import functools
import time

from kdref.lab.experiments import store
from kdref.lab.experiments._scaling_beyond import POINTS, learned

SEEDS = (0, 1, 2)
ARMS = POINTS


@functools.cache
def rate(point: str) -> float:
    """The best one of scaling_beyond_tuning."""
    runs = store.load("scaling_beyond_tuning")
    tried = runs[runs["arm"].str.startswith(f"{point} | ")]
    return float(tried.loc[tried["loss"].idxmin(), "arm"].rsplit(" | ", 1)[1])


def run(seed: int, arm: str) -> dict[str, float]:
    began = time.process_time()
    found = learned(arm, rate=rate(arm), seed=seed)
    return {**found, "seconds": time.process_time() - began}
