"""Forms of a scaling law for lesson 13's runs, beside the published ones, and what it takes to examine them.

A network that knows nothing has the loss ln C, which no power law knows of. So our forms are of the odds, the loss over
its distance from chance: near chance they bend, far from it they are the usual power laws.
Lesson: notebooks/13_scaling_laws.ipynb.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

CHANCE = math.log(10)  # the loss of one who knows nothing of ten classes


class OddsLaw(NamedTuple):
    """Constants of ``odds_law``."""

    A: float
    B: float
    alpha: float
    beta: float


class TaughtOddsLaw(NamedTuple):
    """Constants of ``taught_odds_law``."""

    A: float
    B: float
    alpha: float
    beta: float
    c: float
    k: float


class PowerLaw(NamedTuple):
    """Constants of ``power_law``."""

    a: float
    alpha: float
    beta: float


class TaughtPowerLaw(NamedTuple):
    """Constants of ``taught_power_law``."""

    a: float
    alpha: float
    beta: float
    tau: float


def odds_law(n: Tensor, d: Tensor, *, law: OddsLaw) -> Tensor:
    """L / (ln C - L) = A / N^α + B / D^β."""
    return _loss(law.A / n**law.alpha + law.B / d**law.beta)


def taught_odds_law(teacher_loss: Tensor, n: Tensor, d: Tensor, *, law: TaughtOddsLaw) -> Tensor:
    """The larger of the teacher's odds and the student's own, softly; the own grow as its teacher gets better, by c."""
    teacher = teacher_loss / (CHANCE - teacher_loss)
    own = (law.A / n**law.alpha + law.B / d**law.beta) * teacher**-law.c
    return _loss((teacher**law.k + own**law.k) ** (1 / law.k))


def power_law(n: Tensor, d: Tensor, *, law: PowerLaw) -> Tensor:
    """A straight one: the logarithm of the loss is linear in those of N and D."""
    return law.a * n**-law.alpha * d**-law.beta


def taught_power_law(teacher_loss: Tensor, n: Tensor, d: Tensor, *, law: TaughtPowerLaw) -> Tensor:
    """The same, with the teacher's loss."""
    return law.a * n**-law.alpha * d**-law.beta * teacher_loss**law.tau


def amounts(runs: pd.DataFrame, *columns: str) -> list[Tensor]:
    """Columns as tensors."""
    return [torch.tensor(runs[column].to_numpy(), dtype=torch.float64) for column in columns]


def is_large(runs: pd.DataFrame) -> pd.Series:
    """The runs to hold out: of the largest network, or after the most signals."""
    return (runs["parameters"] == runs["parameters"].max()) | (runs["signals"] == runs["signals"].max())


def nearest(known: pd.DataFrame, far: pd.DataFrame, *columns: str) -> Tensor:
    """What the nearest known point reached, in the logarithms of these columns: the guess that needs no law."""
    points = known.groupby(list(columns), as_index=False)["loss"].mean()
    there = np.log(points[list(columns)].to_numpy())
    at = [((there - np.log(row)) ** 2).sum(1).argmin() for row in far[list(columns)].to_numpy()]
    return torch.tensor(points["loss"].to_numpy()[at], dtype=torch.float64)


def _loss(odds: Tensor) -> Tensor:
    return CHANCE * odds / (1 + odds)
