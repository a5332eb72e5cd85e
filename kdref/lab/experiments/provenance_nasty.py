"""A teacher made to teach badly, and copiers that learn from it all the same. On digits.

Ma et al. 2021: the nasty teacher is as right as its honest twin and says other things of the classes that it does not
choose. Copiers have images without labels; they soften what they are told, more or less, or take the answers alone.
The weight was chosen with seeds that are used nowhere else: the largest that left the teacher its accuracy.
Lesson: notebooks/16_provenance.ipynb.
"""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.fidelity import expected_calibration_error
from kdref.lab.data import Split, digits
from kdref.lab.experiments._fidelity import batches, learn
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.provenance import nasty_teacher_loss

NET, SHAPE = "mlp-100", (1, 8, 8)
OWNED = 500  # labelled images of the service; the copier has the other 500, without labels
STEPS, NASTY_STEPS, BATCH_SIZE, LEARNING_RATE = 300, 600, 50, 5e-3
WEIGHT, TEMPERATURE = 0.06, 4.0
TAKEN = {"at 1": 1.0, "at 4": 4.0, "at 10": 10.0, "answers": None}  # temperatures
ARMS = ("labels", *(" | ".join(kind) for kind in itertools.product(("honest", "nasty"), TAKEN)))

taught = functools.partial(learn, steps=STEPS, rate=LEARNING_RATE, size=BATCH_SIZE)
known = functools.lru_cache(maxsize=1)(digits)


def network(seed: int) -> nn.Module:
    """Teacher, nasty teacher and copier are of this kind."""
    return make(NET, shape=SHAPE, seed=seed)


@functools.lru_cache(maxsize=1)
def honest(seed: int) -> nn.Module:
    """Trained on the labels."""
    split = known(seed)
    return taught(network(seed), split.train_x[:OWNED], split.train_y[:OWNED], seed=seed).requires_grad_(False)


@functools.lru_cache(maxsize=1)
def nasty(seed: int) -> nn.Module:
    """It goes on from the honest teacher: right by the labels, and as far from its probabilities as can be."""
    split, model, twin = known(seed), network(seed), honest(seed)
    model.load_state_dict(twin.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NASTY_STEPS)
    order = batches(split.train_x[:OWNED], split.train_y[:OWNED], seed=seed, size=BATCH_SIZE)
    for x, y in itertools.islice(order, NASTY_STEPS):
        loss = nasty_teacher_loss(model(x), twin(x), y, weight=WEIGHT, temperature=TEMPERATURE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval().requires_grad_(False)


def tested(split: Split) -> tuple[Tensor, Tensor]:
    """Images that nobody learns from; nothing is chosen on this split, so its validation part is among them."""
    return torch.cat([split.test_x, split.validation_x]), torch.cat([split.test_y, split.validation_y])


def run(seed: int, arm: str) -> dict[str, float]:
    split = known(seed)
    asked, (x, y) = split.train_x[OWNED:], tested(split)
    if arm == "labels":
        copier = taught(network(100_000 + seed), asked, split.train_y[OWNED:], seed=seed)
        return {"accuracy": (teacher_outputs(copier, x).argmax(-1) == y).double().mean().item()}
    kind, how = arm.split(" | ")
    model, temperature = (honest if kind == "honest" else nasty)(seed), TAKEN[how]
    said = teacher_outputs(model, asked)
    said = said.argmax(-1) if temperature is None else said
    copier = taught(network(100_000 + seed), asked, said, seed=seed, temperature=temperature or 1.0)
    own, theirs = (teacher_outputs(net, x) for net in (copier, model))
    found = {
        "accuracy": (own.argmax(-1) == y).double().mean(),
        "agreement": (own.argmax(-1) == theirs.argmax(-1)).double().mean(),
        "teacher_accuracy": (theirs.argmax(-1) == y).double().mean(),
        "teacher_nll": F.cross_entropy(theirs, y),
        "teacher_calibration": expected_calibration_error(theirs.softmax(-1), y),
    }
    return {name: float(value) for name, value in found.items()}
