"""Learning rate and temperature of each loss and way to share a batch, before they are compared.

The same effort for all: one setting at a time is varied around a common start, on signals and seeds that no report
uses. Lesson: notebooks/17_scale_out.ipynb.
"""

import functools

from kdref.lab.experiments._scale_out import Settings, taught
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
STUDENTS = {  # the loss, and in how many shares each batch is cut
    "labels, 32": ("labels", 1),
    "RKD, 32": ("RKD both", 1),
    "RKD, 4 x 8": ("RKD both", 4),
    "InfoNCE, 32": ("InfoNCE", 1),
    "InfoNCE, 4 x 8": ("InfoNCE", 4),
}
TRIED = {"rate": (0.003, 0.01, 0.03), "temperature": (0.05, 0.1, 0.2)}
CONTRASTIVE = ("labels", "InfoNCE")  # the losses with a temperature


def tried(student: str, what: str) -> dict[str, Settings]:
    """Arms and their settings, of one student with one setting varied."""
    values = TRIED[what] if what != "temperature" or STUDENTS[student][0] in CONTRASTIVE else ()
    plans = [Settings()._replace(**{what: value}) for value in values]
    return {f"{student} | rate {plan.rate:g} | temperature {plan.temperature:g}": plan for plan in plans}


PLANS = {
    arm: (student, settings) for student in STUDENTS for what in TRIED for arm, settings in tried(student, what).items()
}  # the start is met once for each
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    student, settings = PLANS[arm]
    return taught(*STUDENTS[student], settings, seed=seed, tuning=True)


@functools.cache
def chosen(student: str) -> Settings:
    """Each setting where the mean recall on new classes is highest, among the stored runs."""
    mean = load("scale_out_batches_tuning").groupby("arm")["accuracy"].mean()
    best = Settings()
    for what in TRIED:
        if plans := tried(student, what):
            plan = plans[max(plans, key=lambda arm: float(mean[arm]))]
            best = best._replace(**{what: getattr(plan, what)})
    return best
