"""LETTER as in 2006: what a small network learns from an ensemble of trees, by what it is shown.

Settings were chosen by ``transfer_letter_tuning`` before these runs. Lesson: notebooks/10_transfer_data.ipynb.
"""

from kdref.lab.experiments._transfer_letter import heard, measured, shown, taught
from kdref.lab.experiments.transfer_letter_tuning import DECAYS, decay_for, munge_settings

ARMS = tuple(DECAYS)


def run(seed: int, arm: str) -> dict[str, float]:
    kind, copies = arm.split(" | ")
    examples = shown(kind, int(copies), seed, **munge_settings())
    model = taught(examples, seed, decay=decay_for(arm))
    result = measured(model, seed) | {"seconds": examples.seconds}
    return result if kind == "labels" else result | heard(examples.targets)
