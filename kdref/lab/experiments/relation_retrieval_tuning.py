"""Each loss's learning rate and temperature, before all are compared on new classes.

The same effort for every loss, labels included: one setting at a time is varied around a common start, on signals and
seeds that are used nowhere else. Lesson: notebooks/05_relation_based.ipynb.
"""

import functools

from kdref.lab.experiments._relation_retrieval import LOSSES, Settings, taught
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
TRIED = {"rate": (0.003, 0.01, 0.03, 0.1), "temperature": (0.05, 0.1, 0.2, 0.4)}
CONTRASTIVE = ("labels", "InfoNCE")  # the losses with a temperature


def tried(name: str, what: str) -> dict[str, Settings]:
    """Arms and their settings, of one loss with one setting varied."""
    values = TRIED[what] if what != "temperature" or name in CONTRASTIVE else ()
    plans = [Settings()._replace(**{what: value}) for value in values]
    return {f"{name} | rate {plan.rate:g} | temperature {plan.temperature:g}": plan for plan in plans}


PLANS = {
    arm: (name, settings) for name in LOSSES for what in TRIED for arm, settings in tried(name, what).items()
}  # the start is met once for each loss
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, settings = PLANS[arm]
    return taught(name, settings, seed=seed, tuning=True)


@functools.cache
def chosen(name: str) -> Settings:
    """Each setting where the mean recall on new classes is highest, among the stored runs."""
    mean = load("relation_retrieval_tuning").groupby("arm")["accuracy"].mean()
    best = Settings()
    for what in TRIED:
        if plans := tried(name, what):
            plan = plans[max(plans, key=lambda arm: float(mean[arm]))]
            best = best._replace(**{what: getattr(plan, what)})
    return best
