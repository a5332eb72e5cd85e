"""One student of several teachers: three half-blind ones, ensembles, some that are wrong, some that know half.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from kdref.lab.experiments._councils import HOWS, LABELLED, by_labels, taught

VIEWS = (
    *(f"three views | {how}" for how in ("probabilities", "logits", "probabilities, τ = 1", "logits, τ = 1")),
    "Fourier alone | logits",
    "pixels alone | logits",
    "pixels, 3 seeds | probabilities",
)
ARMS = (
    *VIEWS,
    *(f"{arm}, longer" for arm in VIEWS),
    *(f"one off | {how}" for how in HOWS),
    *(f"two off | {how}" for how in HOWS[3:]),
    *(f"two halves | {how}" for how in HOWS[:2]),
    *LABELLED,
)


def run(seed: int, arm: str) -> dict[str, float]:
    return by_labels(seed, arm) if arm in LABELLED else taught(seed, arm)
