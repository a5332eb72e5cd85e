"""Distil a torchvision classifier on your own images: a folder of them per class, or train/ and val/ with such."""

import argparse
import copy
from pathlib import Path

import torch
from torch.nn import Module
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models
from torchvision.transforms import v2

from kdref import lab
from kdref.soft_targets import distillation_loss

OPTIONS = {"teacher": "resnet50", "student": "resnet18", "weights": "none", "teacher-weights": "none", "epochs": 20}
OPTIONS |= {"batch-size": 64, "soft-weight": 0.9, "temperature": 4.0, "image-size": 224, "workers": 2, "device": "auto"}
FLOATS = v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def load(folder: Path, size: int) -> tuple[Subset[object], Subset[object], int]:
    cuts = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()], [v2.Resize(size), v2.CenterCrop(size)]
    parts = [folder / "train", folder / "val"] if (folder / "val").is_dir() else [folder] * 2
    train, val = (datasets.ImageFolder(p, v2.Compose([*cut, *FLOATS])) for p, cut in zip(parts, cuts, strict=True))
    if len(train.classes) < 2 or train.classes != val.classes:
        raise ValueError(f"needs two or more classes, the same in train/ and val/: {train.classes}, {val.classes}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = [] if parts[0] != parts[1] else order[: max(1, len(order) // 5)]
    return Subset(train, order[len(held_out) :]), Subset(val, held_out or range(len(val))), len(train.classes)


def train(model: Module, data: Subset[object], options: argparse.Namespace, teacher: Module | None = None) -> None:
    def step(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x, y = (tensor.to(options.device) for tensor in batch)
        weights = {"soft_weight": options.soft_weight, "temperature": options.temperature}
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type != "cpu"):
            logits = model(x)
            if teacher is None:
                return {"loss": torch.nn.functional.cross_entropy(logits, y)}
            return {"loss": distillation_loss(logits, teacher(x), y, **weights)}  # both see the same augmented x

    torch.manual_seed(0)  # the same batches and crops in every training
    batches = DataLoader(data, min(options.batch_size, len(data)), True, drop_last=True, num_workers=options.workers)
    lab.fit(step, model, batches, torch.optim.AdamW(model.parameters()), epochs=options.epochs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    options = parser.parse_args(arguments)
    found = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    options.device = torch.device(found if options.device == "auto" else options.device)
    torch.manual_seed(0)
    try:
        data, held_out, classes = load(options.folder, options.image_size)
        kind = {"num_classes": classes} if options.weights == "none" else {"weights": options.weights}  # 1000 outputs
        teacher, student = (models.get_model(n, **kind).to(options.device) for n in (options.teacher, options.student))
        if options.teacher_weights != "none":
            teacher.load_state_dict(torch.load(options.teacher_weights, options.device, weights_only=True))
    except (OSError, RuntimeError, ValueError) as error:
        parser.error(str(error))
    distilled = copy.deepcopy(student)  # the same initial weights
    if options.teacher_weights == "none":
        train(teacher, data, options)
    train(student, data, options)
    train(distilled, data, options, teacher.eval().requires_grad_(False))
    loader = DataLoader(held_out, options.batch_size, num_workers=options.workers)
    print(f"{'':<18} accuracy of {len(held_out):>5}  parameters  ms per image")
    for name, model in {"teacher": teacher, "student alone": student, "student distilled": distilled}.items():
        with torch.no_grad():
            right = sum((model.eval()(x.to(options.device)).argmax(1).cpu() == y).sum().item() for x, y in loader)
        parameters, image = sum(p.numel() for p in model.parameters()), next(iter(loader))[0][:1].to(options.device)
        print(f"{name:<18} {right / len(held_out):>17.1%} {parameters:>11,} {lab.latency(model, image):>13.2f}")


if __name__ == "__main__":
    main()
