"""Controls of the hint 1 → 1 of ``feature_places``, and the overhaul's partial distance at the same place.

The same seeds, images, first weights, order, steps, weight and decay; nothing is tuned for these arms. Before the ReLU
the plain square stands beside the partial distance. Lesson: notebooks/03_feature_based.ipynb.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.feature import HintRegressor, hint_loss, overhaul_loss
from kdref.lab.data import digits
from kdref.lab.experiments._feature_live import learn, margins
from kdref.lab.experiments._feature_places import LABELLED, STUDENT, teacher
from kdref.lab.experiments.feature_places_further import settled
from kdref.lab.models import make
from kdref.lab.training.measure import measure
from kdref.lab.training.taps import taps

CONTROLLED = "1 → 1"


class Control(NamedTuple):
    """What differs from the hint."""

    layer: str = "features.relu1"
    partial: bool = False
    teacher_trained: bool = True
    regressor_trained: bool = True


PLANS = {
    "1 → 1, teacher untrained": Control(teacher_trained=False),
    "1 → 1, regressor frozen": Control(regressor_trained=False),
    "1 → 1 before the ReLU": Control(layer="features.fc1"),
    "1 → 1 before the ReLU, partial": Control(layer="features.fc1", partial=True),
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    plan, split, setting = PLANS[arm], digits(seed), settled(CONTROLLED)
    x, y = split.train_x[:LABELLED], split.train_y[:LABELLED]
    student = make(STUDENT, shape=(1, 8, 8), seed=100 + seed)
    torch.manual_seed(seed)
    regressor = HintRegressor(16, 64).requires_grad_(plan.regressor_trained)
    own = taps(student, [plan.layer, "classifier"])
    guide = taps(teacher(seed, trained=plan.teacher_trained), [plan.layer])(x)[plan.layer]
    margin, spread = margins(guide), guide.var(dim=0).mean()

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, features = batch
        found = own(images)
        guess = regressor(found[plan.layer])
        term = overhaul_loss(guess, features, margin) if plan.partial else hint_loss(guess, features)
        return {"loss": F.cross_entropy(found["classifier"], labels) + setting.own * term / spread}

    learn(step, [student, regressor], (x, y, guide), seed=seed, decay=setting.decay)
    training = measure(student, x, y)["accuracy"]
    result = {**measure(student, split.test_x, split.test_y), "training_accuracy": training}
    return {**result, "decay": setting.decay, "own": setting.own}
