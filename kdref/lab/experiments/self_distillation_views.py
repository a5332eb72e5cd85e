"""Learning digits without labels from a moving average of oneself (DINO): what centring and sharpening each prevent.

``nats_E`` is what the teacher's outputs tell about the example after E epochs. "accuracy" is the class of the nearest
of 100 labelled images, in the features of the hidden layer: the teacher's, those of the untrained network, or plain
pixels. Lesson: notebooks/08_self_distillation.ipynb.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdref.lab.data import Split, digits
from kdref.lab.experiments._self_distillation import two_views
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.self_distillation import DinoCenter, EmaTeacher, dino_loss, output_information

OUTPUTS, EPOCHS, KNOWN, SEEN_AT = 32, 160, 100, (1, 5, 10, 20, 40, 80, 120, 160)


class Plan(NamedTuple):
    """What prevents a collapse."""

    temperature: float  # the teacher's; the student's is 0.1
    momentum: float  # of the center: at 1 it stays at zero


PLANS = {"sharpened only": Plan(0.04, 1.0), "centred only": Plan(0.1, 0.5), "both": Plan(0.04, 0.5)}
ARMS = (*PLANS, "untrained", "pixels")


def taught(seed: int, plan: Plan, *, epochs: int = EPOCHS) -> tuple[nn.Sequential, list[dict[str, float]]]:
    """The teacher, and after each epoch its loss and what its outputs tell."""
    split, generator = digits(seed), torch.Generator().manual_seed(seed)
    student = make("mlp-64", num_classes=OUTPUTS, shape=split.shape, seed=seed)
    teacher, center = EmaTeacher(student, decay=0.95), DinoCenter(OUTPUTS, momentum=plan.momentum)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        views = two_views(batch[0], generator)
        seen = [teacher(view) for view in views]
        losses = [
            dino_loss(student(view), other, center, teacher_temperature=plan.temperature)
            for view, other in zip(views, seen[::-1], strict=True)
        ]
        told = output_information(center(seen[0]), temperature=plan.temperature)
        center.update(torch.cat(seen))
        return {"loss": torch.stack(losses).mean(), "nats": told}

    optimizer = torch.optim.Adam(student.parameters(), lr=0.001, fused=True)
    batches = Batches(split.train_x, batch_size=250, seed=seed)
    rows = fit(
        step, student, batches, optimizer, epochs=epochs, after_step=lambda: teacher.update(student), progress=False
    )
    averaged = teacher.module
    assert isinstance(averaged, nn.Sequential)
    return averaged, rows


def nearest(features: nn.Module, split: Split) -> float:
    """How often the nearest of the first labelled images is of the same class."""
    known, new = (teacher_outputs(features, x) for x in (split.train_x[:KNOWN], split.test_x))
    found = split.train_y[torch.cdist(new, known).argmin(1)]
    return (found == split.test_y).double().mean().item()


def run(seed: int, arm: str) -> dict[str, float]:
    split = digits(seed)
    if arm == "pixels":
        return {"accuracy": nearest(nn.Flatten(), split)}
    if arm == "untrained":
        net = make("mlp-64", num_classes=OUTPUTS, shape=split.shape, seed=seed)
        return {"accuracy": nearest(net[:2], split)}
    teacher, rows = taught(seed, PLANS[arm])
    told = {f"nats_{epoch}": rows[epoch - 1]["nats"] for epoch in SEEN_AT}
    return {"accuracy": nearest(teacher[:2], split), "loss": rows[-1]["loss"], **told}
