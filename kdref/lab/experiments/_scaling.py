"""What the experiments on scaling laws share: one family of networks on MNIST-1D's fresh signals, each seen once.

Two hidden layers of equal width, no BatchNorm and no weight decay: nothing repeats, so there is nothing to overfit.
Each seed has signals of its own; a smaller set is the beginning of the larger one.
Lesson: notebooks/13_scaling_laws.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.data import mnist1d_fresh
from kdref.lab.experiments import store
from kdref.lab.models import count_parameters, make
from kdref.lab.training.batches import teacher_outputs
from kdref.soft_targets import soft_target_loss

WIDTHS = (5, 9, 17, 32, 60, 105, 175, 290)  # 295 to 99,190 parameters
SIGNALS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
STUDENTS = (5, 17, 60, 175, 290)
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
BATCH_SIZE = 25  # best of 10, 25, 50 and 100 for most sizes and amounts, seldom far from it
TEST, TEST_SEED = 50_000, 13


@functools.lru_cache(maxsize=1)
def test_signals() -> tuple[Tensor, Tensor]:
    return mnist1d_fresh(TEST, seed=TEST_SEED)


@functools.lru_cache(maxsize=2)
def signals(seed: int, most: int = SIGNALS[-1]) -> tuple[Tensor, Tensor]:
    """Of a seed's students, and of networks that learn alone."""
    return mnist1d_fresh(most, seed=13_000_000 + seed)


def net(width: int, *, seed: int) -> nn.Sequential:
    return make(f"mlp-{width}x{width}", seed=seed)


def parameters(width: int) -> int:
    return count_parameters(net(width, seed=0))


def learn(width: int, x: Tensor, said: Tensor, *, rate: float, seed: int) -> nn.Module:
    """See each signal once, with its label or a teacher's logits on it: AdamW along a cosine."""
    model = net(width, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(x) // BATCH_SIZE)
    for inputs, targets in zip(x.split(BATCH_SIZE), said.split(BATCH_SIZE), strict=True):
        logits = model(inputs)
        if targets.is_floating_point():
            loss = soft_target_loss(logits, targets, temperature=1.0)
        else:
            loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval().requires_grad_(False)


def measures(model: nn.Module) -> dict[str, float]:
    """Cross-entropy in nats and accuracy, on signals that nobody learns from."""
    x, y = test_signals()
    logits = teacher_outputs(model, x)
    return {
        "loss": F.cross_entropy(logits.double(), y).item(),
        "accuracy": (logits.argmax(-1) == y).double().mean().item(),
    }


def sweep(width: int, x: Tensor, said: Tensor, *, seed: int) -> dict[str, float]:
    """The loss at each rate, and what the best one reaches."""
    found = {rate: measures(learn(width, x, said, rate=rate, seed=seed)) for rate in RATES}
    best = min(RATES, key=lambda rate: found[rate]["loss"])
    return {**{f"loss at {rate}": found[rate]["loss"] for rate in RATES}, **found[best]}


@functools.cache
def tuned(name: str, width: int, count: int) -> float:
    """The rate that a stored tuning experiment found best for this size and so many signals, over its seeds."""
    runs = store.load(name).query("arm == @arm", local_dict={"arm": f"{width} | {count}"})
    return min(RATES, key=lambda rate: runs[f"loss at {rate}"].mean())
