"""The losses from inside the network, of lessons 03 to 05, and which student each of them fits.

Lesson: notebooks/05_relation_based.ipynb.
"""

from kdref.lab.experiments._feature import METHODS as FEATURES
from kdref.lab.experiments._feature import WITHOUT_MAPS
from kdref.lab.experiments._relation import METHODS as RELATIONS

__all__ = ["FEATURES", "INSIDE", "RELATIONS", "fits"]

INSIDE = {**FEATURES, **RELATIONS}


def fits(name: str, student: str) -> bool:
    """Losses on maps need a student that has some: a perceptron has none."""
    return student == "cnn1d-8" or name not in FEATURES or name in WITHOUT_MAPS
