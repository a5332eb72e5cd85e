"""What the live experiment of lesson 05 needs beside its step: the teacher's term by name, its pull, one training.

Lesson: notebooks/05_relation_based.ipynb.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.seeds import replicate
from kdref.relation import ContrastiveMemory, crd_loss, info_nce_loss
from kdref.soft_targets import soft_target_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def helpers_for(images: int, *, seed: int) -> tuple[nn.Linear, ContrastiveMemory]:
    """A head for InfoNCE and a memory for CRD, from 32 to 300 features."""
    torch.manual_seed(seed)
    return nn.Linear(32, 300), ContrastiveMemory(32, 300, num_examples=images)


def teacher_term(
    name: str, own: Sequence[Tensor], told: Sequence[Tensor], helpers: Sequence[Any], relations: Mapping[str, Loss]
) -> Tensor:
    """The loss against the teacher: of the student's logits and features, and what the teacher says of the images."""
    (z, h), (t_h, t_z, numbers), (head, memory) = own, told, helpers
    if name in relations:  # the five of section 4
        return relations[name](h, t_h)
    if name == "soft targets":
        return soft_target_loss(z, t_z, temperature=4.0)
    if name == "InfoNCE":
        return info_nce_loss(head(h), t_h, temperature=0.1)
    s, t = memory(h, t_h)
    return crd_loss(s, t, numbers, memory.draw(256), memory)


def both_terms(
    name: str,
    student: Any,  # a network with features and a classifier
    few: Tensor,
    y: Tensor,
    batch: Sequence[Tensor],
    *,
    helpers: Sequence[Any],
    relations: Mapping[str, Loss],
) -> tuple[Tensor, Tensor, Tensor]:
    """The labels' cross-entropy, the teacher's term on a batch of images, and the student's features of these."""
    h = student.features(torch.cat([few, batch[0]]).flatten(1))
    z, count = student.classifier(h), len(few)
    own = z[count:], h[count:]
    return F.cross_entropy(z[:count], y), teacher_term(name, own, batch[1:], helpers, relations), h[count:]


def pull(loss: Tensor, weights: Tensor) -> float:
    """How hard a loss pulls at some weights: the length of its gradient."""
    return float(torch.autograd.grad(loss, weights, retain_graph=True)[0].norm())


def learn(
    step: Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]],
    student: nn.Module,
    helpers: Sequence[nn.Module],
    images: Sequence[Tensor],
    *,
    seed: int,
    decay: float,
) -> None:
    """Five times through the images, batches of 50, Adam; the helpers learn too."""
    batches, trained = Batches(*images, batch_size=50, seed=seed), nn.ModuleList([student, *helpers])
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.01, weight_decay=decay)
    fit(step, student, batches, optimizer, epochs=5, progress=False)


def share_right(student: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((teacher_outputs(student, x).argmax(-1) == y).double().mean())


def tune(
    run: Callable[[int, str], Mapping[str, Any]],
    plans: Mapping[str, tuple[str, float, int]],
    count: int,
    names: Collection[str],
    *,
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Mean accuracy and weight of each setting of the named losses, with so many labels."""
    arms = [arm for arm, (name, _, labels) in plans.items() if name in names and labels == count]
    tuning = replicate(run, arms=arms, seeds=seeds)
    return tuning.groupby(["loss", "setting"], sort=False)[["accuracy", "weight"]].mean()
