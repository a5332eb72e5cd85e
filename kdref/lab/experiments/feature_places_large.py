"""A control of the reused classifier of ``feature_places``: a plain student as large, from soft targets.

The same seeds, images, order and steps, at the setting of the small student's soft targets. Lesson:
notebooks/03_feature_based.ipynb.
"""

from torch import Tensor

from kdref.lab.data import digits
from kdref.lab.experiments._feature_live import learn
from kdref.lab.experiments._feature_places import AS_LARGE, LABELLED, SOFT_WEIGHT, teacher
from kdref.lab.experiments.feature_places_further import settled
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.measure import measure
from kdref.soft_targets import distillation_loss

ARMS = ("soft targets, as large",)


def run(seed: int, arm: str) -> dict[str, float]:
    split, setting = digits(seed), settled("soft targets")
    x, y = split.train_x[:LABELLED], split.train_y[:LABELLED]
    student = make(AS_LARGE, shape=(1, 8, 8), seed=100 + seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, logits = batch
        loss = distillation_loss(student(images), logits, labels, temperature=setting.own, soft_weight=SOFT_WEIGHT)
        return {"loss": loss}

    learn(step, [student], (x, y, teacher_outputs(teacher(seed), x)), seed=seed, decay=setting.decay)
    result = measure(student, split.test_x, split.test_y)
    result["parameters"] = sum(p.numel() for p in student.parameters())
    result["training_accuracy"] = measure(student, x, y)["accuracy"]
    return {**result, "decay": setting.decay, "own": setting.own}
