"""Soft targets at twice the temperature that tuning chose, a control for ``response_losses``, on MNIST-1D.

Lesson: notebooks/02_response_based.ipynb. Eight seeds of ``response_balance`` look better at τ = 8; these are all 24.
"""

from kdref.lab.experiments import response_losses_tuning as tuning
from kdref.lab.experiments._response_tuned import trained

ARMS = ("soft targets, τ = 8",)


def run(seed: int, arm: str) -> dict[str, float]:
    return trained(tuning.STUDENT, "soft targets", 2 * tuning.chosen("soft targets"), 0.0, seed=seed)
