"""Trained networks that are shipped, and how to train them anew.

``python -m kdref.lab.models.checkpoints mnist5k-cnn2d-32`` trains one.

A lesson that needs a good teacher loads one here instead of training it. Processors round differently, so training
anew may give a file with another hash, as good but not the same; it is then written beside the shipped one.

Lesson: notebooks/04_attention_based.ipynb.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.__main__ import exit_with
from kdref.lab import data, models
from kdref.lab.data.files import write_whole
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure

__all__ = ["CHECKPOINTS", "TOLERANCE", "Checkpoint", "build", "load", "main", "train"]

SPLIT_SEED = 0  # one split for every checkpoint, so that it is easily remembered
TOLERANCE = 0.01  # of accuracy: five of 500 validation images


class Checkpoint(NamedTuple):
    """What a shipped network is, how it was trained, and how good it was."""

    model: str  # a name for models.make
    split: Callable[[int], data.Split]
    epochs: int
    batch_size: int
    learning_rate: float  # the first; it falls to 0 along a cosine
    validation_accuracy: float
    test_accuracy: float


CHECKPOINTS = {
    "mnist5k-cnn2d-32": Checkpoint(
        model="cnn2d-32",
        split=data.mnist5k,
        epochs=30,
        batch_size=50,
        learning_rate=1e-2,
        validation_accuracy=0.948,
        test_accuracy=0.9413,
    ),
}


def load(name: str, *, path: Path | None = None) -> tuple[nn.Sequential, data.Split]:
    """Load a shipped network, and the split of the data that it was trained on.

    Use it with this split: another seed's would have test images that the network was trained on.

    Args:
        name: A key of ``CHECKPOINTS``.
        path: Another file of the same network, one trained anew for instance, whose hash isn't compared.

    Returns:
        The network in eval mode, and the data.

    Raises:
        FileNotFoundError: If the file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it. If the file at ``path`` holds no weights of this network,
            or one that is not finite. Or if there is no such name.

    Example:
        >>> teacher, split = load("mnist5k-cnn2d-32")
        >>> teacher(split.test_x[:2]).shape
        torch.Size([2, 10])
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = _about(name)
    split = about.split(SPLIT_SEED)
    model = models.make(about.model, num_classes=split.classes, shape=split.shape, seed=0)
    file = data.data_file(f"{name}.safetensors") if path is None else path
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{file} holds no weights of {name}: {' '.join(str(error).split())}") from error
    _check_finite(model, f"{file} holds weights")
    return model.eval(), split


def train(name: str, *, epochs: int | None = None, seed: int = 0) -> nn.Sequential:
    """Train a network as the shipped one was: cross-entropy, Adam, a learning rate that falls along a cosine.

    Validation and test images are not looked at, and there is no early stopping.

    Args:
        name: A key of ``CHECKPOINTS``.
        epochs: Instead of the recipe's.
        seed: Draws the first weights and the order of the examples; 0 gave the shipped network.

    Returns:
        The network in eval mode.

    Raises:
        ValueError: If there is no such name.
    """
    about = _about(name)
    epochs = about.epochs if epochs is None else epochs
    split = about.split(SPLIT_SEED)
    model = models.make(about.model, num_classes=split.classes, shape=split.shape, seed=seed)
    batches = Batches(split.train_x, split.train_y, batch_size=about.batch_size, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=about.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(model(x), y)}

    fit(step, model, batches, optimizer, epochs=epochs, scheduler=scheduler)
    return model.eval()


def build(name: str, folder: Path) -> Path:
    """Train a network, demand that it is as good as the shipped one, and write it atomically.

    Args:
        name: A key of ``CHECKPOINTS``.
        folder: Where the file goes.

    Returns:
        The path of the file: ``NAME.safetensors`` if it is the shipped one bit by bit, else ``NAME.anew.safetensors``.

    Raises:
        ValueError: If its validation accuracy is below the recorded one by more than ``TOLERANCE``, or a weight is not
            finite; nothing is written then. Or if there is no such name.
    """
    from safetensors.torch import save

    about, model = _about(name), train(name)
    split = about.split(SPLIT_SEED)
    accuracy = measure(model, split.validation_x, split.validation_y)["accuracy"]
    if accuracy < about.validation_accuracy - TOLERANCE:
        raise ValueError(
            f"{name} was trained to a validation accuracy of {accuracy:.3f}, the shipped one has "
            f"{about.validation_accuracy:.3f}: not written. Training has changed, or there is bad luck in the rounding"
        )
    _check_finite(model, f"{name} was trained to weights")
    content = save(model.state_dict())
    shipped = hashlib.sha256(content).hexdigest() == data.FILES[f"{name}.safetensors"].sha256
    path = folder / (f"{name}.safetensors" if shipped else f"{name}.anew.safetensors")
    return write_whole(path, content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kdref.lab.models.checkpoints", description="Train shipped networks anew."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CHECKPOINTS)}; all by default")
    parser.add_argument("--to", type=Path, default=None, metavar="FOLDER", help="instead of the folder kdref reads")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in CHECKPOINTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CHECKPOINTS)}")
    for name in options.names or CHECKPOINTS:
        path = build(name, options.to or data.data_folder())
        model, split = load(name, path=path)
        parts = ((split.validation_x, split.validation_y), (split.test_x, split.test_y))
        ours, theirs = (measure(model, *part)["accuracy"] for part in parts), CHECKPOINTS[name][-2:]
        sys.stdout.write(f"{path}  {hashlib.sha256(path.read_bytes()).hexdigest()}\n")
        for part, accuracy, recorded in zip(("validation", "test"), ours, theirs, strict=True):
            sys.stdout.write(f"{part} accuracy {accuracy:.4f}, of the shipped one {recorded:.4f}\n")
        if path.name != f"{name}.safetensors":
            sys.stdout.write(f"Not bit by bit the shipped one. To use it: checkpoints.load({name!r}, path=...)\n")


def _check_finite(model: nn.Module, what: str) -> None:
    bad = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise ValueError(f"{what} that are not finite, in {', '.join(bad)}: train it anew, or take another file")


def _about(name: str) -> Checkpoint:
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint is named {name!r}: there are {sorted(CHECKPOINTS)}")
    return CHECKPOINTS[name]


if __name__ == "__main__":
    exit_with(main)
