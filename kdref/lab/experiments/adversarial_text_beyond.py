"""Text, black box: what lies beyond the ends of the tuning's grid, on its seeds; nothing was chosen by these runs.

The text's best learning rate is the largest of the grid, and the reward's number of steps the largest too. Lesson:
notebooks/09_adversarial.ipynb.
"""

from kdref.lab.experiments._adversarial_text import continued

SEEDS = (5000, 5001)  # as in adversarial_text_tuning
TESTS = 3
ARMS = (
    "the start | 0 | 0",
    "goes on with the text | 0.003 | 80",
    "goes on with the text | 0.01 | 80",
    "reward, moving | 0.0001 | 240",
)


def run(seed: int, arm: str) -> dict[str, float]:
    way, rate, steps = arm.split(" | ")
    return continued(way, seed, steps=int(steps), rate=float(rate), tests=TESTS)
