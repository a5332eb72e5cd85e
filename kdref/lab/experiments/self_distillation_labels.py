"""What self-distillation gains with right labels, with 5 % wrong ones and with 30 %, beside what costs nothing.

Hyper-parameters are those of ``self_distillation_labels_tuning``. Opponents: a first network twice as long, stopped
early, or with weight decay; an ensemble of four; the first generation's first choices as labels (argmax).
``train_accuracy`` is against the labels trained on, right or wrong.
Lesson: notebooks/08_self_distillation.ipynb.
"""

import torch.nn.functional as F
from torch import nn

from kdref.lab.experiments._self_distillation import (
    CONFIDENCE,
    EPOCHS,
    LABELS,
    METHODS,
    SHARES,
    Ensemble,
    Method,
    born_again,
    first_network,
    labelled,
    peers,
    stopped_early,
    trained,
)
from kdref.lab.experiments.self_distillation_labels_tuning import chosen
from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.measure import measure

GENERATIONS = {"born again": 1, "born again, 3": 3}
TAUGHT = {  # by the first generation, and nothing tuned
    "confidence only": CONFIDENCE,
    "argmax": Method("nothing", (0.0,), lambda s, a: F.cross_entropy(s.out, s.teacher.argmax(-1))),
}
OTHERS = (*TAUGHT, "one of 2 peers", "stopped early", "2 × as long", "ensemble of 4")
NAMES = ("labels", *METHODS, "born again, 3", *OTHERS)
PLANS = {f"{labels} | {name}": (labels, name) for labels in SHARES for name in NAMES}
ARMS = tuple(PLANS)


def network(seed: int, labels: str, name: str) -> nn.Module:
    """What an arm gives."""
    share = SHARES[labels]
    if name in GENERATIONS:
        setting = chosen(labels, "born again")
        return born_again(setting, seed=seed, share=share, generations=GENERATIONS[name])
    if name == "labels":
        return first_network(seed, share, 0)
    if name == "2 × as long":
        return trained(LABELS, 0.0, seed=seed, share=share, epochs=2 * EPOCHS)
    if name == "stopped early":
        return stopped_early(seed=seed, share=share)
    if name == "one of 2 peers":
        return peers(2, seed=seed, share=share)[0]
    if name == "ensemble of 4":
        return Ensemble([first_network(seed, share, start) for start in (3, 2, 1, 0)])
    teacher = teacher_outputs(first_network(seed, share, 1), labelled(seed, share)[0].train_x)
    method, setting = (METHODS[name], chosen(labels, name)) if name in METHODS else (TAUGHT[name], 0.0)
    return trained(method, setting, seed=seed, share=share, teacher=teacher)


def run(seed: int, arm: str) -> dict[str, float]:
    labels, name = PLANS[arm]
    (split, given), net = labelled(seed, SHARES[labels]), network(seed, labels, name)
    found = measure(net, split.test_x, split.test_y)
    seen = measure(net, split.train_x, given)["accuracy"]
    return {"accuracy": found["accuracy"], "nll": found["nll"], "train_accuracy": seen}
