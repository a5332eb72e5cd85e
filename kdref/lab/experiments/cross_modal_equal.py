"""Lesson 07's teacher, its answers taken in five ways at fixed settings: equal temperatures, one weight decay.

Made after ``cross_modal``, whose tuning chose another temperature for soft targets than selection's: are whole answers
behind the argmax and behind chosen ones, or only their setting? Lesson: notebooks/07_cross_modal.ipynb.
"""

from kdref.lab.experiments._cross_modal import METHODS, by_person, people, taught_by_labels, train
from kdref.lab.experiments.cross_modal_tuning import FOLDS, chosen

DECAY = 1.0
SETTINGS = {
    "soft targets, τ = 1": ("soft targets", 1.0),
    "soft targets, τ = 2": ("soft targets", 2.0),
    "argmax": ("argmax", 1.0),
    "selected, τ = 1": ("selected, τ = 1", 0.0),
    "selected, τ = 2": ("selected", 0.0),
}
ARMS = tuple(SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    method, setting = SETTINGS[arm]
    right: dict[int, float] = {}
    for number in range(FOLDS):
        fold = people(seed, number)
        decay = chosen("accelerometer | nobody | labels", fold.test).decay
        teacher = taught_by_labels("accelerometer", seed, number, decay=decay)
        guide = (teacher, "accelerometer", METHODS[method], setting)
        model = train("gyroscope", seed, fold, decay=DECAY, guide=guide)
        right |= by_person(model, "gyroscope", fold.test)
    return {"accuracy": sum(right.values()) / len(right)}
