"""A student that sees noise, and never an image or a class logit: does it read digits? After Cloud et al. 2025.

A network has ten logits for the classes and some more that mean nothing. The teacher learns digits by its class logits.
The student imitates the other logits alone, on images of uniform noise, and is then asked for classes. It starts where
its teacher started, or elsewhere. Settings were chosen with seeds that are used nowhere else.
Lesson: notebooks/16_provenance.ipynb.
"""

import dataclasses
import functools

import torch
from torch import Tensor, nn

from kdref.lab.data import Split, digits
from kdref.lab.experiments._fidelity import between, learn
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.soft_targets import soft_target_loss

NET, SHAPE, CLASSES, MORE = "mlp-128x128", (1, 8, 8), 10, 10
TEACHER_STEPS, TEACHER_SIZE, TEACHER_RATE = 200, 50, 2e-3  # ten times through the training set
STEPS, BATCH_SIZE, LEARNING_RATE = 600, 64, 2e-3
LONGER = 4
ARMS = (
    "same start",
    "another start",
    "another start, longer",
    "another start, same last layer",
    "half way",
    "labels of nothing",
    "untrained teacher",
)


class Some(nn.Module):
    """A network of which only some logits are looked at."""

    def __init__(self, model: nn.Module, which: slice) -> None:
        """See the class."""
        super().__init__()
        self.model, self.which = model, which

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs ``(B, ...)`` to the logits that are looked at."""
        logits: Tensor = self.model(inputs)[:, self.which]
        return logits


def classes(model: nn.Module) -> nn.Module:
    """The network's logits of the ten digits."""
    return Some(model, slice(CLASSES))


def others(model: nn.Module) -> nn.Module:
    """The network's other logits."""
    return Some(model, slice(CLASSES, None))


@functools.lru_cache(maxsize=1)
def known(seed: int) -> Split:
    """Digits on the scale of the noise, from -1 to 1."""
    split = digits(seed)
    return dataclasses.replace(split, train_x=2 * split.train_x - 1, test_x=2 * split.test_x - 1)


def first_weights(seed: int) -> nn.Module:
    """Where the teacher of a seed starts."""
    return make(NET, num_classes=CLASSES + MORE, shape=SHAPE, seed=seed)


@functools.lru_cache(maxsize=3)
def teacher(seed: int, labels: str = "right") -> nn.Module:
    """Trained by its class logits on the labels, on the same labels shuffled ("nothing"), or not at all ("none")."""
    if labels == "none":
        return first_weights(1_000_000 + seed).eval().requires_grad_(False)
    split, model = known(seed), first_weights(seed)
    y = split.train_y
    if labels == "nothing":
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]
    learn(classes(model), split.train_x, y, seed=seed, steps=TEACHER_STEPS, size=TEACHER_SIZE, rate=TEACHER_RATE)
    return model.requires_grad_(False)


def start(seed: int, arm: str) -> nn.Module:
    """The weights that the student of an arm begins with."""
    same, other = first_weights(seed), first_weights(500_000 + seed)
    if arm == "another start, same last layer":
        other.classifier.load_state_dict(same.classifier.state_dict())  # type: ignore[union-attr]
    if arm == "half way":
        between(same, other, 0.5)
    return other if arm.startswith(("another start", "half way")) else same


def noise(seed: int, count: int) -> Tensor:
    """Images whose pixels are uniform from -1 to 1."""
    return 2 * torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2_000_000 + seed)) - 1


def run(seed: int, arm: str) -> dict[str, float]:
    split, student = known(seed), start(seed, arm)
    labels = {"labels of nothing": "nothing", "untrained teacher": "none"}.get(arm, "right")
    model = teacher(seed, labels)
    steps = STEPS * (LONGER if arm.endswith("longer") else 1)
    shown, new = noise(seed, steps * BATCH_SIZE), noise(3_000_000 + seed, 1000)
    before = teacher_outputs(classes(student), split.test_x)
    said, theirs = teacher_outputs(others(model), shown), teacher_outputs(others(model), new)
    start_loss = soft_target_loss(teacher_outputs(others(student), new), theirs)
    learn(others(student), shown, said, seed=seed, steps=steps, size=BATCH_SIZE, rate=LEARNING_RATE)
    loss = soft_target_loss(teacher_outputs(others(student), new), theirs)
    after, wanted = (teacher_outputs(classes(net), split.test_x).argmax(-1) for net in (student, model))
    found = {
        "accuracy": (after == split.test_y).double().mean(),
        "accuracy_before": (before.argmax(-1) == split.test_y).double().mean(),
        "teacher_accuracy": (wanted == split.test_y).double().mean(),
        "agreement": (after == wanted).double().mean(),
        "loss_left": loss / start_loss,  # share of the divergence on new noise that is still there
    }
    return {name: float(value) for name, value in found.items()}
