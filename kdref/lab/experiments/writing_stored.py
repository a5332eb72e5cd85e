"""Students of a writing teacher that is not there: whole rows of logits, eight words a token, or eight draws.

Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments._writing import measured
from kdref.lab.experiments._writing_stored import KEEPINGS, bytes_per_token, student
from kdref.lab.experiments.writing_stored_tuning import chosen

ARMS = KEEPINGS


def run(seed: int, arm: str) -> dict[str, float]:
    model, seconds = student(seed, arm, rate=chosen(arm))
    return {**measured(model, seed), "bytes": bytes_per_token(arm, seed), "seconds": seconds}
