"""The councils again with four times the epochs, and as long on labels: what of their differences is only haste?

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from kdref.lab.data import digits
from kdref.lab.experiments._councils import HOWS, LABELLED, fitted, seen_by, taught
from kdref.lab.models import make
from kdref.lab.training.measure import measure

LONGER = {f"{arm}, longer": (*plan[:2], 4 * plan[2]) for arm, plan in LABELLED.items()}  # images, batch, epochs
ARMS = (
    *(f"three views | {how}, longer" for how in HOWS[3:]),  # the weights by themselves, without a bad teacher
    *(f"one off | {how}, longer" for how in HOWS),
    *(f"two off | {how}, longer" for how in HOWS[3:]),
    *(f"two halves | {how}, longer" for how in HOWS[:2]),
    *LONGER,
)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm not in LONGER:
        said = taught(seed, arm)
        return {**said, "fitted": said["training_accuracy"]}
    split, (count, size, epochs) = digits(seed), LONGER[arm]
    student, x, y = make("mlp-32", shape=split.shape, seed=seed), split.train_x[:count], split.train_y[:count]
    fitted(student, x, y, batch_size=size, epochs=epochs, seed=seed)
    return {**seen_by(student, split), "fitted": measure(student, x, y)["accuracy"]}  # on the images trained on
