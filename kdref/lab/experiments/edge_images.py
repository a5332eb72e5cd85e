"""Students of four sizes on mnist5k, alone and distilled from the shipped teacher, as fp32, int8 and 4-bit files.

Sizes are measured as files, accuracies as ONNX Runtime's. All learn by AdamW along a cosine, 1,000 steps;
the distilled ones by half labels, half soft targets. The split and the teacher are one; a seed draws first weights and
the order of images. Lesson: notebooks/14_edge.ipynb.
"""

import functools
import itertools
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from kdref.lab import edge
from kdref.lab.data import Split
from kdref.lab.experiments._fidelity import batches
from kdref.lab.models import checkpoints, make
from kdref.lab.training.batches import teacher_outputs
from kdref.soft_targets import distillation_loss

TEACHER, WIDTHS = "mnist5k-cnn2d-32", (4, 8, 12, 16)
STEPS, BATCH_SIZE, LEARNING_RATE = 1_000, 100, 0.03
SOFT_WEIGHT, TEMPERATURE = 0.5, 4.0
CALIBRATION = 300  # training images
SEEDS = tuple(range(8))
ARMS = ("teacher", *(f"{width} channels | {how}" for width in WIDTHS for how in ("alone", "distilled")))


@functools.lru_cache(maxsize=1)
def known() -> tuple[nn.Sequential, Split, Tensor]:
    """The teacher, its data, and what it says of the training images."""
    model, split = checkpoints.load(TEACHER)
    return model, split, teacher_outputs(model, split.train_x)


def made(arm: str, seed: int) -> nn.Sequential:
    """The network of an arm."""
    model, split, said = known()
    if arm == "teacher":
        return model
    width, how = arm.split(" channels | ")
    student = make(f"cnn2d-{width}", shape=split.shape, seed=100 + seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    weight = SOFT_WEIGHT if how == "distilled" else 0.0
    endless = batches(split.train_x, said, split.train_y, seed=seed, size=BATCH_SIZE)
    for x, targets, labels in itertools.islice(endless, STEPS):
        loss = distillation_loss(student(x), targets, labels, soft_weight=weight, temperature=TEMPERATURE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return student.eval()


def run(seed: int, arm: str) -> dict[str, float]:
    split, student = known()[1], made(arm, seed)

    def right(logits: Tensor) -> float:
        return (logits.argmax(-1) == split.test_y).double().mean().item()

    trained = (teacher_outputs(student, split.train_x).argmax(-1) == split.train_y).double().mean().item()
    found = {"training_accuracy": trained, "multiply_adds": float(edge.multiply_adds(student, split.test_x[:1]))}
    with tempfile.TemporaryDirectory() as folder:
        files = {"fp32": edge.to_onnx(student, split.train_x[:2], Path(folder) / "fp32.onnx")}
        for bits in (8, 4):
            target = Path(folder) / f"int{bits}.onnx"
            files[f"int{bits}"] = edge.quantized(files["fp32"], split.train_x[:CALIBRATION], target, bits=bits)
        for form, path in files.items():
            found["accuracy" if form == "fp32" else f"accuracy_{form}"] = right(edge.answers(path, split.test_x))
            found[f"bytes_{form}"] = float(edge.file_bytes(path))
    return found
