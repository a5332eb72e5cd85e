"""The 5,000 images of MNIST."""

import gzip
from pathlib import Path

import torch

from kdref.lab import data

ROOT = Path(__file__).resolve().parents[3]


def test_mnist5k_is_its_file_line_by_line() -> None:
    split = data.mnist5k(seed=3)
    x = torch.cat([split.train_x, split.validation_x, split.test_x])
    y = torch.cat([split.train_y, split.validation_y, split.test_y])
    rows = torch.cat([x.flatten(1) * 255, y[:, None]], dim=1).round().to(torch.uint8).numpy()
    lines = gzip.decompress((ROOT / "data" / "mnist5k.csv.gz").read_bytes()).decode().split()
    assert sorted(map(bytes, rows)) == sorted(bytes(map(int, line.split(","))) for line in lines)


def test_the_seed_picks_the_split_and_no_class_is_rare() -> None:
    one, again, other = data.mnist5k(seed=1), data.mnist5k(seed=1), data.mnist5k(seed=2)
    assert one.train_x.equal(again.train_x)
    assert not one.train_x.equal(other.train_x)
    assert one.train_y.bincount(minlength=10).min() > 240
