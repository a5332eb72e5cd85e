"""CIFAR-100 as tensors in memory, and its usual augmentation for a whole batch at once, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.datasets import CIFAR100

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]))


def load(folder: str, *, random_data: int = 0) -> list[Tensor]:
    """Images (N, 3, 32, 32) in bytes and labels, to learn from and to test on; random ones in the same form."""
    if random_data:
        generator = torch.Generator().manual_seed(0)
        counts = random_data, max(1, random_data // 5)
        shapes = [((n, 3, 32, 32), (n,)) for n in counts]
        return [torch.randint(256 if len(s) > 1 else 100, s, generator=generator) for pair in shapes for s in pair]
    parts = [CIFAR100(folder, train=train, download=False) for train in (True, False)]
    return [
        made for part in parts for made in (torch.from_numpy(part.data).permute(0, 3, 1, 2), torch.tensor(part.targets))
    ]


def crops(x: Tensor, generator: torch.Generator) -> Tensor:
    """The usual augmentation: four black pixels around, cut back to 32 anywhere, half of them mirrored."""
    places = torch.randint(9, (2, len(x)), generator=generator).to(x.device)
    rows, columns = (p[:, None] + torch.arange(32, device=x.device) for p in places)
    mirrored = torch.rand(len(x), generator=generator).to(x.device) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    index = torch.arange(len(x), device=x.device)[:, None, None]
    cut = F.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
    return standardised(cut)


def standardised(x: Tensor) -> Tensor:
    return (x.float() / 255 - MEAN.to(x.device)) / STD.to(x.device)
