"""Does a small convolutional student gain from soft targets when it has epochs enough? On MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Settings were chosen by ``response_longer_tuning`` before these runs.
"""

from kdref.lab.experiments import response_longer_tuning as tuning
from kdref.lab.experiments._response_tuned import trained

ARMS = tuple(tuning.SETTINGS)


def run(seed: int, arm: str) -> dict[str, float]:
    return trained(tuning.STUDENT, arm, *tuning.chosen(arm), seed=seed, epochs=tuning.EPOCHS)
