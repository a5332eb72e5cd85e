"""Six rungs of the ladder with four times the steps: four rounds, each with a schedule of its own.

Lesson: notebooks/10_transfer_data.ipynb.
"""

from kdref.lab.experiments._transfer_images import SHAPE, STUDENT, known, learn, rung, teacher
from kdref.lab.experiments.transfer_images_tuning import chosen
from kdref.lab.models import make
from kdref.lab.training.measure import measure

SEEDS = tuple(range(8))
ROUNDS = 4
ARMS = ("labels", "training images", "other images", "another set", "noise", "generated (DAFL, statistics)")


def run(seed: int, arm: str) -> dict[str, float]:
    teacher(seed)
    student, images = make(STUDENT, shape=SHAPE, seed=seed + 1), known(seed)
    batches = rung(arm, seed, student, chosen(arm))
    result: dict[str, float] = {}
    for rounds in range(1, ROUNDS + 1):
        learn(student, batches, labels=arm == "labels")
        if rounds in (1, ROUNDS):
            found = measure(student, images.test_x, images.test_y)
            result |= {"accuracy": found["accuracy"], f"accuracy_{rounds}": found["accuracy"]}
    return result
