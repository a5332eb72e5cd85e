"""Distil a segmentation network: images/ and masks/ of the same names; a mask holds class numbers, 255 is ignored."""

import argparse
import copy
from pathlib import Path

import torch
from PIL import Image
from torch.nn import Module
from torch.utils.data import DataLoader, Dataset
from torchvision.models import get_model
from torchvision.transforms.v2 import functional as T

from kdref import lab
from kdref.feature import channel_wise_loss
from kdref.soft_targets import distillation_loss

OPTIONS = {"classes": 0, "teacher": "deeplabv3_resnet50", "student": "lraspp_mobilenet_v3_large", "epochs": 20}
OPTIONS |= {"batch-size": 8, "soft-weight": 0.5, "temperature": 1.0, "channel-weight": 3.0, "image-size": 256}
OPTIONS |= {"learning-rate": 1e-3, "workers": 2, "device": "auto", "random-data": 0, "output": "none"}
IGNORED = -100  # what cross_entropy and distillation_loss pass over; 255 in the files


class Pairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images with their masks, resized; a mask by its nearest pixel, since a mean of two classes is a third one."""

    def __init__(self, folder: Path, size: int) -> None:
        images = {path.stem: path for path in sorted((folder / "images").glob("[!.]*"))}
        masks = {path.stem: path for path in sorted((folder / "masks").glob("[!.]*"))}
        if not images or images.keys() != masks.keys():
            alone = sorted(images.keys() ^ masks.keys())
            raise ValueError(f"{folder} needs images/ and masks/ with the same names: these stand alone: {alone[:5]}")
        self.pairs, self.size = [(images[name], masks[name]) for name in images], size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.pairs[index][0]) as image, Image.open(self.pairs[index][1]) as mask:
            if image.size != mask.size:
                raise ValueError(f"{self.pairs[index][1]} has {mask.size} pixels, its image {image.size}")
            x, y = T.to_image(image.convert("RGB")), T.pil_to_tensor(mask)  # a palette's numbers, not its colours
        x = T.to_dtype(T.resize(x, [self.size] * 2), torch.float32, scale=True)
        y = T.resize(y, [self.size] * 2, interpolation=T.InterpolationMode.NEAREST)[0].long()
        return T.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), torch.where(y == 255, IGNORED, y)


class Noise(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random images whose upper half is class 0 and lower half class 1, to try everything before data are there."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = (torch.arange(self.size) >= self.size // 2).long()[:, None].expand(-1, self.size).clone()
        y[:, 0] = IGNORED
        return torch.randn(3, self.size, self.size, generator=torch.Generator().manual_seed(index)) + y.relu(), y


def make(name: str, classes: int) -> Module:
    """A network of torchvision with no weights, which gives logits (B, C, H, W), or a dictionary that holds them."""
    return get_model(name, weights=None, weights_backbone=None, num_classes=classes)


def logits_of(model: Module, x: torch.Tensor) -> torch.Tensor:
    found = model(x)
    return found["out"] if isinstance(found, dict) else found


def train(model: Module, data: Dataset, options: argparse.Namespace, teacher: Module | None = None) -> None:
    def step(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x, y = (tensor.to(options.device) for tensor in batch)
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type != "cpu"):
            logits = logits_of(model, x)
            if teacher is None:
                return {"loss": torch.nn.functional.cross_entropy(logits, y, ignore_index=IGNORED)}
            with torch.no_grad():
                taught = logits_of(teacher, x)
        weights = {"soft_weight": options.soft_weight, "temperature": options.temperature}
        pixels = distillation_loss(logits, taught, y, class_dim=1, **weights)  # classes are axis 1, not the last
        places = channel_wise_loss(logits, taught)  # CWD: each class's map, as a distribution over the image
        return {"loss": pixels + options.channel_weight * places, "pixels": pixels, "places": places}

    torch.manual_seed(0)  # the same batches in every training
    batches = DataLoader(data, min(options.batch_size, len(data)), True, drop_last=True, num_workers=options.workers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    lab.fit(step, model, batches, optimizer, epochs=options.epochs)


@torch.no_grad()
def mean_iou(model: Module, data: Dataset, classes: int, options: argparse.Namespace) -> float:
    """Intersection over union, the mean over the classes that the masks or the answers have; ignored pixels aside."""
    counts = torch.zeros(classes, classes, dtype=torch.int64)
    for x, y in DataLoader(data, options.batch_size, num_workers=options.workers):
        answers = logits_of(model.eval(), x.to(options.device)).argmax(1).cpu()
        kept = y != IGNORED
        counts += torch.bincount(y[kept] * classes + answers[kept], minlength=classes**2).view(classes, classes)
    union = counts.sum(0) + counts.sum(1) - counts.diag()
    return (counts.diag()[union > 0] / union[union > 0]).mean().item()


def check(data: Dataset, classes: int) -> None:
    """Look at every mask before hours of training."""
    for index in range(len(data)):
        found = data[index][1]
        if int(found.max()) >= classes or int(found.min()) < IGNORED:
            where = getattr(data, "pairs", [("", index)])[index][1]
            raise ValueError(f"{where} holds class {int(found.max())}; --classes {classes} allows 0 to {classes - 1}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    try:
        found = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        options.device = torch.device(found if options.device == "auto" else options.device)
        size, classes = options.image_size, options.classes or (2 if options.random_data else 0)
        if classes < 2:
            raise ValueError("say how many classes the masks have, at least two: --classes 21")
        data = Noise(options.random_data, size) if options.random_data else Pairs(options.folder, size)
        if len(data) < 4:
            raise ValueError(f"{len(data)} images are too few: a fifth is kept for testing")
        check(data, classes)
        teacher, student = (make(name, classes).to(options.device) for name in (options.teacher, options.student))
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    fifth = max(1, len(order) // 5)
    held_out, kept = (torch.utils.data.Subset(data, part) for part in (order[:fifth], order[fifth:]))
    distilled = copy.deepcopy(student)  # the same initial weights
    train(teacher, kept, options)
    train(student, kept, options)
    train(distilled, kept, options, teacher.eval().requires_grad_(False))
    print(f"{'':<18} mean IoU of {len(held_out):>4}  parameters")
    for name, model in {"teacher": teacher, "student alone": student, "student distilled": distilled}.items():
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name:<18} {mean_iou(model, held_out, classes, options):>16.1%} {parameters:>11,}")
    if options.output != "none":
        torch.save(distilled.state_dict(), options.output)


if __name__ == "__main__":
    main()
