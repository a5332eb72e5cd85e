"""What the experiments on fidelity share: MNIST-1D with as many fresh signals as wanted, one way to learn, measures.

Teacher and student are the same network, so the student could be its copy. It has no BatchNorm: its weights are all
there is to it, and a point between two of them is well defined. Settings were chosen with seeds and fresh signals that
are used nowhere else. Lesson: notebooks/15_fidelity.ipynb.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.fidelity import error_consistency, expected_calibration_error, top1_agreement, wrong_answer_agreement
from kdref.lab.data import mnist1d, mnist1d_fresh
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.soft_targets import soft_target_loss

NET = "mlp-100x100"  # teacher and student
STEPS, BATCH_SIZE, LEARNING_RATE = 400, 200, 0.02  # twenty times through the training set
TEST, MOST = 10_000, 64  # signals to measure on; most fresh ones, in sizes of the training set
FRESH_SEED, TEST_SEED = 15, 16


class Parts(NamedTuple):
    """The canonical training set, and fresh signals that nobody learns from."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@functools.lru_cache(maxsize=1)
def parts() -> Parts:
    split = mnist1d(validation=0)
    return Parts(split.train_x, split.train_y, *mnist1d_fresh(TEST, seed=TEST_SEED))


@functools.lru_cache(maxsize=1)
def pool() -> tuple[Tensor, Tensor]:
    return mnist1d_fresh(MOST * len(parts().train_x), seed=FRESH_SEED)


def fresh(times: int) -> tuple[Tensor, Tensor]:
    """New signals and their labels, so many times the training set; the larger sets hold the smaller ones."""
    x, y = pool()
    count = times * len(parts().train_x)
    return x[:count], y[:count]


def batches(*tensors: Tensor, seed: int, size: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches without end."""
    again = itertools.repeat(Batches(*tensors, batch_size=size, seed=seed, drop_last=True))
    return itertools.chain.from_iterable(again)


def learn(
    model: nn.Module,
    x: Tensor,
    said: Tensor,
    *,
    seed: int,
    steps: int = STEPS,
    temperature: float = 1.0,
    rate: float = LEARNING_RATE,
    size: int = BATCH_SIZE,
    anew: Callable[[Tensor], Tensor] | None = None,
) -> nn.Module:
    """Take so many steps on what is said of the inputs: labels, or a teacher's logits and then nothing else.

    ``anew`` changes what is said, in every step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for inputs, targets in itertools.islice(batches(x, said, seed=seed, size=size), steps):
        logits, targets = model(inputs), targets if anew is None else anew(targets)
        if targets.is_floating_point():
            loss = soft_target_loss(logits, targets, temperature=temperature)
        else:
            loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()


@functools.lru_cache(maxsize=4)
def teacher(seed: int) -> nn.Module:
    """Trained on the labels of the training set, frozen."""
    known = parts()
    return learn(make(NET, seed=seed), known.train_x, known.train_y, seed=seed).requires_grad_(False)


def first_weights(seed: int) -> nn.Module:
    """Every student of a seed starts here, unless its start is what is tried."""
    return make(NET, seed=100 + seed)


@torch.no_grad()
def between(model: nn.Module, other: nn.Module, share: float) -> nn.Module:
    """Move ``other`` to share · model + (1 - share) · other: Stanton et al.'s start between teacher and new weights."""
    for own, wanted in zip(other.parameters(), model.parameters(), strict=True):
        own.lerp_(wanted, share)
    return other


def measures(student: nn.Module, model: nn.Module) -> dict[str, float]:
    """How right a student is, and how like its teacher, on signals that nobody learnt from and on the training set."""
    known = parts()
    s, t, y = teacher_outputs(student, known.test_x), teacher_outputs(model, known.test_x), known.test_y
    s_train, t_train = (teacher_outputs(net, known.train_x) for net in (student, model))
    found = {
        "accuracy": (s.argmax(-1) == y).double().mean(),
        "teacher_accuracy": (t.argmax(-1) == y).double().mean(),
        "training_accuracy": (s_train.argmax(-1) == known.train_y).double().mean(),
        "agreement": top1_agreement(s, t).mean(),
        "training_agreement": top1_agreement(s_train, t_train).mean(),
        "predictive_kl": soft_target_loss(s, t, temperature=1.0),
        "error_consistency": error_consistency(s, t, y),
        "wrong_answer_agreement": wrong_answer_agreement(s, t, y),
        "calibration_to_labels": expected_calibration_error(s.softmax(-1), y),
        "calibration_to_teacher": expected_calibration_error(s.softmax(-1), t.argmax(-1)),
        "confidence": s.softmax(-1).amax(-1).mean(),
    }
    return {name: float(value) for name, value in found.items()}
