"""Students of a writing teacher with four times the tokens: is the short budget what decides?

Learning rates are those of the short budget. Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments._writing import STEPS, measured, student
from kdref.lab.experiments.writing_tuning_beyond import chosen

SEEDS = (0, 1, 2, 1000, 1001, 1002, 2000, 2001)
TIMES = 4
ARMS = ("labels", "forward", "reverse")


def run(seed: int, arm: str) -> dict[str, float]:
    model, seconds = student(seed, arm, rate=chosen(arm), steps=TIMES * STEPS)
    return {**measured(model, seed), "seconds": seconds}
