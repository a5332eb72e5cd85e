"""Students of a writing teacher: labels, six divergences from what it says of the same text, and text that it wrote.

All read equally many rows of text. What they write is measured beside what they foresee.
Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments._writing import WAYS, measured, student
from kdref.lab.experiments.store import load
from kdref.lab.experiments.writing_tuning_beyond import chosen
from kdref.lab.models import writer

TEACHER = "the teacher itself"
ARMS = (*WAYS, TEACHER)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == TEACHER:
        return measured(writer.teacher(), seed)
    model, seconds = student(seed, arm, rate=chosen(arm))
    return {**measured(model, seed), "seconds": seconds}


def stored(seed: int, arm: str) -> dict[str, float]:
    """A run of these that is stored: other experiments compare with it and don't train it again."""
    runs = load("writing_divergences")
    found = runs[(runs["arm"] == arm) & (runs["seed"] == seed)].drop(columns=["arm", "seed"])
    return {str(name): float(value) for name, value in found.iloc[0].items()}
