"""One network of lesson 07's live experiment, and what the arms of its stored experiment were tuned to.

Lesson: notebooks/07_cross_modal.ipynb.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data.smartwatch import Fold, Watch, folds
from kdref.lab.experiments._cross_modal import METHODS
from kdref.lab.experiments.cross_modal_tuning import PAIRS, choices, chosen
from kdref.lab.experiments.store import load
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.soft_targets import soft_target_loss


def terms(student: nn.Module, batch: tuple[Tensor, ...], *, taught: bool) -> Mapping[str, Tensor]:
    """The labelled windows' cross-entropy, and the teacher's soft targets on the others; label -100: nobody knows."""
    inputs, y, theirs = batch
    own, silent = student(inputs), y == -100
    hard = F.cross_entropy(own, y, ignore_index=-100, reduction="sum")
    hard = hard / (~silent).sum().clamp(min=1)  # the last batch may be few windows, all of one kind
    if not taught or not silent.any():
        return {"loss": hard}
    soft = soft_target_loss(own[silent], theirs[silent], temperature=2.0)
    return {"loss": hard + soft, "hard": hard, "soft": soft}


def train(known: Watch, fold: Fold, x: Tensor, said: Tensor | None = None, *, seed: int) -> Tensor:
    """Train on one sensor's spectra of a fold, and answer for every window: logits (N, 7)."""
    rows = known.of(fold.labelled + fold.unlabelled)
    labels = known.y.index_fill(0, known.of(fold.unlabelled), -100)
    student = make("mlp-64", num_classes=7, shape=x.shape[1:], seed=seed)
    theirs = torch.zeros(len(known.y), 7) if said is None else said
    batches = Batches(x[rows], labels[rows], theirs[rows], batch_size=200, seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    def step(batch: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return terms(student, batch, taught=said is not None)

    fit(step, student, batches, optimizer, epochs=60, scheduler=scheduler, progress=False)
    return teacher_outputs(student, x)


def grid(pair: str) -> pd.DataFrame:
    """Accuracy on the people left out for tuning: a row per weight decay, a column per setting of the method."""
    means = load("cross_modal_tuning").groupby("arm")["accuracy"].mean()
    found = {choice: means[f"{pair} | {choice.decay:g} | {choice.setting:g}"] for choice in choices(pair)}
    return pd.Series(found).rename_axis(["weight decay", "setting"]).unstack()


def tuned(seeds: Iterable[int]) -> pd.DataFrame:
    """What was tried for each arm, with the accuracy on the people left out, and what most folds of the runs had.

    Args:
        seeds: Of the reported runs.
    """
    rows = []
    for pair in PAIRS:
        picks = Counter(chosen(pair, fold.test) for seed in seeds for fold in folds(seed))
        decay, setting = picks.most_common(1)[0][0]
        method, accuracy = METHODS.get(pair.split(" | ")[2]), grid(pair)
        rows.append(
            {
                "arm": pair,
                "weight decay: accuracy": _curve(accuracy.max(axis=1)),
                "decay, most often": f"{decay:g}",
                "tuned with it": method.tuned if method else "-",
                "its value: accuracy": _curve(accuracy.max()) if method else "-",
                "value, most often": f"{setting:g}" if method else "-",
            }
        )
    return pd.DataFrame(rows).set_index("arm")


def _curve(accuracy: pd.Series) -> str:
    return ", ".join(f"{value:g}: {100 * share:.1f}" for value, share in accuracy.items())
