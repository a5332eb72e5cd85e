"""Two arms that had not fitted their images after 80 epochs, with 320: is it only time that they lack?

Beside the runs of ``attention_maps`` and ``attention_tokens``, on the first eight of their seeds.

Lesson: notebooks/04_attention_based.ipynb.
"""

from kdref.lab.experiments._attention import Settings, map_terms, measured, plain_terms, taught
from kdref.lab.experiments.attention_tuning import chosen

ARMS = ("maps | AT, weight 1,000", "tokens | soft targets")
LONGER = 4
SEEDS = tuple(range(8))


def run(seed: int, arm: str) -> dict[str, float]:
    kind = arm.split(" | ")[0]
    if kind == "maps":
        student = taught(kind, map_terms, Settings(weight=1000.0), seed=seed, longer=LONGER)
    else:
        student = taught(kind, plain_terms, Settings(soft=chosen(arm)), seed=seed, longer=LONGER)
    return measured(kind, student, seed=seed)
