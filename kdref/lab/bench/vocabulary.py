"""The fused loss of a whole vocabulary against dense and published forms: ``python -m kdref.lab.bench vocabulary``."""

import statistics
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from kdref.lab.bench import peers, timing
from kdref.lab.bench.losses import ANOTHER, OURS
from kdref.lab.bench.peers import Loss
from kdref.language import fused_linear_loss, token_loss

__all__ = ["KINDS", "SHAPES", "THREADS", "dense", "layers", "run", "value_and_gradients"]

THREADS = (1, 2)
SHAPES = ((1024, 512, 32_000), (2048, 256, 128_000))  # tokens, width, words
KINDS: Mapping[str, tuple[str, float | None, float]] = {  # our kind and mix, and others' beta
    "forward KL": ("forward", None, 0.0),
    "Jensen-Shannon, 1/2": ("jensen_shannon", 0.5, 0.5),
}
PRODUCTS = 4  # of matrices, forward and backward: both projections, and the gradients of hidden states and weight
SAMPLE = (32, 16, 100)  # enough to see whether two losses are the same
SHARE = 10  # a slow benchmark: one round in ten
LEGEND = (
    "Forward and backward, float32. A cell is time / peak extra memory, the other's divided by ours: above 1 ours is "
    "faster / smaller. Dense is `token_loss` of projected logits. Extra memory includes the weight's gradient. "
    f"{ANOTHER}: value and gradients are not ours. Targets: against dense at least 1.18 in time, and 20 in memory at "
    "the second shape; against Liger-Kernel at least 1 in both."
)


def layers(tokens: int, width: int, words: int, *, teacher_width: int | None = None) -> tuple[Tensor, ...]:
    """A student's hidden states and output weight, and a teacher's; logits have a standard deviation of about 2."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for size in (width, width if teacher_width is None else teacher_width):
        made += [torch.randn(tokens, size, generator=generator)]
        made += [torch.randn(words, size, generator=generator) * 2 / size**0.5]
    return tuple(made)


def dense(
    student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor, *, kind: str, mix: float | None
) -> Tensor:
    """All logits of both, and then the loss."""
    with torch.no_grad():
        targets = teacher @ teacher_weight.T
    return token_loss(student @ weight.T, targets, kind=kind, mix=mix)


def value_and_gradients(loss: Loss, student: Tensor, weight: Tensor, *teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Forward and backward: the loss, and its gradients with respect to hidden states and weight."""
    leaves = student.detach().requires_grad_(), weight.detach().requires_grad_()
    value = loss(*leaves, *teacher)
    value.backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is not None
    return value.detach(), leaves[0].grad, leaves[1].grad


def run(repeats: int) -> str:
    """Measure each kind at each shape; return what was skipped, the legend, the table, and the machine's rates."""
    missing: dict[str, str] = {}
    machine = timing.multiplication_rate()
    measured = []
    for shape in SHAPES:
        inputs = layers(*shape)
        for name, (kind, mix, beta) in KINDS.items():
            losses: dict[str, Loss] = {
                OURS: partial(fused_linear_loss, kind=kind, mix=mix),
                "dense": partial(dense, kind=kind, mix=mix),
                **peers.present({"liger": partial(peers.liger, beta), "trl": partial(peers.trl, beta)}, missing),
            }
            measured.append({"loss": name, "(N, H, V)": str(shape)})
            measured[-1] |= _measure(losses, inputs, max(1, repeats // SHARE), machine)
    columns = list(dict.fromkeys(column for cells in measured for column in cells))
    table = [[cells.get(column, "-") for column in columns] for cells in measured]
    return "\n".join([*peers.skipped(missing), f"{LEGEND}\n", timing.markdown(columns, table), "", timing.rates()])


def _measure(losses: Mapping[str, Loss], inputs: tuple[Tensor, ...], repeats: int, machine: float) -> dict[str, str]:
    """The cells of one line: our seconds, megabytes and rate of multiplication, and the others' ratios."""
    functions = {name: partial(value_and_gradients, loss, *inputs) for name, loss in losses.items()}
    seconds = timing.interleaved(functions, repeats=repeats)
    memory = {name: timing.peak_extra_memory(function) for name, function in functions.items()}
    median = statistics.median(seconds[OURS])
    small = {name: value_and_gradients(loss, *layers(*SAMPLE)) for name, loss in losses.items()}
    rate = PRODUCTS * 2 * len(inputs[0]) * inputs[1].numel() / median / 1e9
    cells = {
        "ours, s": f"{median:.2f}",
        "ours, MB": f"{memory[OURS] / 1e6:.0f}",
        "ours, GFLOP/s (of the machine's)": f"{rate:.0f} ({rate / machine:.0%})",
    }
    for name in list(losses)[1:]:
        ratios = f"{timing.ratio(seconds, name, OURS):.2f} / {memory[name] / memory[OURS]:.1f}"
        cells[name] = ratios if _is_ours(small[name], small[OURS]) else f"{ratios} {ANOTHER}"
    return cells


def _is_ours(other: tuple[Tensor, ...], ours: tuple[Tensor, ...]) -> bool:
    """Whether value and gradients agree to a thousandth of their size."""
    return all(bool((a - b).norm() <= 1e-3 * b.norm()) for a, b in zip(other, ours, strict=True))
