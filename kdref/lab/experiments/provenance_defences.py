"""What a service may keep back of its probabilities, and what it costs honest users and copiers. On MNIST-1D.

A teacher has learnt from many labelled signals. Its copier has signals without labels, and what the service tells of
them. The honest user reads the same as probabilities. Told are all decimals, one, the answers alone, or noise; a copier
may ask a noisy service again. Lesson: notebooks/16_provenance.ipynb.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.fidelity import expected_calibration_error
from kdref.lab.data import mnist1d_fresh
from kdref.lab.experiments._fidelity import learn
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs

NET = "mlp-100x100"  # of the teacher and of the copier
OWNED, OWNED_STEPS = 20_000, 1000  # labelled signals of the service
QUERIES, STEPS = 2000, 400  # signals of the copier
NOISE, TIMES = 2.0, 8  # deviation of what is added to each log-probability; how often a copier asks again
HELD = 2000  # labelled signals on which the honest user learns how far to trust what is told
DOUBTS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ARMS = (
    "labels",
    "probabilities",
    "one decimal",
    "answers",
    "noised",
    "noised, asked 8 times",
)


@functools.lru_cache(maxsize=1)
def service(seed: int) -> nn.Module:
    """The teacher."""
    x, y = mnist1d_fresh(OWNED, seed=40_000 + seed)
    return learn(make(NET, seed=seed), x, y, seed=seed, steps=OWNED_STEPS).requires_grad_(False)


def told(seed: int, arm: str, x: Tensor, *, part: int) -> Tensor:
    """What the service tells of signals, as probabilities ``(N, C)``."""
    log_p = teacher_outputs(service(seed), x).log_softmax(-1)
    if arm == "answers":
        return F.one_hot(log_p.argmax(-1), log_p.shape[-1]).float()
    if arm == "one decimal":
        return _shares((log_p.exp() * 10).round())
    if arm.startswith("noised"):
        times = TIMES if arm.endswith("times") else 1
        generator = torch.Generator().manual_seed(50_000 + 10 * seed + part)
        noise = torch.randn(times, *log_p.shape, generator=generator)
        answers = (log_p + NOISE * noise).log_softmax(-1)
        return answers.mean(0).softmax(-1)
    return log_p.exp()


def _shares(parts: Tensor) -> Tensor:
    """Make rows sum to 1; where nothing is left, all are equal."""
    total = parts.sum(-1, keepdim=True)
    return torch.where(total > 0, parts / total.clamp(min=1), torch.full_like(parts, 1 / parts.shape[-1]))


def honest(read: Tensor, y: Tensor, held: Tensor, held_y: Tensor) -> dict[str, float]:
    """What is told is worth to a user who mixes it with as much doubt as was best on labelled signals."""

    def doubted(p: Tensor, doubt: float) -> Tensor:
        return (1 - doubt) * p + doubt / p.shape[-1]

    def nll(p: Tensor, labels: Tensor) -> float:
        return F.nll_loss(p.log(), labels).item()

    doubt = min(DOUBTS, key=lambda share: nll(doubted(held, share), held_y))
    believed = doubted(read, doubt)
    return {
        "user_accuracy": (read.argmax(-1) == y).double().mean().item(),
        "user_nll": nll(believed, y),
        "user_calibration": expected_calibration_error(believed, y).item(),
        "doubt": doubt,
    }


def run(seed: int, arm: str) -> dict[str, float]:
    x, y = mnist1d_fresh(QUERIES, seed=60_000 + seed)
    said = y if arm == "labels" else told(seed, arm, x, part=0).clamp(min=1e-6).log()
    copier = learn(make(NET, seed=100_000 + seed), x, said, seed=seed, steps=STEPS)
    test, test_y = mnist1d_fresh(10_000, seed=70_000 + seed)
    held, held_y = mnist1d_fresh(HELD, seed=80_000 + seed)
    choice, real = (teacher_outputs(net, test).argmax(-1) for net in (copier, service(seed)))
    found = {
        "accuracy": (choice == test_y).double().mean().item(),
        "agreement": (choice == real).double().mean().item(),
    }
    if arm == "labels":
        return found
    return found | honest(told(seed, arm, test, part=1), test_y, told(seed, arm, held, part=2), held_y)
