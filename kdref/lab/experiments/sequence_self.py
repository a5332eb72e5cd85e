"""A rule that holds without being said: a model with the rule in its context teaches itself without, and what it costs.

Lesson: notebooks/12_reasoning.ipynb. All ways of a seed start with the same model and see equally many texts; learning
rates were chosen on other seeds.
"""

from kdref.lab.experiments._sequence_self import RULE, WAYS, before, distilled, measured
from kdref.lab.experiments.sequence_self_tuning import chosen

ARMS = (*WAYS, "before", "before, with the rule in the context")


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == "before":
        return measured(before(seed), seed)
    if arm == "before, with the rule in the context":
        return measured(before(seed), seed, context=RULE)
    return measured(distilled(WAYS[arm], seed, rate=chosen(arm)), seed)
