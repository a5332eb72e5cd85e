"""The lesson's table: a teacher and students of four sizes as files of three precisions, measured on this machine.

Lesson: notebooks/14_edge.ipynb.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdref.lab import edge
from kdref.lab.experiments._edge import BATCH_SIZE, large, logits, parts
from kdref.lab.models import make
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.soft_targets import distillation_loss

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

WIDTHS = (4, 8, 12, 16)
EPOCHS, LEARNING_RATE, SOFT_WEIGHT, TEMPERATURE = 12, 0.03, 0.5, 2.0
FORMS = {"fp32": 32, "int8": 8, "4 bits": 4}  # bits of the weights
BATCHES = (1, 32)
CALIBRATION = 500  # training signals


def networks(seed: int) -> dict[str, nn.Sequential]:
    """The teacher, and students of each size, alone and distilled, all of one learning rate."""
    found = {"teacher": large(seed)}
    for width in WIDTHS:
        for name, weight in (("alone", 0.0), ("distilled", SOFT_WEIGHT)):
            found[f"{width} channels, {name}"] = student(seed, width, soft_weight=weight)
    return found


def student(seed: int, width: int, *, soft_weight: float) -> nn.Sequential:
    """A narrow network that learnt from labels and, by its weight, from the teacher."""
    known, model = parts(), make(f"cnn1d-{width}", seed=100 + seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, targets = batch
        loss = distillation_loss(model(x), targets, y, soft_weight=soft_weight, temperature=TEMPERATURE)
        return {"loss": loss}

    shown = Batches(known.train_x, known.train_y, logits(seed), batch_size=BATCH_SIZE, seed=seed)
    fit(step, model, shown, optimizer, epochs=EPOCHS, scheduler=scheduler, progress=False)
    return model.eval()


def written(models: Mapping[str, nn.Sequential], folder: Path) -> dict[tuple[str, str], Path]:
    """Three files of each network."""
    known, files = parts(), {}
    for number, (name, model) in enumerate(models.items()):
        plain = edge.to_onnx(model, known.train_x[:2], folder / f"{number}-fp32.onnx")
        files[name, "fp32"] = plain
        for form in ("int8", "4 bits"):
            target = folder / f"{number}-{form}.onnx"
            files[name, form] = edge.quantized(plain, known.train_x[:CALIBRATION], target, bits=FORMS[form])
    return files


def measured(
    models: Mapping[str, nn.Sequential], files: Mapping[tuple[str, str], Path], *, repeats: int = 200
) -> "DataFrame":
    """A row per file: accuracy with its interval, bytes, multiply-adds, milliseconds of one thread."""
    import pandas as pd
    from scipy.stats import binomtest

    known, rows = parts(), []
    for (name, form), path in files.items():
        right = int((edge.answers(path, known.test_x).argmax(-1) == known.test_y).sum())
        between = binomtest(right, len(known.test_y)).proportion_ci(method="wilson")
        row = {"network": name, "form": form, "accuracy": right / len(known.test_y)}
        row |= {"low": float(between.low), "high": float(between.high), "bytes": edge.file_bytes(path)}
        row["multiply-adds"] = edge.multiply_adds(models[name], known.test_x[:1])
        for size in BATCHES:
            found = timed(path, known.test_x[:size], repeats)
            row |= {f"ms, {size}": found.median, f"p95, {size}": found.p95}
        rows.append(row)
    return pd.DataFrame(rows)


def timed(path: Path, inputs: Tensor, repeats: int) -> edge.Timings:
    """Of one pass through a file."""
    session = edge.session(path)
    fed = {session.get_inputs()[0].name: inputs.numpy()}
    return edge.timings(lambda: session.run(None, fed), repeats=repeats)


def drawn(table: "DataFrame", costs: Mapping[str, str]) -> "Figure":
    """Accuracy over each cost, with the front through those that nobody beats."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from kdref.lab.report import style

    with style.new_figure(5.4 * len(costs), 4.6, columns=len(costs)) as (figure, axes):
        for ax, (cost, label) in zip(axes, costs.items(), strict=True):
            for place, form in enumerate(FORMS):
                for filled, kind in ((True, "teacher|distilled"), (False, "alone")):
                    rows = table[(table["form"] == form) & table["network"].str.contains(kind)]
                    if rows.empty:
                        continue
                    color, marker = style.COLORS[place], style.MARKERS[place]
                    name = form if filled else f"{form}, alone"
                    face = color if filled else "white"
                    ax.scatter(
                        rows[cost],
                        rows["accuracy"],
                        s=70,
                        color=face,
                        edgecolor=color,
                        marker=marker,
                        label=name,
                        lw=1.8,
                    )
            best = table[edge.front(table, cost=cost, gain="accuracy")].sort_values(cost)
            ax.step(best[cost], best["accuracy"], where="post", color="#555555", lw=1.5, zorder=0, label="Pareto front")
            ax.set_xscale("log")
            narrow = table[cost].max() < 5 * table[cost].min()
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if narrow else (1, 2, 5)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set(xlabel=label, ylabel="accuracy")
            style.percent_axis(ax.yaxis)
        axes[-1].legend(loc="lower right")
    return figure


def drawn_bits(means: "DataFrame", longer: "DataFrame") -> "Figure":
    """Accuracy over bytes of the arms of ``edge_quantised``: rounded networks, and narrow ones in fp32.

    Hollow: narrow ones with four times the steps, by labels; at 3 and 2 bits from ``edge_longer``.
    """
    import pandas as pd

    from kdref.lab.report import style

    lines = {f"rounded, {how}": f"{{bits}} bits | {how}" for how in ("after training", "labels", "teacher")}
    lines |= {f"narrow, {by}": f"narrow, bytes of {{bits}} bits | {by}" for by in ("labels", "teacher")}
    with style.new_figure(9, 4.4) as (figure, (ax,)):
        for place, (name, arm) in enumerate(lines.items()):
            rows = means.loc[[arm.format(bits=bits) for bits in (2, 3, 4, 8)]]
            color, marker, line = style.COLORS[place], style.MARKERS[place], "-" if "rounded" in name else "--"
            ax.plot(rows["bytes"], rows["accuracy"], color=color, marker=marker, linestyle=line, label=name)
        arms = [f"narrow, bytes of {bits} bits{{}} | labels" for bits in (2, 3, 4)]
        later = pd.concat([means, longer])["accuracy"]
        ax.scatter(
            means.loc[[arm.format("") for arm in arms], "bytes"],
            later[[arm.format(", longer") for arm in arms]],
            s=60,
            color="white",
            edgecolor=style.COLORS[3],
            marker=style.MARKERS[3],
            label="narrow, labels, four times the steps",
            zorder=3,
        )
        ax.axhline(means.loc["fp32", "accuracy"], color="#555555", linestyle=":", label="fp32, 26,920 bytes")
        ax.set(xlabel="bytes", ylabel="accuracy")
        style.percent_axis(ax.yaxis)
        ax.legend(loc="lower right")
    return figure
