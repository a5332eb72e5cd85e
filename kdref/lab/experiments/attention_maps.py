"""Attention transfer between convolutional networks, 200 labels, on the 8 × 8 digits.

Lesson: notebooks/04_attention_based.ipynb. What is tuned was chosen by ``attention_tuning`` before these runs.
"""

from kdref.lab.experiments._attention import Settings, map_terms, measured, taught
from kdref.lab.experiments.attention_tuning import METHODS, chosen, taught_by

TUNED = {
    "labels": "maps | labels",
    "soft targets": "maps | soft targets",
    "AT with soft targets": "maps | AT with soft targets",
}
FIXED = {"AT, weight 3": 3.0, "AT, weight 10": 10.0, "AT, weight 1,000": 1000.0}
ARMS = (*TUNED, *FIXED)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm in TUNED:
        return taught_by(TUNED[arm], chosen(TUNED[arm]), seed=seed)
    method = METHODS["maps | AT"]
    student = taught(method.kind, map_terms, Settings(weight=FIXED[arm]), seed=seed)
    return measured(method.kind, student, seed=seed)
