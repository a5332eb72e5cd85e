"""Few labels on MNIST-1D: which examples lesson 09's students have (``few``), and how a loss from inside was weighed.

The teacher learned from all 4,000 training examples; the student's owner has 500 of them, drawn anew for each seed.
Within a seed every student has the same examples, first weights, data order, optimiser and schedule. The comparison of
all losses, which ``taught_inside`` and ``taught_outside`` made once, is lesson 18's (``_choose``).

Lesson 09's runs were stored with this file as it is.

Lesson: notebooks/09_adversarial.ipynb.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split
from kdref.lab.experiments._mnist1d import Loss, parts, teacher
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.lab.training.taps import Taps, taps
from kdref.soft_targets import distillation_loss

Activations = Mapping[str, Tensor]  # by site, as in SITES; "logits" among them
Term = Callable[[Activations, Activations], Tensor]  # of the student, of the teacher

SITES = {  # what a method may look at, and which layer that is
    "cnn1d-8": {
        "early": "features.relu1",
        "middle": "features.relu2",
        "late": "features.relu3",
        "before": "features.norm3",  # the last layer before its ReLU
        "pooled": "flatten",
        "logits": "classifier",
    },
    "mlp-100x100": {"pooled": "features.relu2", "logits": "classifier"},  # a perceptron has no maps
}
EXAMPLES, BATCH_SIZE, EPOCHS = 500, 50, 40
STUDENTS = {"cnn1d-8": "same family", "mlp-100x100": "cross family"}  # of the teacher
TEACHER = "cnn1d-32"
TEACHER_SITES = SITES["cnn1d-8"]
WEIGHTS = (0.1, 1.0, 10.0)
MODES = ("alone", "with soft targets")


class Built(NamedTuple):
    """A method made ready for one student and one teacher."""

    term: Term
    modules: tuple[nn.Module, ...] = ()  # trained beside the student
    head: nn.Module | None = None  # takes the pooled features and replaces the student's classifier


class Shapes(NamedTuple):
    """What a method needs to know to build its modules."""

    student: Mapping[str, int]  # channels by site
    teacher: Mapping[str, int]
    network: nn.Module  # the teacher itself
    seed: int
    validation: int


Build = Callable[[Shapes], Built]


class Headed(nn.Module):
    """A student's trunk under another head."""

    def __init__(self, student: nn.Module, tapped: Taps, head: nn.Module) -> None:
        super().__init__()
        self.student, self.tapped, self.head = student, tapped, head

    def forward(self, x: Tensor) -> Tensor:
        features = next(iter(self.tapped(x).values()))
        result: Tensor = self.head(features)
        return result


@functools.lru_cache(maxsize=2)
def few(seed: int, validation: int = 0) -> Split:
    """The student's training examples, and all others to be tested on."""
    whole = parts(validation)
    chosen = torch.randperm(len(whole.train_x), generator=torch.Generator().manual_seed(seed))[:EXAMPLES]
    return dataclasses.replace(whole, train_x=whole.train_x[chosen], train_y=whole.train_y[chosen])


@functools.lru_cache(maxsize=2)
def teacher_activations(seed: int, validation: int = 0) -> dict[str, Tensor]:
    """The frozen teacher's activations on the student's training inputs, by site, computed once."""
    tapped = taps(teacher(seed, TEACHER, validation=validation), list(TEACHER_SITES.values()))
    with torch.no_grad():
        found = tapped(few(seed, validation).train_x)
    return {site: found[layer] for site, layer in TEACHER_SITES.items()}


@functools.lru_cache(maxsize=2)
def teacher_on_test(seed: int, validation: int = 0) -> Tensor:
    """The teacher's logits on the test inputs."""
    return teacher_outputs(teacher(seed, TEACHER, validation=validation), few(seed, validation).test_x)


def taught_outside(
    name: str, loss: Loss, *, seed: int, validation: int = 0, weight_decay: float = 0.0, also: Iterable[Tensor] = ()
) -> dict[str, float]:
    """Train a student by a loss on logits, and measure it at the last epoch."""
    student, split = make(name, seed=100 + seed), few(seed, validation)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, targets = batch
        return {"loss": loss(student(x), targets, y)}

    targets = teacher_activations(seed, validation)["logits"]
    batches = Batches(split.train_x, split.train_y, targets, batch_size=BATCH_SIZE, seed=seed)
    _train(step, student, [*student.parameters(), *also], batches, weight_decay)
    return _measured(student, seed, validation)


def taught_inside(
    name: str, build: Build, *, seed: int, weight: float, mode: str, validation: int = 0
) -> dict[str, float]:
    """Train a student with a loss from inside the network, and measure it at the last epoch."""
    student, split = make(name, seed=100 + seed), few(seed, validation)
    guide, sites = teacher_activations(seed, validation), SITES[name]
    tapped = taps(student, list(sites.values()))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        own, theirs = _channels(student, tapped, sites), {site: values.shape[1] for site, values in guide.items()}
        built = build(Shapes(own, theirs, teacher(seed, TEACHER, validation=validation), seed, validation))
    trained = nn.ModuleList([student, *built.modules, *([built.head] if built.head is not None else [])])

    def terms(x: Tensor, y: Tensor, guides: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        found = tapped(x)
        own = {site: found[layer] for site, layer in sites.items()}
        if built.head is not None:
            own["logits"] = built.head(own["pooled"])
        theirs = dict(zip(guide, guides, strict=True))
        if mode == "alone":
            outside = F.cross_entropy(own["logits"], y)
        else:
            outside = distillation_loss(own["logits"], theirs["logits"], y, soft_weight=0.9, temperature=4.0)
        return outside, built.term(own, theirs)

    batches = Batches(split.train_x, split.train_y, *guide.values(), batch_size=BATCH_SIZE, seed=seed)
    first = slice(0, BATCH_SIZE)
    unit = _unit(
        student, *terms(split.train_x[first], split.train_y[first], [values[first] for values in guide.values()])
    )

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, *guides = batch
        outside, inside = terms(x, y, guides)
        return {"loss": outside + weight * unit * inside, "outside": outside, "inside": inside}

    _train(step, trained, trained.parameters(), batches)
    final = student if built.head is None else Headed(student, taps(student, [sites["pooled"]]), built.head)
    return _measured(final, seed, validation)


def _train(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    trained: nn.Module,
    parameters: Iterable[Tensor],
    batches: Batches,
    weight_decay: float = 0.0,
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    fit(step, trained, batches, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)


def _measured(student: nn.Module, seed: int, validation: int) -> dict[str, float]:
    split = few(seed, validation)
    result = measure(student, split.test_x, split.test_y, teacher_logits=teacher_on_test(seed, validation))
    return {**result, "training_accuracy": measure(student, split.train_x, split.train_y)["accuracy"]}


def _channels(student: nn.Module, tapped: Taps, sites: Mapping[str, str]) -> dict[str, int]:
    student.eval()
    with torch.no_grad():
        found = tapped(parts().train_x[:2])
    student.train()
    return {site: found[layer].shape[1] for site, layer in sites.items()}


def _unit(student: nn.Module, outside: Tensor, inside: Tensor) -> float:
    """How many times larger the outside term's gradient is, over the student's parameters."""
    parameters = list(student.parameters())
    sizes = []
    for term in (outside, inside):
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        sizes.append(torch.stack([g.norm() for g in gradients if g is not None]).norm().item())
    return float(sizes[0] / sizes[1])
