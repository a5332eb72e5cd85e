"""The ladder on images: what a student learns from the teacher alone, from noise, from others' images, from its own.

Settings were chosen by ``transfer_images_tuning`` before these runs. Lesson: notebooks/10_transfer_data.ipynb.
"""

from kdref.lab.experiments._transfer_images import climbed
from kdref.lab.experiments.transfer_images_tuning import chosen

ARMS = (
    "labels",
    "training images",
    "other images",
    "another set",
    "noise",
    "untrained generator",
    "generated (DAFL)",
    "generated (DAFL, statistics)",
    "generated (ZSKT)",
    "inverted (DeepInversion)",
)


def run(seed: int, arm: str) -> dict[str, float]:
    return climbed(arm, seed, setting=chosen(arm))
