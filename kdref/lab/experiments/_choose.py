"""How lesson 18 compares the losses of lessons 01 to 05: three students, two tasks, few labels, enough steps.

Signals: MNIST-1D, a teacher that learned from all training examples, two students whose owner has 500 of them. Images:
mnist5k, the shipped teacher that learned from 3,000 images, one student whose owner has 200 of these. The examples are
drawn anew for each seed; within a seed every loss has the same ones, first weights, data order, optimiser, schedule and
number of epochs: so many that labels alone fit 97 to 100 % of the examples. A loss from inside the network is added to
tuned cross-entropy ("alone") or to tuned soft targets ("with soft targets"). Its weight is counted in units of its
gradient: weight 1 makes both gradients equal in size on the first batch, since raw sizes differ by orders of magnitude.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split
from kdref.lab.experiments._mnist1d import Loss, parts
from kdref.lab.experiments._mnist1d import teacher as signals_teacher
from kdref.lab.models import checkpoints, make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.lab.training.taps import Taps, taps
from kdref.soft_targets import distillation_loss

Activations = Mapping[str, Tensor]  # by site, as in SITES; "logits" among them
Term = Callable[[Activations, Activations], Tensor]  # of the student, of the teacher

SITES = {  # what a loss may look at, and which layer of a convolutional network that is
    "early": "features.relu1",
    "middle": "features.relu2",
    "late": "features.relu3",
    "before": "features.norm3",  # the last layer before its ReLU
    "pooled": "flatten",
    "logits": "classifier",
}
NO_MAPS = {"pooled": "features.relu2", "logits": "classifier"}  # a perceptron has none
VALIDATION = 500  # examples that stand in the test set's place while settings are chosen
SOFT_WEIGHT = 0.9
MODES = ("alone", "with soft targets")


class Student(NamedTuple):
    """A network, what it learns from, and for how long."""

    task: str
    family: str  # of the teacher's or not
    sites: Mapping[str, str]
    examples: int
    batch_size: int
    epochs: int


STUDENTS = {
    "cnn1d-8": Student("signals", "same family", SITES, examples=500, batch_size=50, epochs=120),
    "mlp-100x100": Student("signals", "cross family", NO_MAPS, examples=500, batch_size=50, epochs=40),
    "cnn2d-8": Student("images", "same family", SITES, examples=200, batch_size=25, epochs=80),
}


class Rows(Mapping[str, Tensor]):
    """Some examples' activations, looked up when a loss asks for them: most look at one site of six."""

    def __init__(self, whole: Mapping[str, Tensor], numbers: Tensor) -> None:
        self.whole, self.numbers = whole, numbers

    def __getitem__(self, site: str) -> Tensor:
        return self.whole[site][self.numbers]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)


class Known(NamedTuple):
    """A seed's examples, and the frozen teacher with all that it says, computed once."""

    split: Split  # the student's examples; those to be tested on
    teacher: nn.Module
    activations: dict[str, Tensor]  # on the student's examples, by site; "number" says which example it is
    test_logits: Tensor


class Meeting(NamedTuple):
    """What a loss from inside needs to know to build its modules."""

    student: Mapping[str, int]  # channels by site
    teacher: Mapping[str, int]
    known: Known
    seed: int


class Built(NamedTuple):
    """A loss made ready for one student and one teacher."""

    term: Term
    modules: tuple[nn.Module, ...] = ()  # trained beside the student
    head: nn.Module | None = None  # takes the pooled features and replaces the student's classifier


class Headed(nn.Module):
    """A student's trunk under another head."""

    def __init__(self, student: nn.Module, tapped: Taps, head: nn.Module) -> None:
        super().__init__()
        self.student, self.tapped, self.head = student, tapped, head

    def forward(self, x: Tensor) -> Tensor:
        features = next(iter(self.tapped(x).values()))
        result: Tensor = self.head(features)
        return result


Build = Callable[[Meeting], Built]


@functools.lru_cache(maxsize=2)
def known(task: str, examples: int, seed: int, tuning: bool = False) -> Known:
    """The same for every loss of a seed. The images' teacher is the shipped one for all seeds."""
    if task == "signals":
        whole = parts(VALIDATION if tuning else 0)
        teacher = signals_teacher(seed, validation=VALIDATION if tuning else 0)
    else:
        network, whole = checkpoints.load("mnist5k-cnn2d-32")
        teacher = network.requires_grad_(False)
    test = (whole.validation_x, whole.validation_y) if tuning else (whole.test_x, whole.test_y)
    chosen = torch.randperm(len(whole.train_x), generator=torch.Generator().manual_seed(seed))[:examples]
    x, y = whole.train_x[chosen], whole.train_y[chosen]
    split = dataclasses.replace(whole, train_x=x, train_y=y, test_x=test[0], test_y=test[1])
    with torch.no_grad():
        found = taps(teacher, list(SITES.values()))(x)
    activations = {**{site: found[layer] for site, layer in SITES.items()}, "number": torch.arange(examples)}
    return Known(split, teacher, activations, teacher_outputs(teacher, split.test_x))


def taught_outside(
    name: str, loss: Loss, *, seed: int, decay: float, also: Iterable[Tensor] = (), tuning: bool = False
) -> dict[str, float]:
    """Train a student by a loss on logits, and measure it at the last epoch."""
    plan = STUDENTS[name]
    all_known = known(plan.task, plan.examples, seed, tuning)
    split = all_known.split
    student = make(name, shape=split.shape, seed=100 + seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, targets = batch
        return {"loss": loss(student(x), targets, y)}

    _train(step, student, all_known.activations["logits"], plan, split, seed, decay, also)
    return _measured(student, all_known)


def taught_inside(
    name: str, build: Build, *, seed: int, weight: float, temperature: float | None, decay: float, tuning: bool = False
) -> dict[str, float]:
    """Train a student with a loss from inside the network, and measure it at the last epoch.

    It is added to cross-entropy, or to soft targets where there is a temperature.
    """
    plan = STUDENTS[name]
    all_known = known(plan.task, plan.examples, seed, tuning)
    split = all_known.split
    student = make(name, shape=split.shape, seed=100 + seed)
    tapped = taps(student, list(plan.sites.values()))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        built = build(Meeting(_channels(student, plan, split.train_x[:2]), _widths(all_known), all_known, seed))
    trained = nn.ModuleList([student, *built.modules, *([built.head] if built.head is not None else [])])

    def terms(x: Tensor, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        found, theirs = tapped(x), Rows(all_known.activations, numbers)
        own: dict[str, Tensor] = {site: found[layer] for site, layer in plan.sites.items()}
        if built.head is not None:
            own["logits"] = built.head(own["pooled"])
        z, inside = own["logits"], built.term(own, theirs)
        if temperature is None:
            return F.cross_entropy(z, y), inside
        soft = distillation_loss(z, theirs["logits"], y, soft_weight=SOFT_WEIGHT, temperature=temperature)
        return soft, inside

    numbers = all_known.activations["number"]
    first = slice(0, plan.batch_size)
    unit = unit_of(student, *terms(split.train_x[first], split.train_y[first], numbers[first]))

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        outside, inside = terms(*batch)
        return {"loss": outside + weight * unit * inside}

    _train(step, trained, numbers, plan, split, seed, decay)
    final = student if built.head is None else Headed(student, taps(student, [plan.sites["pooled"]]), built.head)
    return _measured(final, all_known)


def _train(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    trained: nn.Module,
    beside: Tensor,  # goes with each example and its label
    plan: Student,
    split: Split,
    seed: int,
    decay: float,
    also: Iterable[Tensor] = (),
) -> None:
    # weight decay pulls at weights; a temperature that is learnt beside them is none
    groups = [{"params": list(trained.parameters()), "weight_decay": decay}]
    if also := list(also):
        groups.append({"params": also, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs)
    batches = Batches(split.train_x, split.train_y, beside, batch_size=plan.batch_size, seed=seed)
    fit(step, trained, batches, optimizer, epochs=plan.epochs, scheduler=scheduler, progress=False)


def _measured(student: nn.Module, all_known: Known) -> dict[str, float]:
    split = all_known.split
    found = measure(student, split.test_x, split.test_y, teacher_logits=all_known.test_logits)
    result = {name: value for name, value in found.items() if name != "parameters"}
    return {**result, "training_accuracy": measure(student, split.train_x, split.train_y)["accuracy"]}


def _channels(student: nn.Module, plan: Student, x: Tensor) -> dict[str, int]:
    student.eval()
    with torch.no_grad():
        found = taps(student, list(plan.sites.values()))(x)
    student.train()
    return {site: found[layer].shape[1] for site, layer in plan.sites.items()}


def _widths(all_known: Known) -> dict[str, int]:
    return {site: all_known.activations[site].shape[1] for site in SITES}


def unit_of(student: nn.Module, outside: Tensor, inside: Tensor) -> float:
    """How many times larger the outside term's gradient is, over the student's parameters."""
    parameters = list(student.parameters())
    sizes = []
    for term in (outside, inside):
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        sizes.append(torch.stack([g.norm() for g in gradients if g is not None]).norm().item())
    return float(sizes[0] / sizes[1])
