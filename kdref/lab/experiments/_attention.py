"""What the experiments of lesson 04 share: 200 labelled digits, teachers that know 1,000, and one way to train.

Within a seed every student has the same images, first weights, data order, optimiser and schedule; only its loss
differs. Lesson: notebooks/04_attention_based.ipynb.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.attention import (
    attention_relation_divergence,
    attention_score_loss,
    attention_transfer_loss,
    value_relation,
)
from kdref.lab.data import digits
from kdref.lab.models import make
from kdref.lab.models.row_transformer import RowTransformer
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.taps import Taps, taps
from kdref.soft_targets import distillation_loss

LABELS, BATCH_SIZE = 200, 50
EPOCHS = 80  # labels alone have then fitted what they have
LAYERS = tuple(f"features.relu{number}" for number in (1, 2, 3))
Shown = Mapping[str, Tensor]  # what a network shows of a batch, by name


class Settings(NamedTuple):
    """What is tuned."""

    soft: float = 0.0  # the temperature of soft targets; 0: labels alone
    weight: float = 0.0  # of the term from inside the network
    decay: float = 0.0  # weight decay


def map_terms(own: Shown, theirs: Shown, y: Tensor, *, soft: float, weight: float) -> dict[str, Tensor]:
    """Labels or soft targets outside, attention maps of three layers inside."""
    transfer = sum((attention_transfer_loss(own[name], theirs[name]) for name in LAYERS), torch.zeros(()))
    return {"loss": outside(own, theirs, y, soft=soft) + weight * transfer, "transfer": transfer}


def relation_terms(own: Shown, theirs: Shown, y: Tensor, *, soft: float, weight: float) -> dict[str, Tensor]:
    """MiniLM: the divergence of attention, and that of value relations."""
    attention = attention_relation_divergence(own["attention"], theirs["attention"]).mean()
    values = attention_relation_divergence(*(value_relation(side["values"]) for side in (own, theirs))).mean()
    return {"loss": outside(own, theirs, y, soft=soft) + weight * (attention + values)}


def score_terms(own: Shown, theirs: Shown, y: Tensor, *, soft: float, weight: float) -> dict[str, Tensor]:
    """TinyBERT's loss on attention: the squared error of scores before the softmax."""
    scores = attention_score_loss(own["scores"], theirs["scores"])
    return {"loss": outside(own, theirs, y, soft=soft) + weight * scores}


def plain_terms(own: Shown, theirs: Shown, y: Tensor, *, soft: float, weight: float) -> dict[str, Tensor]:
    """Nothing from inside the network."""
    return {"loss": outside(own, theirs, y, soft=soft)}


def outside(own: Shown, theirs: Shown, y: Tensor, *, soft: float) -> Tensor:
    """Cross-entropy, or with a temperature ``soft`` above 0 lesson 01's loss at soft weight 0.9."""
    if not soft:
        return F.cross_entropy(own["logits"], y)
    return distillation_loss(own["logits"], theirs["logits"], y, soft_weight=0.9, temperature=soft)


class Network(nn.Module):
    """A convolutional network that shows three layers and its logits by name."""

    def __init__(self, channels: int, *, seed: int) -> None:
        super().__init__()
        self.inner = make(f"cnn2d-{channels}", shape=(1, 8, 8), seed=seed)
        self.tapped: Taps = taps(self.inner, [*LAYERS, "classifier"])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.tapped(x)
        return {**{name: found[name] for name in LAYERS}, "logits": found["classifier"]}


def network(kind: str, role: str, seed: int) -> nn.Module:
    """A teacher or a student, of convolutions ("maps") or of self-attention ("tokens")."""
    if kind == "maps":
        return Network(16, seed=seed) if role == "teacher" else Network(4, seed=100 + seed)
    return RowTransformer((1, 8, 8), width=32 if role == "teacher" else 8, heads=4, seed=seed)


@functools.lru_cache(maxsize=4)
def teacher(kind: str, seed: int) -> nn.Module:
    """A teacher that learned from 1,000 labels, the same object for every arm of a seed."""
    split, model = digits(seed), network(kind, "teacher", seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(model(batch[0])["logits"], batch[1])}

    batches = Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, fused=True)
    fit(step, model, batches, optimizer, epochs=20, progress=False)
    return model.eval()


def taught(
    kind: str,
    terms: Callable[..., Mapping[str, Tensor]],
    settings: Settings,
    *,
    seed: int,
    longer: int = 1,
) -> nn.Module:
    """Train a student on 200 labels by a loss; the teacher's part is computed once."""
    split, student = digits(seed), network(kind, "student", seed)
    x, y = split.train_x[:LABELS], split.train_y[:LABELS]
    epochs, guide, (soft, weight, decay) = longer * EPOCHS, teacher(kind, seed), settings
    with torch.no_grad():
        theirs = guide(x)

    def step(batch: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        inputs, labels, *told = batch
        return terms(student(inputs), dict(zip(theirs, told, strict=True)), labels, soft=soft, weight=weight)

    batches = Batches(x, y, *theirs.values(), batch_size=BATCH_SIZE, seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-2, weight_decay=decay, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    fit(step, student, batches, optimizer, epochs=epochs, scheduler=scheduler, progress=False)
    return student.eval()


def measured(kind: str, student: nn.Module, *, seed: int, validation: bool = False) -> dict[str, float]:
    """Accuracies at the last epoch, and how far the student's attention on unseen images is from the teacher's."""
    split = digits(seed)
    x, y = (split.validation_x, split.validation_y) if validation else (split.test_x, split.test_y)
    guide = teacher(kind, seed)
    with torch.no_grad():
        own, learned, theirs = student(x), student(split.train_x[:LABELS]), guide(x)
    result = {"accuracy": share(own, y), "training_accuracy": share(learned, split.train_y)}
    result["agreement"] = share(own, theirs["logits"].argmax(-1))
    result["nll"] = F.cross_entropy(own["logits"], y).item()
    if kind == "maps":
        result["distance"] = mean(attention_transfer_loss(own[k], theirs[k], squared=False) for k in LAYERS)
    else:
        result["divergence"] = mean([attention_relation_divergence(own["attention"], theirs["attention"]).mean()])
    return result


def share(shown: Shown, labels: Tensor) -> float:
    """How often the largest logit is the label's."""
    choice = shown["logits"].argmax(-1)
    return (choice == labels[: len(choice)]).double().mean().item()


def mean(values: Iterable[Tensor]) -> float:
    """Mean of scalars."""
    return torch.stack(list(values)).mean().item()
