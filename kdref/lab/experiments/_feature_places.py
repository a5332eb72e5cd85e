"""What the experiments of lesson 03 share: one teacher, one small student, and one way to train it, on digits.

The teacher learned from 1,000 images; the student's owner has 100 of them. Within a seed all students have the same
images, first weights, data order, optimiser, schedule and 320 steps, in which labels alone learn every image by heart.
A hint is divided by the variance of the teacher's features and added to cross-entropy.

Lesson: notebooks/03_feature_based.ipynb.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.feature import HintRegressor, ReusedClassifier, hint_loss
from kdref.fidelity import centered_kernel_alignment
from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.lab.training.taps import taps
from kdref.soft_targets import distillation_loss

LAYERS = ("features.relu1", "features.relu2", "features.relu3")
STUDENT, AS_LARGE, TEACHER = "mlp-16x16x16", "mlp-39x39x39", "mlp-64x64x64"
LABELLED, BATCH_SIZE, EPOCHS, SHORT = 100, 50, 160, 16
TEACHER_EPOCHS, TEACHER_DECAY = 20, 0.1
SOFT_WEIGHT = 0.9
DECAYS = (0.0, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0)


class Setting(NamedTuple):
    """What is tuned: the optimiser's weight decay, and the teacher's temperature or the hint's weight."""

    decay: float
    own: float = 1.0


class Arm(NamedTuple):
    """What a student learns from."""

    settings: tuple[Setting, ...]
    loss: str = "labels"
    place: tuple[int, int] = (3, 3)  # of a hint: the teacher's layer, the student's layer
    student: str = STUDENT
    teacher_trained: bool = True
    regressor_trained: bool = True
    reuses: bool = False  # the teacher's classifier, behind a projector
    epochs: int = EPOCHS
    like: str = ""  # an arm whose setting this one takes over


ALONE = tuple(Setting(decay) for decay in DECAYS)
SOFT = tuple(Setting(decay, temperature) for decay in (0.1, 1.0) for temperature in (1.0, 2.0, 4.0, 8.0))
HINTED = tuple(Setting(decay, weight) for decay in (0.1, 1.0) for weight in (0.1, 1.0, 10.0, 100.0))

TUNED = {
    "labels": Arm(ALONE),
    "soft targets": Arm(SOFT, "soft targets"),
    "1 → 1": Arm(HINTED, "hint", (1, 1)),
    "2 → 2": Arm(HINTED, "hint", (2, 2)),
    "3 → 3": Arm(HINTED, "hint", (3, 3)),
    "1 → 3": Arm(HINTED, "hint", (1, 3)),
    "3 → 1": Arm(HINTED, "hint", (3, 1)),
    "reused classifier": Arm(ALONE, "features", reuses=True),
    "labels, as large": Arm(ALONE, student=AS_LARGE),
}
CONTROLS = {
    "2 → 2, teacher untrained": TUNED["2 → 2"]._replace(teacher_trained=False, like="2 → 2"),
    "2 → 2, regressor frozen": TUNED["2 → 2"]._replace(regressor_trained=False, like="2 → 2"),
    "its network, from labels": TUNED["labels"]._replace(reuses=True, like="reused classifier"),
}
HASTY = {  # a tenth of the steps
    f"{arm}, 32 steps": TUNED[arm]._replace(epochs=SHORT, like=arm) for arm in ("labels", "soft targets", "2 → 2")
}
ARMS = TUNED | CONTROLS | HASTY


@functools.lru_cache(maxsize=2)
def teacher(seed: int, *, trained: bool = True) -> nn.Sequential:
    """The teacher of a seed, or the one it was before it learned anything."""
    split, model = digits(seed), make(TEACHER, shape=(1, 8, 8), seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=TEACHER_DECAY, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TEACHER_EPOCHS)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(model(batch[0]), batch[1])}

    batches = Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    if trained:
        fit(step, model, batches, optimizer, epochs=TEACHER_EPOCHS, scheduler=scheduler, progress=False)
    return model.eval().requires_grad_(False)


def activations(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The three hidden layers after their ReLU, then the logits."""
    found, h = [], x.flatten(1)
    for layer in model.get_submodule("features").children():
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            found.append(h)
    return [*found, model.get_submodule("classifier")(h)]


def projector() -> nn.Sequential:
    """SimKD's, with linear layers for the authors' convolutions: half the teacher's width inside."""
    inside: list[nn.Module] = []
    for came, goes in ((16, 32), (32, 32), (32, 64)):
        inside += [nn.Linear(came, goes, bias=False), nn.BatchNorm1d(goes), nn.ReLU()]
    return nn.Sequential(*inside)


def taught(seed: int, name: str, setting: Setting, *, tuning: bool = False) -> dict[str, float]:
    """Train a student and measure it on the test images; for tuning on the validation images."""
    split, arm, master = digits(seed), ARMS[name], teacher(seed)
    x, y = split.train_x[:LABELLED], split.train_y[:LABELLED]
    student, (of_teacher, of_student) = make(arm.student, shape=(1, 8, 8), seed=100 + seed), arm.place
    torch.manual_seed(seed)
    regressor = HintRegressor(16, 64).requires_grad_(arm.regressor_trained)
    head = ReusedClassifier(projector(), master.get_submodule("classifier"))
    model = nn.Sequential(nn.Flatten(), student.get_submodule("features"), head) if arm.reuses else student
    told = activations(teacher(seed, trained=arm.teacher_trained), x)
    guide = told[of_teacher - 1]
    spread = guide.var(dim=0).mean()

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, features, logits = batch
        if arm.loss == "features":
            return {"loss": hint_loss(head.project(model[:2](images)), features) / spread}
        if arm.loss == "soft targets":
            z = model(images)
            return {"loss": distillation_loss(z, logits, labels, temperature=setting.own, soft_weight=SOFT_WEIGHT)}
        if arm.loss == "labels":
            return {"loss": F.cross_entropy(model(images), labels)}
        found = activations(student, images)
        hint = hint_loss(regressor(found[of_student - 1]), features) / spread
        return {"loss": F.cross_entropy(found[-1], labels) + setting.own * hint}

    trained = [p for module in (model, regressor) for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=setting.decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arm.epochs)
    batches = Batches(x, y, guide, told[-1], batch_size=BATCH_SIZE, seed=seed)
    fit(step, [model, regressor], batches, optimizer, epochs=arm.epochs, scheduler=scheduler, progress=False)
    if tuning:
        return measure(model, split.validation_x, split.validation_y)
    result = {**measure(model, split.test_x, split.test_y), **likeness(student, master, split.test_x[:200])}
    result["parameters"] = sum(p.numel() for p in model.parameters())  # frozen ones too: they are shipped
    return {**result, "training_accuracy": measure(model, x, y)["accuracy"]}


def likeness(student: nn.Module, master: nn.Module, x: Tensor) -> dict[str, float]:
    """CKA of each of the student's layers and each of the teacher's."""
    with torch.no_grad():
        mine, theirs = (taps(net.eval(), LAYERS)(x) for net in (student, master))
    return {
        f"cka_{j}_{i}": centered_kernel_alignment(mine[own], theirs[other]).item()
        for j, own in enumerate(LAYERS, 1)
        for i, other in enumerate(LAYERS, 1)
    }
