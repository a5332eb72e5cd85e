"""The images' ladder: one setting of each rung that makes its images, chosen on validation images of other seeds.

Lesson: notebooks/10_transfer_data.ipynb.
"""

import functools

from kdref.lab.experiments._transfer_images import climbed
from kdref.lab.experiments.store import load

SEEDS = (5000, 5001)
SETTINGS: dict[str, tuple[float, ...]] = {
    "generated (DAFL)": (0.0003, 0.001, 0.003),  # the generator's learning rate
    "generated (DAFL, statistics)": (0.003, 0.01, 0.03),
    "generated (ZSKT)": (0.0001, 0.0003, 0.001),
    "inverted (DeepInversion)": (0.1, 1.0, 10.0),  # weight of the BatchNorm statistics
}
ARMS = tuple(f"{rung} | {setting:g}" for rung, settings in SETTINGS.items() for setting in settings)


def run(seed: int, arm: str) -> dict[str, float]:
    rung, setting = arm.split(" | ")
    return climbed(rung, seed, setting=float(setting), tuning=True)


@functools.cache
def chosen(rung: str) -> float:
    """The setting of the highest validation accuracy; 0 for a rung that has none."""
    if rung not in SETTINGS:
        return 0.0
    mean = load("transfer_images_tuning").groupby("arm")["accuracy"].mean()
    return max(SETTINGS[rung], key=lambda setting: float(mean[f"{rung} | {setting:g}"]))
