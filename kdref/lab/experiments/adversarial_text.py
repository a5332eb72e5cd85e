"""Text, black box: a discriminator's score as the reward (GAD), beside going on with the teacher's text.

Learning rates and the number of steps were chosen by ``adversarial_text_tuning`` before these runs. ``accuracy`` is the
share of right sums in text that is drawn, on a thousand new problems; the teacher itself slips, so it is far below 1.
Lesson: notebooks/09_adversarial.ipynb.
"""

from kdref.lab.experiments._adversarial_text import continued
from kdref.lab.experiments.adversarial_text_tuning import chosen

ARMS = (
    "the start",
    "goes on with the text",
    "reward, moving",
    "reward, frozen",
    "reward, not warmed up",
    "reward, shuffled",
)


def run(seed: int, arm: str) -> dict[str, float]:
    rate, steps = chosen(arm)
    return continued(arm, seed, steps=steps, rate=rate)
