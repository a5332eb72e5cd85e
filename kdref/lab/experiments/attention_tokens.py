"""Self-attention of a narrow transformer taught by a wider one, 200 labels, on the 8 × 8 digits.

Lesson: notebooks/04_attention_based.ipynb. What is tuned was chosen by ``attention_tuning`` before these runs.
"""

from kdref.lab.experiments.attention_tuning import chosen, taught_by

ARMS = ("labels", "soft targets", "relations", "scores")


def run(seed: int, arm: str) -> dict[str, float]:
    name = f"tokens | {arm}"
    return taught_by(name, chosen(name), seed=seed)
