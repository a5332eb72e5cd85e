"""LETTER: capital letters in twenty fonts, as sixteen whole numbers each. Source: data/README.md.

Lesson: notebooks/10_transfer_data.ipynb.
"""

import string

import numpy as np
import torch

from kdref.lab.data.files import data_file
from kdref.lab.data.sets import Split, shuffled

__all__ = ["ATTRIBUTES", "LETTERS", "NAME", "SIZES", "letter"]

NAME = "letter.npy"
SIZES = (4000, 1000, 15000)  # train, validation, test
LETTERS = string.ascii_uppercase
ATTRIBUTES = (
    "x of box",
    "y of box",
    "width",
    "height",
    "pixels",
    "mean x",
    "mean y",
    "variance of x",
    "variance of y",
    "x times y",
    "x² times y",
    "x times y²",
    "edges across",
    "edges across, with y",
    "edges up",
    "edges up, with x",
)


def letter(seed: int = 0) -> Split:
    """20,000 printed capital letters, sixteen attributes each, 26 classes: 4,000 train, 1,000 validation, 15,000 test.

    The seed picks the split, so that experiments can pair it with their other seeds.

    Args:
        seed: Any whole number from 0 to 2³² - 1.

    Returns:
        Inputs ``(N, 16)`` in [0, 1], whole numbers from 0 to 15 divided by 15; labels 0 (A) to 25 (Z).

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it.

    Example:
        >>> letter()
        letter: 4000 train, 1000 validation, 15000 test; inputs (16,), 26 classes
    """
    table = torch.from_numpy(np.load(data_file(NAME), allow_pickle=False))
    packed = table[:, :8]  # two attributes in a byte
    rows = torch.cat([torch.stack([packed >> 4, packed & 15], dim=2).flatten(1), table[:, 8:]], dim=1)
    return shuffled("letter", rows, SIZES, (16,), classes=len(LETTERS), largest=15, seed=seed)
