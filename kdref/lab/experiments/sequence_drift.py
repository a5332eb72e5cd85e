"""Where drift adds up: walks along a road, learned from the guide's text, from one's own, and from both.

Lesson: notebooks/12_reasoning.ipynb. All walkers of a seed have the same road and first weights; the guide is asked
about equally many places, and learning rates were chosen on other seeds.
"""

from kdref.lab.experiments._sequence_drift import WAYS, compared, guide, train
from kdref.lab.experiments.sequence_drift_tuning import BUDGETS, chosen

SETTINGS = {f"{way} | {budget}": (way, budget) for budget in BUDGETS for way in WAYS}
ARMS = (*SETTINGS, "the guide itself")


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == "the guide itself":
        return compared(guide(seed), seed)
    way, budget = SETTINGS[arm]
    walker = train(WAYS[way], seed, steps=BUDGETS[budget], rate=chosen(way, budget))
    return compared(walker().detach(), seed)
