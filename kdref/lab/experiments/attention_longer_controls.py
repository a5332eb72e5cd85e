"""Labels and relations with 320 epochs: what soft targets with as many, in ``attention_longer``, are compared with.

On the same eight seeds. Lesson: notebooks/04_attention_based.ipynb.
"""

from kdref.lab.experiments._attention import measured, taught
from kdref.lab.experiments.attention_longer import LONGER
from kdref.lab.experiments.attention_tuning import METHODS, chosen

ARMS = ("tokens | labels", "tokens | relations")
SEEDS = tuple(range(8))


def run(seed: int, arm: str) -> dict[str, float]:
    method = METHODS[arm]
    settings = method.fixed._replace(**{method.tuned: chosen(arm)})
    return measured("tokens", taught("tokens", method.terms, settings, seed=seed, longer=LONGER), seed=seed)
