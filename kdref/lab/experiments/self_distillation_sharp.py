"""Born-again students below τ = 1, beside labels at the same τ: is it the teacher, or the temperature in the loss?

On validation images, with seeds that are used nowhere else, τ = 1/4 is above every τ of the list from 1 to 16. The
control has τ² times the cross-entropy of the labels at τ. Lesson: notebooks/08_self_distillation.ipynb.
"""

import torch.nn.functional as F

from kdref.lab.experiments._self_distillation import METHODS, SHARES, Method, first_network, labelled, trained
from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.measure import measure

SHARP = 0.25
LOSSES = {
    "born again": METHODS["born again"],
    "labels": Method("nothing", (SHARP,), lambda s, a: a**2 * F.cross_entropy(s.out / a, s.y)),
}
PLANS = {
    f"{labels} | {name}, τ = 1/4": (share, loss) for labels, share in SHARES.items() for name, loss in LOSSES.items()
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    share, loss = PLANS[arm]
    split, given = labelled(seed, share)
    teacher = teacher_outputs(first_network(seed, share, 1), split.train_x)
    net = trained(loss, SHARP, seed=seed, share=share, teacher=teacher)
    found = measure(net, split.test_x, split.test_y)
    seen = measure(net, split.train_x, given)["accuracy"]
    return {"accuracy": found["accuracy"], "nll": found["nll"], "train_accuracy": seen}
