"""Text, black box: learning rates and the number of further steps, chosen by right sums on other seeds.

The number of steps is the best one of the moving discriminator, and so for all; the other arms with a reward have its
learning rate too, the one that goes on with the text has its own. Lesson: notebooks/09_adversarial.ipynb.
"""

import functools

from kdref.lab.experiments._adversarial_text import continued
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
TESTS = 3  # sets of a thousand problems
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
STEPS = (40, 80)
WAYS = ("goes on with the text", "reward, moving", "reward, frozen")
ARMS = tuple(f"{way} | {rate:g} | {steps}" for way in WAYS for steps in STEPS for rate in RATES)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate, steps = arm.split(" | ")
    return continued(way, seed, steps=int(steps), rate=float(rate), tests=TESTS)


@functools.cache
def chosen(arm: str) -> tuple[float, int]:
    """The learning rate and the number of steps of an arm."""
    mean = load("adversarial_text_tuning").groupby("arm")["accuracy"].mean()

    def score(way: str, rate: float, steps: int) -> float:
        return float(mean[f"{way} | {rate:g} | {steps}"])

    rate, steps = max(((r, s) for r in RATES for s in STEPS), key=lambda pair: score("reward, moving", *pair))
    if arm == "goes on with the text":
        rate = max(RATES, key=lambda r: score(arm, r, steps))
    return rate, steps
