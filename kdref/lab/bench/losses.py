"""Each loss, forward and backward, against its plain form and published packages: ``python -m kdref.lab.bench losses``.

A new loss is one more ``Row`` in ``ROWS``, or in ``inside.ROWS`` if it is not on logits.
"""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from kdref.lab.bench import inside, peers, plain_losses, timing
from kdref.lab.bench.peers import Loss
from kdref.lab.bench.row import Row
from kdref.response import (
    LearnableTemperature,
    dist_loss,
    dkd_loss,
    hard_label_loss,
    label_smoothing_loss,
    logit_matching_loss,
    nkd_loss,
    standardized_kd_loss,
    virtual_teacher_logits,
)
from kdref.soft_targets import distillation_loss, soft_target_loss

__all__ = ["ROWS", "THREADS", "Row", "labelled_logits", "logits", "run", "student_and_labels", "value_and_gradient"]

THREADS = (1, 2)
LOGITS = ((256, 1000), (64, 21843))  # a batch of ImageNet-1k and one of ImageNet-21k
OUTPUTS = ("", "output", "", "output")  # where torchdistill's losses on logits find them
ANOTHER = "†"
OURS, PLAIN = "ours", "plain form"
LEGEND = (
    "Forward and backward, float32. A cell is time / peak extra memory, the other's divided by ours: above 1 ours is "
    f"faster / smaller. {ANOTHER}: value and gradient are not those of ours times a constant."
)


def logits(batch: int, classes: int) -> tuple[Tensor, ...]:
    """A student's and a teacher's logits; the teacher's are not centred, as a network's seldom are."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2.0 * torch.randn(batch, classes, generator=generator) for _ in range(2))
    return student, teacher + 1.0


def labelled_logits(batch: int, classes: int) -> tuple[Tensor, ...]:
    """A student's and a teacher's logits, and labels."""
    labels = torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(1))
    return *logits(batch, classes), labels


def student_and_labels(batch: int, classes: int) -> tuple[Tensor, ...]:
    """A student's logits and labels."""
    student, _, labels = labelled_logits(batch, classes)
    return student, labels


def learnable(student: Tensor, teacher: Tensor) -> Tensor:
    """Soft targets at a temperature that is learned against the student: its gradient is computed too."""
    return soft_target_loss(student, teacher, temperature=LearnableTemperature()())


def virtual_teacher(student: Tensor, labels: Tensor) -> Tensor:
    """Soft targets of a teacher that is always right and always equally sure."""
    return soft_target_loss(student, virtual_teacher_logits(labels, num_classes=student.shape[1]))


ROWS = (
    Row(
        "soft targets",
        soft_target_loss,
        plain_losses.soft_targets,
        logits,
        LOGITS,
        others={
            "torchdistill": partial(peers.torchdistill, "KDLoss", *OUTPUTS, temperature=4.0, alpha=0.0),
            "mmrazor": partial(peers.mmrazor, "kl_divergence", "KLDivergence", tau=4.0),
            "textbrewer": partial(peers.textbrewer, "kd_ce_loss", temperature=4.0),
        },
    ),
    Row(
        "distillation",
        distillation_loss,
        plain_losses.distillation,
        labelled_logits,
        LOGITS,
        others={"torchdistill": partial(peers.torchdistill, "KDLoss", *OUTPUTS, temperature=4.0, alpha=0.1)},
    ),
    Row(
        "logit matching",
        logit_matching_loss,
        plain_losses.logit_matching,
        logits,
        LOGITS,
        others={"textbrewer": partial(peers.textbrewer, "kd_mse_loss")},
    ),
    Row("hard labels", hard_label_loss, plain_losses.hard_label, logits, LOGITS),
    Row(
        "decoupled (DKD)",
        dkd_loss,
        plain_losses.decoupled,
        labelled_logits,
        LOGITS,
        others={"mmrazor": partial(peers.mmrazor, "decoupled_kd", "DKDLoss", tau=4.0, beta=8.0)},
        target="at least 1.2 / 0.8",
    ),
    Row("normalised (NKD)", nkd_loss, plain_losses.normalized, labelled_logits, LOGITS),
    Row(
        "DIST",
        dist_loss,
        plain_losses.stronger_teacher,
        logits,
        LOGITS,
        others={
            "torchdistill": partial(peers.torchdistill, "DISTLoss", *OUTPUTS),
            "mmrazor": partial(peers.mmrazor, "dist_loss", "DISTLoss"),
        },
        target="at least 0.9 / 0.7",
    ),
    Row(
        "standardised logits",
        standardized_kd_loss,
        plain_losses.standardized,
        logits,
        LOGITS,
        others={"torchdistill": partial(peers.torchdistill, "LogitStdKDLoss", *OUTPUTS, temperature=2.0, alpha=0.0)},
    ),
    Row(
        "label smoothing",
        label_smoothing_loss,
        plain_losses.label_smoothing,
        student_and_labels,
        LOGITS,
        others={"timm": partial(peers.timm, "LabelSmoothingCrossEntropy", smoothing=0.1)},
    ),
    Row("virtual teacher", virtual_teacher, plain_losses.virtual_teacher, student_and_labels, LOGITS),
    Row("learnable temperature", learnable, plain_losses.learnable_temperature, logits, LOGITS),
)


def run(repeats: int, rows: Sequence[Row] = (*ROWS, *inside.ROWS)) -> str:
    """Measure every row at each of its sizes; return what was skipped, the legend, the table, and rates."""
    missing: dict[str, str] = {}
    measured = []
    for row in rows:
        losses = {OURS: row.ours, PLAIN: row.plain, **peers.present(row.others, missing)}
        for size in row.sizes:
            shape = f"({', '.join(map(str, size))})"
            measured.append({"loss": row.loss, "shape": shape, "target": row.target})
            measured[-1] |= _measure(losses, row.inputs(*size), max(1, repeats // row.share))
    columns = [name for name in dict.fromkeys(name for cells in measured for name in cells) if name != "target"]
    table = [[cells.get(name, "-") for name in [*columns, "target"]] for cells in measured]
    return "\n".join(
        [*peers.skipped(missing), f"{LEGEND}\n", timing.markdown([*columns, "target"], table), "", timing.rates()]
    )


def value_and_gradient(loss: Loss, student: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward: the loss, and its gradient with respect to the student."""
    leaf = student.detach().requires_grad_()
    value = loss(leaf, *rest)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def _measure(losses: Mapping[str, Loss], inputs: tuple[Tensor, ...], repeats: int) -> dict[str, str]:
    """The cells of one line: our milliseconds and megabytes, and the others' ratios."""
    functions = {name: partial(value_and_gradient, loss, *inputs) for name, loss in losses.items()}
    seconds = timing.interleaved(functions, repeats=repeats)
    memory = {name: timing.peak_extra_memory(function) for name, function in functions.items()}
    milliseconds, ours = statistics.median(seconds[OURS]) * 1000, functions[OURS]()
    cells = {"ours, ms": f"{milliseconds:.2f}", "ours, MB": f"{memory[OURS] / 1e6:.1f}"}
    for name in list(losses)[1:]:
        ratios = f"{timing.ratio(seconds, name, OURS):.2f} / {memory[name] / memory[OURS]:.2f}"
        cells[name] = ratios if _is_multiple(functions[name](), ours) else f"{ratios} {ANOTHER}"
    return cells


def _is_multiple(other: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> bool:
    """Whether value and gradient are the same positive multiple of ours: a factor is convention, not another loss."""
    factor = other[1].norm() / ours[1].norm()
    aligned = torch.cosine_similarity(other[1].flatten(), ours[1].flatten(), dim=0) > 1 - 1e-4
    return bool(aligned and torch.isclose(other[0], factor * ours[0], rtol=1e-2))
