"""Prune, then distil: eight of 32 channels, kept by importance or drawn, or a network of eight channels begun anew.

On MNIST-1D, at three budgets after pruning. The recipe of today's small language models (Muralidharan et al. 2024,
https://arxiv.org/abs/2407.14679), in small. Lesson: notebooks/14_edge.ipynb.
"""

from kdref.lab.experiments._edge import ANEW, large, narrow, pruned, right
from kdref.lab.experiments.edge_tuning import SHORT, WIDTH, chosen

LONG = 4 * ANEW
STARTS = (
    *("pruned | labels", "pruned | teacher", "random channels | teacher"),
    *("anew | labels", "anew | teacher"),
)
ARMS = (
    "large",
    "pruned, not taught",
    *(f"{SHORT} steps | {start}" for start in STARTS),
    *(f"{ANEW} steps | {start}" for start in STARTS),
    *(f"{LONG} steps | {start}" for start in STARTS if "random" not in start),
)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == "large":
        return right(large(seed))
    if arm == "pruned, not taught":
        return right(pruned(large(seed), WIDTH))
    budget, start, by = arm.split(" | ")
    steps = int(budget.split()[0])
    rate = chosen(f"{'anew' if start == 'anew' else 'pruned'}, {min(steps, ANEW)} steps", by)
    return right(narrow(seed, WIDTH, by, rate=rate, steps=steps, start=start))
