"""What the experiments of lesson 08 share: wrong labels, partners of the same class, two views, and one way to train.

A network learns 1,000 digits whose labels are wrong in a share of cases. Within a seed all networks that are compared
have the same split, wrong labels, first weights, data order, optimiser and epochs; what taught them began elsewhere.
Each method has one hyper-parameter at most. Lesson: notebooks/08_self_distillation.ipynb.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import Split, digits
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.response import virtual_teacher_logits
from kdref.self_distillation import (
    EmaTeacher,
    class_consistency_loss,
    confidence_weighted_loss,
    mutual_learning_loss,
    permuted_dark_knowledge,
    progressive_targets,
)
from kdref.soft_targets import soft_target_loss

NET, EPOCHS, BATCH, RATE = "mlp-100", 20, 100, 0.01
SHARES = {"right labels": 0.0, "5 % wrong": 0.05, "30 % wrong": 0.3}
ELSEWHERE = 10_000  # between the seeds of first weights of networks that are trained for one answer


class Seen(NamedTuple):
    """What a loss may look at, for a batch."""

    out: Tensor  # (B, 10), the network's logits
    y: Tensor  # (B,), its labels, right or wrong
    teacher: Tensor  # (B, 10), logits of the last generation
    own: Tensor  # (B, 10), the network's logits an epoch ago
    progress: float  # share of the epochs gone by at the end of this one; 0 in the first


class Method(NamedTuple):
    """A loss, and the hyper-parameter of it that is tuned."""

    tuned: str
    settings: tuple[float, ...]  # from weak to strong
    loss: Callable[[Seen, float], Tensor]


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged."""

    def __init__(self, nets: list[nn.Module]) -> None:
        """Keep them."""
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        """The average of their probabilities, as logits."""
        return torch.stack([net(x).log_softmax(-1) for net in self.nets]).logsumexp(0)  # but for a constant


TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)
METHODS = {
    "label smoothing": Method(
        "smoothing",
        (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9),
        lambda s, a: F.cross_entropy(s.out, s.y, label_smoothing=a),
    ),
    "virtual teacher": Method(
        "confidence",
        (0.999, 0.99, 0.95, 0.9, 0.7, 0.5, 0.3),
        lambda s, a: soft_target_loss(s.out, virtual_teacher_logits(s.y, num_classes=10, confidence=a)),
    ),
    "class mates": Method(
        "weight",
        (0.1, 0.3, 1.0, 3.0, 10.0),
        lambda s, a: F.cross_entropy(s.out, s.y) + a * class_consistency_loss(s.out, s.out[mates(s.y)]),
    ),
    "progressive": Method(
        "last weight",
        (0.2, 0.4, 0.6, 0.8, 0.9, 1.0),
        lambda s, a: F.cross_entropy(s.out, progressive_targets(s.own, s.y, weight=a * s.progress)),
    ),
    "born again": Method("temperature", TEMPERATURES, lambda s, a: soft_target_loss(s.out, s.teacher, temperature=a)),
    "shuffled": Method(
        "temperature",
        TEMPERATURES,
        lambda s, a: soft_target_loss(s.out, permuted_dark_knowledge(s.teacher), temperature=a),
    ),
    "weight decay": Method("decay", (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), lambda s, a: F.cross_entropy(s.out, s.y)),
    "averaged weights": Method("decay", (0.9, 0.95, 0.98, 0.99, 0.995), lambda s, a: F.cross_entropy(s.out, s.y)),
}
LABELS = Method("nothing", (0.0,), lambda s, a: F.cross_entropy(s.out, s.y))
CONFIDENCE = Method("nothing", (0.0,), lambda s, a: confidence_weighted_loss(s.out, s.teacher, s.y))


def mates(y: Tensor) -> Tensor:
    """For each example another of its class in the batch; itself, where there is no other."""
    same = (y[:, None] == y).float()
    others = same - torch.eye(len(y))
    return torch.where(others.sum(1, keepdim=True) > 0, others, same).multinomial(1)[:, 0]


def two_views(images: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The images (B, C, H, W) moved by at most a pixel and noised, twice."""
    moves = torch.randint(-1, 2, (2, 2), generator=generator).tolist()
    return [images.roll(move, (2, 3)) + 0.3 * torch.randn(images.shape, generator=generator) for move in moves]


@functools.lru_cache(maxsize=8)
def labelled(seed: int, share: float) -> tuple[Split, Tensor]:
    """A split of the digits, and its training labels, each of them another class with this probability."""
    split, generator = digits(seed), torch.Generator().manual_seed(seed)
    other = (split.train_y + torch.randint(1, 10, split.train_y.shape, generator=generator)) % 10
    return split, torch.where(torch.rand(len(other), generator=generator) < share, other, split.train_y)


def trained(
    method: Method,
    setting: float,
    *,
    seed: int,
    share: float,
    teacher: Tensor | None = None,
    start: int = 0,
    epochs: int = EPOCHS,
    after_epoch: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A network trained with a method; of averaged weights, the average. ``start`` picks other first weights."""
    split, labels = labelled(seed, share)
    net, own, gone = make(NET, shape=split.shape, seed=seed + ELSEWHERE * start), torch.zeros(len(labels), 10), [0]
    average = EmaTeacher(net, decay=setting) if method is METHODS["averaged weights"] else None

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, said, index = batch
        progress = (gone[0] + 1) / epochs if gone[0] else 0.0
        seen = Seen(net(x), y, said, own[index], progress)
        loss = method.loss(seen, setting)
        own[index] = seen.out.detach()  # stored by index: the next epoch has another order
        return {"loss": loss}

    def after(epoch: int) -> None:
        gone[0] = epoch
        if after_epoch is not None:
            after_epoch(net)

    torch.manual_seed(seed)  # of partners and permutations
    said = torch.zeros(len(labels), 10) if teacher is None else teacher
    batches = Batches(split.train_x, labels, said, torch.arange(len(labels)), batch_size=BATCH, seed=seed)
    decay = setting if method is METHODS["weight decay"] else 0.0
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=decay, fused=True)
    update = None if average is None else lambda: average.update(net)
    fit(step, net, batches, optimizer, epochs=epochs, after_step=update, after_epoch=after, progress=False)
    return net if average is None else average.module


@functools.lru_cache(maxsize=32)
def first_network(seed: int, share: float, start: int) -> nn.Module:
    """Trained on the labels alone, from other first weights for each ``start``."""
    return trained(LABELS, 0.0, seed=seed, share=share, start=start)


def born_again(setting: float, *, seed: int, share: float, generations: int) -> nn.Module:
    """The last of some generations after the first, each from its own first weights and taught by the one before."""
    net = first_network(seed, share, generations)
    for start in range(generations - 1, -1, -1):
        teacher = teacher_outputs(net, labelled(seed, share)[0].train_x)
        net = trained(METHODS["born again"], setting, seed=seed, share=share, teacher=teacher, start=start)
    return net


def stopped_early(*, seed: int, share: float) -> nn.Module:
    """The network on labels after the epoch that is best on validation images, whose labels are right."""
    split, found = labelled(seed, share)[0], [-1.0]
    best: dict[str, Tensor] = {}

    def look(net: nn.Module) -> None:
        found.append((teacher_outputs(net, split.validation_x).argmax(-1) == split.validation_y).sum().item())
        if found[-1] > max(found[:-1]):
            best.update({name: value.clone() for name, value in net.state_dict().items()})

    net = trained(LABELS, 0.0, seed=seed, share=share, after_epoch=look)
    net.load_state_dict(net.state_dict() | best)
    return net


def peers(count: int, *, seed: int, share: float) -> nn.ModuleList:
    """Networks that learn from the labels and from one another (DML)."""
    split, labels = labelled(seed, share)
    nets = nn.ModuleList(make(NET, shape=split.shape, seed=seed + ELSEWHERE * k) for k in range(count))

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        out = torch.stack([net(batch[0]) for net in nets])
        losses = [F.cross_entropy(own, batch[1]) for own in out]
        losses += [mutual_learning_loss(out[k], torch.cat([out[:k], out[k + 1 :]])) for k in range(count)]
        return {"loss": torch.stack(losses).sum()}

    batches = Batches(split.train_x, labels, batch_size=BATCH, seed=seed)
    fit(step, nets, batches, torch.optim.Adam(nets.parameters(), lr=RATE, fused=True), epochs=EPOCHS, progress=False)
    return nets
