"""A weight of 1,000 with four times the epochs, beside the runs of ``attention_maps`` and with their seeds.

Lesson: notebooks/04_attention_based.ipynb.
"""

from kdref.lab.experiments._attention import Settings, map_terms, measured, taught

ARMS = ("AT, weight 1,000, four times as long",)


def run(seed: int, arm: str) -> dict[str, float]:
    return measured("maps", taught("maps", map_terms, Settings(weight=1000.0), seed=seed, longer=4), seed=seed)
