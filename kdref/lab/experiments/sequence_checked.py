"""A checker's reward against a teacher's judgement, at equal numbers of drawn texts: who gets further, and how soon.

Lesson: notebooks/12_reasoning.ipynb. All methods of a seed go on from the same student, with equally many drawn texts
and steps; learning rates were chosen on other seeds, for each number of texts.
"""

from kdref.lab.experiments._sequence_checked import BUDGETS, METHODS, after, measured, student, teacher
from kdref.lab.experiments.sequence_checked_tuning import chosen

SETTINGS = {f"{method} | {budget}": (method, budget) for budget in BUDGETS for method in METHODS}
TEACHERS = {"the teacher itself": teacher(), "the good teacher itself": teacher(0.0)}
ARMS = (*SETTINGS, "the student as it is", *TEACHERS)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm in TEACHERS:
        return measured(TEACHERS[arm])
    if arm == "the student as it is":
        return measured(student(seed)().detach())
    method, budget = SETTINGS[arm]
    return measured(after(method, seed, texts=BUDGETS[budget], rate=chosen(method, budget))().detach())
