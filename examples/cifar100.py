"""The field's standard comparison: CIFAR-100, 240 epochs, one student by labels and one by each loss named."""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from cifar100_data import crops, load, standardised
from cifar100_losses import LOSSES, Pair, Ready
from cifar100_networks import NETWORKS, Network, make
from torch import Tensor, nn

from kdref import lab

OPTIONS = {"data": "data", "teacher": "resnet32x4", "student": "resnet8x4", "losses": "labels,kd", "epochs": 240}
OPTIONS |= {"batch-size": 64, "seed": 0, "folder": "cifar100", "random-data": 0, "device": "auto"}
PUBLISHED = {  # test accuracy, of Tian et al. 2020 (its table, five runs) and of the papers of the later losses
    ("resnet32x4", "resnet8x4"): {
        "teacher": 79.42,
        "labels": 72.50,
        "kd": 73.33,
        "hint": 73.50,
        "at": 73.44,
        "sp": 72.94,
    }
    | {
        "vid": 73.09,
        "rkd": 71.90,
        "pkt": 73.64,
        "nst": 73.30,
        "crd": 75.51,
        "dkd": 76.32,
        "dist": 76.31,
        "standardized": 76.62,
    },
    ("vgg13", "MobileNetV2"): {"labels": 64.60, "kd": 67.37, "at": 59.40, "rkd": 64.52, "crd": 69.73},
}


class Headed(nn.Module):
    """A student whose classifier is another one's (SimKD), or its own."""

    def __init__(self, student: Network, head: nn.Module | None) -> None:
        super().__init__()
        self.student, self.head = student, head

    def forward(self, x: Tensor) -> Tensor:
        seen = self.student(x)
        logits: Tensor = seen.logits if self.head is None else self.head(seen.pooled)
        return logits


def train(
    network: Network, teacher: Network | None, name: str, parts: list[Tensor], options: argparse.Namespace
) -> tuple[nn.Module, float]:
    """Train one network by one loss; with what it is tested as comes the time of an epoch in seconds."""
    x, y = parts[0].to(options.device), parts[1].to(options.device)
    if teacher is None:
        ready = Ready(lambda s, t, y, i: s.logits.new_zeros(()), 0.0)
    else:
        with torch.no_grad():
            shown = [n.eval()(standardised(x[:2])) for n in (network, teacher)]
        ready = LOSSES[name](Pair(*shown, teacher, y, options.batch_size))
    trained = nn.ModuleList([network, *ready.modules, *([] if ready.head is None else [ready.head])]).to(options.device)
    generator, epoch = torch.Generator().manual_seed(options.seed), [0]

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        images, labels, index = batch
        images = crops(images, generator)  # both see the same crops
        s = network(images)
        with torch.no_grad():
            t = s if teacher is None else teacher(images)
        term = ready.term(s, t, labels, index)
        weight = ready.weight * min(1.0, (epoch[0] + 1) / max(1, ready.warm_up))
        return {"loss": ready.labels * F.cross_entropy(s.logits, labels) + weight * term, "term": term}

    def count(finished: int) -> dict[str, float]:
        epoch[0] = finished
        return {"seconds": time.perf_counter()}

    architecture = options.teacher if teacher is None else options.student
    rate = 0.01 if architecture == "MobileNetV2" else 0.05
    weights = [p for p in trained.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=rate, momentum=0.9, weight_decay=5e-4)
    milestones = [options.epochs * k // 8 for k in (5, 6, 7)]  # 150, 180 and 210 of 240
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    batches = lab.Batches(x, y, torch.arange(len(x), device=x.device), batch_size=options.batch_size, seed=options.seed)
    start = time.perf_counter()
    rows = lab.fit(step, trained, batches, optimizer, epochs=options.epochs, scheduler=scheduler, after_epoch=count)
    return Headed(network, ready.head).to(options.device), (rows[-1]["seconds"] - start) / options.epochs


@torch.no_grad()
def accuracy(model: nn.Module, parts: list[Tensor], options: argparse.Namespace) -> float:
    answers = torch.cat([model.eval()(standardised(x.to(options.device))).argmax(1).cpu() for x in parts[2].split(500)])
    return 100 * (answers == parts[3]).double().mean().item()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    options = parser.parse_args(arguments)
    found = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    options.device = torch.device(found if options.device == "auto" else options.device)
    names = options.losses.split(",") if options.losses != "all" else list(LOSSES)
    try:
        unknown = sorted({*names} - {*LOSSES}) + sorted({options.teacher, options.student} - {*NETWORKS})
        if unknown:
            raise ValueError(f"there is no {unknown}: losses {', '.join(LOSSES)}; networks {', '.join(NETWORKS)}")
        parts = load(options.data, random_data=options.random_data)
        file = Path(options.folder) / f"{options.teacher}{'-random' * bool(options.random_data)}-{options.epochs}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        teacher = make(options.teacher, options.seed).to(options.device)
        if file.exists():
            teacher.load_state_dict(torch.load(file, options.device, weights_only=True))
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    if not file.exists():
        train(teacher, None, "labels", parts, options)
        torch.save(teacher.state_dict(), file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
    teacher.eval().requires_grad_(False)
    known = PUBLISHED.get((options.teacher, options.student), {})
    print(
        f"test accuracy after {options.epochs} epochs, seed {options.seed}; some published tables take the best epoch's"
    )
    print(f"{'loss':<22} {'here':>8} {'published':>10} {'s/epoch':>8}")
    print(f"{'teacher':<22} {accuracy(Headed(teacher, None), parts, options):>8.2f} {known.get('teacher', '-'):>10}")
    for name in names:
        student = make(options.student, options.seed).to(options.device)  # the same first weights for every loss
        model, seconds = train(student, teacher, name, parts, options)
        print(
            f"{name:<22} {accuracy(model, parts, options):>8.2f} {known.get(name, '-'):>10} {seconds:>8.1f}", flush=True
        )


if __name__ == "__main__":
    main()
