"""The smartwatch: ten people, seven shoulder exercises, an accelerometer and a gyroscope. Source: data/README.md.

Lesson: notebooks/07_cross_modal.ipynb.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdref.lab.data.files import data_file

__all__ = ["EXERCISES", "RATE", "STEPS", "Fold", "Recording", "Watch", "folds", "recordings", "spectrum", "watch"]

RATE = 50  # samples per second
STEPS = np.array([2.0**-12] * 3 + [2.0**-10] * 3)  # g and radians per second per unit of the embedded file
EXERCISES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "trapezius extension",
    "upright row",
)
SUBJECTS = 10
TEST, LABELLED = 2, 3  # subjects of a fold; the others are unlabelled


class Recording(NamedTuple):
    """One person doing one exercise with one arm, some twenty times."""

    samples: Tensor  # (6, L): acceleration in g along x, y, z; rotation in radians per second about x, y, z
    exercise: int
    subject: int  # 0 to 9
    right: bool


@dataclass(frozen=True, eq=False, repr=False)
class Watch:
    """Windows of all recordings, in the order of time. The tensors are yours: every call of ``watch`` makes new ones.

    Row i of every tensor belongs to the same window, so the two sensors are paired.
    """

    accelerometer: Tensor  # (N, 3, T) float32, in g
    gyroscope: Tensor  # (N, 3, T) float32, in radians per second
    y: Tensor  # (N,) int64, index into EXERCISES
    subject: Tensor  # (N,) int64, 0 to 9
    recording: Tensor  # (N,) int64, 0 to 139
    start: Tensor  # (N,) int64, first sample of the window, counted at 50 Hz

    @property
    def x(self) -> Tensor:
        """Both sensors, shape ``(N, 6, T)``, the accelerometer first."""
        return torch.cat([self.accelerometer, self.gyroscope], dim=1)

    def of(self, subjects: tuple[int, ...]) -> Tensor:
        """Indices of these subjects' windows, shape ``(n,)``, ascending.

        Raises:
            ValueError: If there is no such subject.
        """
        if unknown := set(subjects) - set(range(SUBJECTS)):
            raise ValueError(f"subjects are 0 to {SUBJECTS - 1}, got {sorted(unknown)}")
        return torch.where(torch.isin(self.subject, torch.tensor(subjects, dtype=torch.int64)))[0]

    def __repr__(self) -> str:
        """Sizes instead of values."""
        count, _, length = self.gyroscope.shape
        return f"watch: {count} windows of {length} samples; 2 sensors of 3 axes, {len(EXERCISES)} exercises"


class Fold(NamedTuple):
    """Who is used for what: disjoint groups of subjects."""

    labelled: tuple[int, ...]
    unlabelled: tuple[int, ...]
    test: tuple[int, ...]


def watch(*, seconds: float = 4.0, average: int = 2) -> Watch:
    """Windows without overlap, cut from the start of each recording; what is left at its end is not used.

    Values are in physical units, nothing is fitted to the data, so nothing can leak from one window to another.

    Args:
        seconds: Length of a window. A recording, some twenty repetitions, lasts 19 to 52 seconds.
        average: Each sample is the mean of this many of the original 50 per second: fewer samples, less to compute.

    Returns:
        The windows, ``T = seconds * 50 / average`` samples each.

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged, or a window is not a whole number of averages, or is longer than a recording.

    Example:
        >>> watch()
        watch: 1149 windows of 100 samples; 2 sensors of 3 axes, 7 exercises
    """
    width = round(seconds * RATE)
    if average < 1 or width < 1 or width % average or abs(width - seconds * RATE) > 1e-9:
        raise ValueError(f"{seconds} seconds at {RATE} per second are no whole number of averages of {average}")
    known = recordings()
    shortest = min(recording.samples.shape[1] for recording in known)
    if width > shortest:
        raise ValueError(f"{seconds} seconds are {width} samples, and the shortest recording has {shortest}")
    parts = []
    for number, recording in enumerate(known):
        count = recording.samples.shape[1] // width
        kept = recording.samples[:, : count * width].reshape(6, count, width // average, average).mean(dim=-1)
        facts = torch.tensor([recording.exercise, recording.subject, number, 0]).repeat(count, 1)
        facts[:, 3] = width * torch.arange(count)
        parts.append((kept.transpose(0, 1), facts))
    x, facts = (torch.cat(columns) for columns in zip(*parts, strict=True))
    y, subject, recording_of, start = facts.T.contiguous()
    return Watch(x[:, :3].contiguous(), x[:, 3:].contiguous(), y, subject, recording_of, start)


def spectrum(signals: Tensor, *, bins: int = 24) -> Tensor:
    r"""Mean of each axis, and the logarithms of its Fourier magnitudes: what moves how fast, without the when.

    .. math::
        \Big(\bar x,\; 1 + \tfrac12 \log(|X_k| / T + 0.01)\Big), \quad k = 1, \dots, \text{bins} - 1

    An exercise has no first moment, and a window starts anywhere in it: magnitudes ignore a circular shift in time. The
    constants bring all values near to the range from -1.5 to 1.5.

    Args:
        signals: Windows, shape ``(N, A, T)``.
        bins: Values per axis, from 2 to T/2 + 1; frequency k is k turns per window.

    Returns:
        Shape ``(N, A, bins)``.

    Raises:
        ValueError: If the windows are too short for so many bins.
    """
    length = signals.shape[-1]
    if not 2 <= bins <= length // 2 + 1:
        raise ValueError(f"windows of {length} samples have 2 to {length // 2 + 1} bins, got {bins}")
    magnitudes = torch.fft.rfft(signals)[..., 1:bins].abs() / length
    return torch.cat([signals.mean(dim=-1, keepdim=True), 1 + (magnitudes + 0.01).log() / 2], dim=-1)


def recordings() -> list[Recording]:
    """The 140 recordings: ten subjects, seven exercises, two arms.

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it.
    """
    table, samples = _file()
    lengths = table[:, 3].tolist()
    return [
        Recording(part.T.contiguous(), exercise=int(row[1]), subject=int(row[0]) - 1, right=bool(row[2]))
        for row, part in zip(table, samples.split(lengths), strict=True)
    ]


def folds(seed: int = 0) -> list[Fold]:
    """Five folds: two subjects to test on, three whose windows are labelled, five whose windows are not.

    Every subject is tested once. The seed shuffles the subjects, so it picks who is taught by whom.

    Args:
        seed: Any whole number from 0 to 2³² - 1.

    Example:
        >>> folds(0)[0]
        Fold(labelled=(4, 9, 1), unlabelled=(6, 7, 3, 0, 5), test=(2, 8))
    """
    order = [int(subject) for subject in np.random.RandomState(seed).permutation(SUBJECTS)]
    result = []
    for first in range(0, SUBJECTS, TEST):
        turned = order[first:] + order[:first]
        result.append(
            Fold(tuple(turned[TEST : TEST + LABELLED]), tuple(turned[TEST + LABELLED :]), tuple(turned[:TEST]))
        )
    return result


@functools.lru_cache(maxsize=1)
def _file() -> tuple[Tensor, Tensor]:
    """A row per recording, and all samples in physical units; read once, never handed out."""
    rows = np.load(data_file("watch.npy"), allow_pickle=False)
    count = int(rows[0, 0])
    samples = (rows[1 + count :] * STEPS).astype(np.float32)  # exact: 16 bits times a power of two
    return torch.from_numpy(rows[1 : 1 + count].astype(np.int64)), torch.from_numpy(samples)
