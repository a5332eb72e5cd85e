"""Every loss of lessons 01 to 05 with 200 labels, alone and with soft targets, on images.

Settings were chosen by ``choose_tuning`` before these runs. Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.experiments._choose import STUDENTS
from kdref.lab.experiments.choose_tuning import PAIRS, chosen, taught

PLANS = {str(pair): pair for pair in PAIRS if STUDENTS[pair.student].task == "images"}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    pair, choice = PLANS[arm], chosen(PLANS[arm])
    return {**taught(pair, choice, seed=seed), "setting": choice.setting, "decay": choice.decay}
