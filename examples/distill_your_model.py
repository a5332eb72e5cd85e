"""Distil an image classifier on your own images: a folder of them per class, or train/ and val/ with such.

Models: torchvision's, or timm/NAME. --checkpoints FOLDER: the same command goes on after an interruption. --mixup 0.2
mixes images and labels. --stored FOLDER keeps the teacher's outputs: it runs once, on images without augmentation."""

import argparse
import copy
import importlib
import os
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module
from torch.utils.data import DataLoader, StackDataset, Subset
from torchvision import datasets, models
from torchvision.transforms import v2

from kdref import lab
from kdref.lab.training.stored import StoredOutputs
from kdref.lab.training.storing import store
from kdref.soft_targets import distillation_loss

OPTIONS = {"teacher": "resnet50", "student": "resnet18", "weights": "none", "teacher-weights": "none", "epochs": 20}
OPTIONS |= {"batch-size": 64, "soft-weight": 0.9, "temperature": 4.0, "image-size": 224, "workers": 2, "device": "auto"}
OPTIONS |= {"mixup": 0.0, "checkpoints": "none", "stored": "none"}
FLOATS = v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class Images(datasets.ImageFolder):
    """An ImageFolder that passes over what is hidden: .ipynb_checkpoints is no class, ._cat.jpg no image."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and entry.name[0] != ".")
        if len(names) < 2:
            raise ValueError(f"{directory} needs a folder of images per class, of two or more classes: found {names}")
        return names, {name: number for number, name in enumerate(names)}


def load(folder: Path, size: int, augmented: bool = True) -> tuple[Subset[object], Subset[object], int]:
    def is_image(path: str) -> bool:
        hidden = any(part[0] == "." for part in Path(path).relative_to(folder).parts)
        return datasets.folder.is_image_file(path) and not hidden

    still = [v2.Resize(size), v2.CenterCrop(size)]
    cuts = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()] if augmented else still, still
    parts = [folder / "train", folder / "val"] if (folder / "val").is_dir() else [folder] * 2
    train, val = (
        Images(p, v2.Compose([*cut, *FLOATS]), is_valid_file=is_image) for p, cut in zip(parts, cuts, strict=True)
    )
    if train.classes != val.classes:
        raise ValueError(f"train/ and val/ need the same classes: {train.classes}, {val.classes}")
    for path in dict.fromkeys(path for path, _ in train.samples + val.samples):  # now, not after hours of training
        try:
            train.loader(path)
        except Exception as error:  # there are many ways for a file to be damaged
            raise ValueError(f"{path} cannot be read: {error}") from error
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = [] if parts[0] != parts[1] else order[: max(1, len(order) // 5)]
    return Subset(train, order[len(held_out) :]), Subset(val, held_out or range(len(val))), len(train.classes)


def make(name: str, classes: int, weights: str) -> Module:
    if name.startswith("timm/"):  # pip install timm
        return importlib.import_module("timm").create_model(name[5:], pretrained=weights != "none", num_classes=classes)
    model = models.get_model(name, weights=None if weights == "none" else weights, num_classes=classes)
    for head in ("aux_logits", "aux1", "aux2", "AuxLogits"):  # googlenet and inception_v3: one head is enough
        setattr(model, head, None)
    return model


def train(model: Module, data: Any, options: Any, teacher: Module | None = None, part: str = "") -> None:
    def step(batch: Any) -> dict[str, torch.Tensor]:
        images, known = batch if isinstance(batch[1], dict) else (batch, {})
        x, y = options.mix(*(tensor.to(options.device) for tensor in images))
        weights = {"soft_weight": options.soft_weight, "temperature": options.temperature}
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type != "cpu"):
            logits = model(x)
            if teacher is None:
                return {"loss": torch.nn.functional.cross_entropy(logits, y)}
            said = known["logits"].to(options.device) if known else teacher(x)  # both see the same augmented x
            return {"loss": distillation_loss(logits, said, y, **weights)}

    torch.manual_seed(0)  # the same batches and crops in every training
    batches = DataLoader(data, min(options.batch_size, len(data)), True, drop_last=True, num_workers=options.workers)
    path = None if options.checkpoints == "none" else Path(options.checkpoints, f"{part}.pt")
    lab.fit(step, model, batches, torch.optim.AdamW(model.parameters()), epochs=options.epochs, checkpoint=path)


def read(file: str, teacher: Module, options: argparse.Namespace) -> None:
    try:
        teacher.load_state_dict(torch.load(file, options.device, weights_only=True))
    except Exception as error:
        raise ValueError(f"{file} holds no weights of {options.teacher}: {error}") from error
    if not all(tensor.isfinite().all() for tensor in teacher.state_dict().values()):
        raise ValueError(f"{file} holds weights that are not finite")


def rehearse(teacher: Module, student: Module, images: int, options: argparse.Namespace) -> None:
    """Train copies on noise for one step: what a model refuses, a size say, is found before hours of training."""
    size, short = options.image_size, copy.copy(options)
    short.epochs, short.workers, short.checkpoints = min(options.epochs, 1), min(options.workers, 0), "none"
    noise = [(torch.randn(3, size, size), number) for number in range(min(2, images))]
    for name, model in {options.teacher: teacher, options.student: student}.items():
        try:
            train(copy.deepcopy(model), noise, short, copy.deepcopy(teacher).eval().requires_grad_(False))
        except Exception as error:
            raise ValueError(f"{name} at --image-size {size} cannot be trained with these options: {error}") from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    try:
        found = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        options.device = torch.device(found if options.device == "auto" else options.device)
        if options.mixup and options.stored != "none":
            raise ValueError("--mixup makes new images, of which --stored outputs say nothing: take one of them")
        data, held_out, classes = load(options.folder, options.image_size, options.stored == "none")
        names, classes = (options.teacher, options.student), classes if options.weights == "none" else 1000
        options.mix = v2.MixUp(alpha=options.mixup, num_classes=classes) if options.mixup else v2.Identity()
        teacher, student = (make(name, classes, options.weights).to(options.device) for name in names)
        if options.teacher_weights != "none":
            read(options.teacher_weights, teacher, options)
        rehearse(teacher, student, len(data), options)
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    distilled, taught = copy.deepcopy(student), data  # the same initial weights
    if options.teacher_weights == "none":
        train(teacher, data, options, part="teacher")
    if options.stored != "none":
        store(teacher, data, options.stored, batch_size=options.batch_size, device=options.device)
        taught = StackDataset(data, StoredOutputs(options.stored, teacher=teacher, data=data))
    train(student, data, options, part="student")
    train(distilled, taught, options, teacher.eval().requires_grad_(False), part="distilled")
    loader = DataLoader(held_out, options.batch_size, num_workers=options.workers)
    print(f"{'':<18} accuracy of {len(held_out):>5}  parameters  ms per image")
    for name, model in {"teacher": teacher, "student alone": student, "student distilled": distilled}.items():
        with torch.no_grad():
            right = sum((model.eval()(x.to(options.device)).argmax(1).cpu() == y).sum().item() for x, y in loader)
        parameters, image = sum(p.numel() for p in model.parameters()), next(iter(loader))[0][:1].to(options.device)
        print(f"{name:<18} {right / len(held_out):>17.1%} {parameters:>11,} {lab.latency(model, image):>13.2f}")


if __name__ == "__main__":
    main()
