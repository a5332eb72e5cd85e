"""What the experiments on LETTER share: few labels, an ensemble of trees, and one way to train a small network.

A thousand letters are labelled. A hundred trees with random splits learn them, and label whatever the student is
shown. Within a seed all students have the same first weights, number of steps, optimiser and schedule; only what they
are shown differs. Lesson: notebooks/10_transfer_data.ipynb.
"""

import functools
import time
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split, letter
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.transfer_data import munge

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier

MODEL = "mlp-128"
LABELLED = 1000
TREES = 100
STEPS, BATCH_SIZE = 2000, 250  # the same for every student, however many examples there are
LEARNING_RATE = 0.01


class Shown(NamedTuple):
    """What a student learns from."""

    x: Tensor  # (N, 16)
    targets: Tensor  # (N, 26) probabilities
    seconds: float  # of processor time, to make and to label them


@functools.lru_cache(maxsize=2)
def parts(seed: int, *, tuning: bool = False) -> Split:
    """The letters; for tuning, validation examples take the test set's place."""
    split = letter(seed)
    if not tuning:
        return split
    x, y = split.validation_x, split.validation_y
    return Split(split.name, split.classes, split.train_x, split.train_y, x, y, x, y)


@functools.lru_cache(maxsize=2)
def ensemble(seed: int) -> "ExtraTreesClassifier":
    """A hundred trees with random splits, grown until every labelled letter is right.

    Trees of bootstrap samples (bagging) were tried first: they are no better than the student that learns from labels.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    split = parts(seed)
    trees = ExtraTreesClassifier(TREES, random_state=seed)
    return trees.fit(split.train_x[:LABELLED].numpy(), split.train_y[:LABELLED].numpy())


def said(seed: int, x: Tensor) -> Tensor:
    """The ensemble's probabilities, shape ``(N, 26)``: the share of trees, for each class."""
    trees = ensemble(seed)
    result = torch.zeros(len(x), parts(seed).classes)  # a class may be missing among the labelled letters
    result[:, torch.from_numpy(trees.classes_)] = torch.from_numpy(trees.predict_proba(x.numpy())).float()
    return result


@functools.lru_cache(maxsize=4)
def said_of_test(seed: int, *, tuning: bool = False) -> Tensor:
    """What the ensemble says of the letters that students are tested on."""
    return said(seed, parts(seed, tuning=tuning).test_x)


def made(kind: str, copies: int, seed: int, *, swap_probability: float, local_variance: float) -> Tensor:
    """Examples without labels: as many times as many as are labelled."""
    known, draws = parts(seed).train_x[:LABELLED], torch.Generator().manual_seed(seed)
    count, width = copies * len(known), known.shape[1]
    match kind:
        case "munge":
            p, s = swap_probability, local_variance
            return munge(known, copies=copies, swap_probability=p, local_variance=s, generator=draws)
        case "uniform":
            return torch.rand(count, width, generator=draws)
        case "attributes alone":  # each drawn from its own values: the paper's RANDOM
            return known[torch.randint(len(known), (count, width), generator=draws), torch.arange(width)]
        case "real":
            return parts(seed).train_x[: count + len(known)]  # the labelled ones, and others that nobody labelled
    raise ValueError(f"no kind of examples is named {kind!r}")


def shown(kind: str, copies: int, seed: int, *, swap_probability: float = 0.0, local_variance: float = 1.0) -> Shown:
    """What a student is shown, with its targets."""
    start, split = time.process_time(), parts(seed)
    x = split.train_x[:LABELLED]
    if kind == "labels":
        return Shown(x, F.one_hot(split.train_y[:LABELLED], split.classes).float(), 0.0)
    x = made(kind, copies, seed, swap_probability=swap_probability, local_variance=local_variance)
    targets = said(seed, x)
    return Shown(x, targets, time.process_time() - start)


def taught(examples: Shown, seed: int, *, decay: float) -> nn.Module:
    """A student after ``STEPS`` steps, in eval mode."""
    model = make(MODEL, num_classes=26, shape=(16,), seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, targets = batch
        return {"loss": F.cross_entropy(model(x - 0.5), targets)}

    batches = Batches(examples.x, examples.targets, batch_size=BATCH_SIZE, seed=seed)
    epochs, rest = divmod(STEPS, len(batches))
    if rest:
        raise ValueError(f"{STEPS} steps are no whole number of epochs of {len(batches)} batches")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    fit(step, model, batches, optimizer, epochs=epochs, after_step=scheduler.step, progress=False)
    return model.eval()


def measured(model: nn.Module, seed: int, *, tuning: bool = False) -> dict[str, float]:
    """Accuracy, likelihood, and agreement with the ensemble, on letters that nobody learnt from."""
    split = parts(seed, tuning=tuning)
    logits, theirs = teacher_outputs(model, split.test_x - 0.5), said_of_test(seed, tuning=tuning)
    return {
        "accuracy": (logits.argmax(-1) == split.test_y).double().mean().item(),
        "agreement": (logits.argmax(-1) == theirs.argmax(-1)).double().mean().item(),
        "nll": F.cross_entropy(logits, split.test_y).item(),
        "teacher_accuracy": (theirs.argmax(-1) == split.test_y).double().mean().item(),
    }


def heard(targets: Tensor) -> dict[str, float]:
    """What the ensemble says of the examples: how sure it is, and how many letters it names (exp of the entropy)."""
    named = targets.argmax(-1).bincount(minlength=targets.shape[1]).double() / len(targets)
    entropy = -(named * named.clamp(min=1e-30).log()).sum()
    return {"confidence": targets.amax(-1).double().mean().item(), "classes_named": entropy.exp().item()}
