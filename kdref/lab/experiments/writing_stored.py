"""Students of a writing teacher that is not there: whole rows of logits, eight words a token, or eight draws.

The student of whole rows is that of the forward divergence in ``writing_divergences``, which is not trained again.
Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments import writing_divergences
from kdref.lab.experiments._writing import measured
from kdref.lab.experiments._writing_stored import SPARSE, WHOLE, bytes_per_token, student
from kdref.lab.experiments.writing_stored_tuning import chosen

ARMS = (WHOLE, *SPARSE)


def run(seed: int, arm: str) -> dict[str, float]:
    size = {"bytes": bytes_per_token(arm, seed)}
    if arm == WHOLE:
        return writing_divergences.stored(seed, "forward") | size
    model, seconds = student(seed, arm, rate=chosen(arm))
    return measured(model, seed) | size | {"seconds": seconds}
