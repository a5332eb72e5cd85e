"""One hyper-parameter for each method of lesson 08, chosen on validation images.

The same effort for every method that has one: five to seven settings, eight seeds that are used nowhere else, for each
share of wrong training labels. The validation images' labels are right; "accuracy" is that on them.
Lesson: notebooks/08_self_distillation.ipynb.
"""

import functools

from kdref.lab.experiments._self_distillation import (
    METHODS,
    SHARES,
    born_again,
    first_network,
    labelled,
    trained,
)
from kdref.lab.experiments.store import load
from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.measure import measure

SEEDS = range(5000, 5008)
PLANS = {
    f"{labels} | {name} | {setting:g}": (share, name, setting)
    for labels, share in SHARES.items()
    for name, method in METHODS.items()
    for setting in method.settings
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    share, name, setting = PLANS[arm]
    split = labelled(seed, share)[0]
    if name == "born again":
        net = born_again(setting, seed=seed, share=share, generations=1)
    else:
        teacher = teacher_outputs(first_network(seed, share, 1), split.train_x)
        net = trained(METHODS[name], setting, seed=seed, share=share, teacher=teacher)
    return {"accuracy": measure(net, split.validation_x, split.validation_y)["accuracy"]}


@functools.cache
def chosen(labels: str, name: str) -> float:
    """The setting of the highest mean accuracy on validation images; of equals the weaker one."""
    means = load("self_distillation_labels_tuning").groupby("arm")["accuracy"].mean()
    return max(METHODS[name].settings, key=lambda setting: float(means[f"{labels} | {name} | {setting:g}"]))
